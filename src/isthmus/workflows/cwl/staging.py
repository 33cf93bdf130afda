"""Which path a tool sees each of its files at, and what must lie where before it starts."""

import json
import os
from collections.abc import Mapping
from typing import Any

from isthmus.workflows.cwl import files, loading
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.locations import location, path_of
from isthmus.workflows.work import Folders, Placed, StepFailed


class Stage:
    """The files of one step run. ``placed`` is what must be put in place; ``seen`` the locations by path."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.placed: list[Placed] = []
        self.seen: dict[str, str] = {}  # path as the tool sees it -> location
        self.read: set[str] = set()  # paths of this machine that are read where they lie
        self._known: dict[str, str] = {}
        self._count = 0
        self._base = ""

    def inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with every file's path as the tool sees it."""
        return {name: files.changed(value, self._file) for name, value in inputs.items()}

    def _file(self, file: dict[str, Any]) -> dict[str, Any]:
        key = self._key(file)
        folder = self._known.get(key)
        if folder is None:
            folder = self._own_folder(file)
            if not folder:
                self._count += 1
                folder = f"{self.folders.inputs}/{self._count}"
                self._place(file, folder, set())
            self._known[key] = folder
        return self._with_paths(file, folder)

    def _key(self, file: Mapping[str, Any]) -> str:
        parts = [str(file.get("location") or id(file)), str(file.get("basename"))]
        parts += [self._key(each) for each in file.get("secondaryFiles") or ()]
        return "\n".join(parts)

    def _own_folder(self, file: Mapping[str, Any]) -> str:
        """The folder in which the file, and all that belongs to it, lies under its own name; "" if there is none."""
        if not self.folders.own_paths:
            return ""
        path = path_of(str(file.get("location", "")))
        folder = os.path.dirname(path)
        if not path or not self._in_place(file, folder):
            return ""
        return folder

    def _in_place(self, file: Mapping[str, Any], folder: str) -> bool:
        path = path_of(str(file.get("location", "")))
        if not path or path != f"{folder}/{file.get('basename')}".replace("//", "/"):
            return False
        if not all(self._in_place(each, folder) for each in file.get("secondaryFiles") or ()):
            return False
        return file["class"] == "File" or all(self._in_place(each, path) for each in file.get("listing") or ())

    def _with_paths(self, file: dict[str, Any], folder: str) -> dict[str, Any]:
        found = files.with_path(dict(file), f"{folder}/{file['basename']}".replace("//", "/"))
        self.seen[found["path"]] = str(found.get("location") or location(found["path"]))
        if self.folders.own_paths and path_of(str(found.get("location", ""))) == found["path"]:
            self.read.add(found["path"])
        if not found.get("location"):
            found["location"] = location(found["path"])
        if found.get("secondaryFiles"):
            found["secondaryFiles"] = [self._with_paths(each, folder) for each in found["secondaryFiles"]]
        if found.get("listing"):
            found["listing"] = [self._with_paths(each, found["path"]) for each in found["listing"]]
        return found

    def _place(self, file: Mapping[str, Any], folder: str, taken: set[str], *, writable: bool = False) -> None:
        """Have a file, and what belongs to it, lie in a folder."""
        name = str(file["basename"])
        target = f"{folder}/{name}"
        if target in taken:
            return
        taken.add(target)
        where = file.get("location")
        if where and not str(where).startswith("_:"):
            self.placed.append(
                Placed(target=target, location=str(where), writable=writable, folder=file["class"] == "Directory")
            )
        elif file["class"] == "File":
            self.placed.append(Placed(target=target, text=str(file.get("contents", "")), writable=writable))
        else:
            self.placed.append(Placed(target=target, folder=True))
            for each in file.get("listing") or ():
                self._place(each, target, taken, writable=writable)
        for each in file.get("secondaryFiles") or ():
            self._place(each, folder, taken, writable=writable)

    # ---- InitialWorkDirRequirement

    def initial(self, context: Context, listing: Any, *, in_place: bool, in_container: bool) -> None:
        """Put what the requirement lists into the work folder; inputs among it are then seen there.

        Raises StepFailed.
        """
        self._base = context.process.file
        entries: list[tuple[Any, str, bool]] = []
        if isinstance(listing, str):
            found = context.value(listing)
            if not isinstance(found, list):
                raise StepFailed(f"The listing of InitialWorkDirRequirement must be a list, but it is {found!r}.")
            for each in found:
                entries += self._evaluated(context, each)
        else:
            for each in listing or ():
                entries += self._entry(context, each)
        moved: dict[str, str] = {}
        for what, name, writable in entries:
            self._into_work(what, name, writable, in_place, in_container, moved)
        if moved:
            context.inputs = {
                name: files.changed(value, lambda file: _moved(file, moved)) for name, value in context.inputs.items()
            }
            for path, place in moved.items():
                self.seen[place] = self.seen.get(path, location(path))

    def _entry(self, context: Context, entry: Any) -> list[tuple[Any, str, bool]]:
        if isinstance(entry, str):
            return self._evaluated(context, context.value(entry))
        if entry is None:
            return []
        if isinstance(entry, Mapping) and "entry" in entry:
            return self._dirent(context, entry)
        if files.is_file(entry):
            try:
                entry = files.normalised(entry, getattr(entry, "file", "") or context.process.file)
            except FileError as error:
                raise StepFailed(f"InitialWorkDirRequirement: {error}") from None
        return self._evaluated(context, entry)

    def _evaluated(self, context: Context, value: Any) -> list[tuple[Any, str, bool]]:
        """What an expression gave: Files, Directories, Dirents, lists of them."""
        if value is None:
            return []
        if isinstance(value, list):
            return [each for inner in value for each in self._evaluated(context, inner)]
        if files.is_file(value):
            return [(value, "", bool(value.get("writable", False)))]
        if isinstance(value, Mapping) and "entry" in value:
            return self._dirent(context, value)
        raise StepFailed(f"InitialWorkDirRequirement lists {value!r}, which is no File, Directory or Dirent.")

    def _dirent(self, context: Context, dirent: Mapping[str, Any]) -> list[tuple[Any, str, bool]]:
        name = context.value(dirent.get("entryname") or "")
        writable = bool(dirent.get("writable", False))
        value = context.value(dirent["entry"], strip=False)
        if not isinstance(name, str):
            raise StepFailed(f"An entryname must be a string, but {dirent.get('entryname')!r} is {name!r}.")
        if value is None:
            return []
        if files.is_file(value):
            return [(value, name, writable)]
        if isinstance(value, list) and value and all(files.is_file(each) for each in value):
            if dirent.get("entryname") is not None and name:
                if context.process.version >= "v1.2" and len(value) > 1:
                    raise StepFailed(f"{len(value)} files can't all have the entryname {name!r}.")
                return [(each, name, writable) for each in value]
            return [(each, "", writable) for each in value]
        if isinstance(value, list) and not value and context.process.version >= "v1.2" and not name:
            return []
        if not name:
            raise StepFailed("A text in InitialWorkDirRequirement needs an entryname.")
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        return [({"class": "File", "basename": os.path.basename(name), "contents": text}, name, writable)]

    def _into_work(
        self,
        what: Mapping[str, Any],
        name: str,
        writable: bool,
        in_place: bool,
        in_container: bool,
        moved: dict[str, str],
    ) -> None:
        name = name or str(what.get("basename") or files.basename(str(what.get("location", ""))))
        if name.startswith("/"):
            if not in_container:
                raise StepFailed(
                    f"The entryname {name!r} is an absolute path: that needs DockerRequirement among the requirements."
                )
            target = os.path.normpath(name)
        else:
            target = os.path.normpath(f"{self.folders.work}/{name}")
            if not target.startswith(self.folders.work + "/"):
                raise StepFailed(f"The entryname {name!r} leads out of the work folder.")
        try:
            file = files.deep(dict(what), self._located)
        except FileError as error:
            raise StepFailed(f"InitialWorkDirRequirement: {error}") from None
        file["basename"] = os.path.basename(target)
        before = len(self.placed)
        self._place(file, os.path.dirname(target), set(), writable=writable)
        if writable and in_place:
            self.placed[before:] = [
                Placed(target=each.target, location=each.location, text=each.text, in_place=True, folder=each.folder)
                for each in self.placed[before:]
            ]
        if what.get("path"):
            moved[str(what["path"])] = target
            for each in what.get("secondaryFiles") or ():
                moved[str(each["path"])] = f"{os.path.dirname(target)}/{each['basename']}"

    def _located(self, file: dict[str, Any]) -> dict[str, Any]:
        """A file of the listing with the location that its path stands for."""
        path = file.get("path")
        if path and path in self.seen:
            file["location"] = self.seen[path]
        elif path and not file.get("location"):
            file["location"] = location(str(path))
        if file.get("contents") is not None and file.get("location") and not path:
            file.pop("location", None)
        if file.get("location") and ":" not in file["location"] and not file["location"].startswith("/"):
            file["location"] = location(loading.resolve(self._base, file["location"]))
        if not file.get("basename"):
            file["basename"] = files.basename(str(file.get("location", ""))) or "file"
        if not file.get("location") and file["class"] == "File" and file.get("contents") is None:
            raise FileError("a File has neither a location nor contents.")
        return file


def _moved(file: dict[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    def one(each: dict[str, Any]) -> dict[str, Any]:
        target = moved.get(str(each.get("path", "")))
        return files.with_path(each, target) if target else each

    return files.deep(file, one)
