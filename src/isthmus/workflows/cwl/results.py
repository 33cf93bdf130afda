"""The outputs of a whole run: brought to where a person wants them, described as CWL's output object."""

import os
import shutil
from typing import Any

from isthmus.workflows.cwl import files
from isthmus.workflows.locations import location, path_of


def deliver(outputs: dict[str, Any], folder: str, *, owned: str, keep: bool = False) -> dict[str, Any]:
    """Bring the files of the outputs to ``folder``; the output object.

    ``owned``: what lies below is the run's own, and is moved instead of copied unless ``keep``.
    """
    delivery = _Delivery(folder, owned, keep)
    return {name: files.changed(value, lambda file: delivery.bring(file, folder)) for name, value in outputs.items()}


class _Delivery:
    def __init__(self, folder: str, owned: str, keep: bool) -> None:
        self._folder = folder
        self._owned = owned.rstrip("/") + "/"
        self._keep = keep
        self._done: dict[tuple[str, str], str] = {}  # (location, folder) -> where it is now
        self._taken: dict[str, int] = {}  # path -> how many wanted it

    def bring(self, file: dict[str, Any], folder: str) -> dict[str, Any]:
        source = path_of(str(file.get("location", "")))
        name = str(file.get("basename") or os.path.basename(source))
        key = (str(file.get("location") or id(file)), folder)
        if not source and file.get("location"):
            return file  # it lies elsewhere, and stays there
        target = self._done.get(key)
        if target is None:
            target = self._free(os.path.join(folder, name))
            self._done[key] = target
            self._put(file, source, target)
        found = self._described(file, target)
        if file.get("secondaryFiles"):
            found["secondaryFiles"] = [self.bring(each, os.path.dirname(target)) for each in file["secondaryFiles"]]
        return found

    def _free(self, target: str) -> str:
        """The path, or one like it that nothing of this delivery has."""
        found, number = target, self._taken.get(target, 1)
        root, extension = os.path.splitext(target)
        while found in self._taken:
            number += 1
            found = f"{root}_{number}{extension}"
        self._taken[target] = number
        self._taken.setdefault(found, 1)
        return found

    def _put(self, file: dict[str, Any], source: str, target: str) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if source:
            if os.path.abspath(source) == os.path.abspath(target):
                return
            if os.path.lexists(target) and not os.path.isdir(target):
                os.unlink(target)
            own = source.startswith(self._owned) and not self._keep and not os.path.islink(source)
            if own and not _has_links(source):
                if os.path.isdir(target):
                    shutil.rmtree(target)
                shutil.move(source, target)
            elif os.path.isdir(source):
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                copy(source, target)
        elif file["class"] == "File":
            with open(target, "w", encoding="utf-8") as stream:
                stream.write(str(file.get("contents", "")))
        else:
            os.makedirs(target, exist_ok=True)
            for each in file.get("listing") or ():
                self.bring(dict(each), target)

    def _described(self, file: dict[str, Any], path: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "class": file["class"],
            "location": location(path),
            "path": path,
            "basename": os.path.basename(path),
        }
        if file["class"] == "File":
            found["nameroot"], found["nameext"] = files.split_name(found["basename"])
            found["size"] = os.stat(path).st_size
            found["checksum"] = files.checksum(path)
            for name in ("format", "contents"):
                if file.get(name) is not None and (name == "format" or file.get("location")):
                    found[name] = file[name]
        else:
            found["listing"] = [self._entry(entry) for entry in sorted(os.scandir(path), key=lambda each: each.name)]
        return found

    def _entry(self, entry: "os.DirEntry[str]") -> dict[str, Any]:
        kind = "Directory" if entry.is_dir() else "File"
        return self._described({"class": kind}, entry.path)


def copy(source: str, target: str) -> None:
    """Copy a file's bytes; the file system shares them where it can."""
    import fcntl

    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), 0x40049409, old.fileno())  # FICLONE, linux/fs.h
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
    shutil.copymode(source, target)


def _has_links(source: str) -> bool:
    """Whether a folder has links, which would lead nowhere once it is moved."""
    if not os.path.isdir(source):
        return False
    for folder, folders, names in os.walk(source):
        if any(os.path.islink(os.path.join(folder, name)) for name in (*folders, *names)):
            return True
    return False
