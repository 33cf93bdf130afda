"""What a command left: in a work folder of this machine, or at a site."""

import fnmatch
import glob
import os
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.workflows.cwl import files
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.locations import location, path_of
from isthmus.workflows.work import Left, LeftEntry


class LocalTree:
    """The folder ``root``. ``origins`` gives the locations of inputs by the real paths that links in it may lead to."""

    def __init__(self, root: str, origins: Callable[[], Mapping[str, str]]) -> None:
        self._root = root
        self._find_origins = origins
        self._known: Mapping[str, str] | None = None

    def glob(self, pattern: str) -> list[dict[str, Any]]:
        """See Tree. The order is that of the POSIX locale."""
        if not glob.has_magic(pattern):
            found = self.at(pattern)
            return [found] if found is not None else []
        paths = glob.glob(pattern, root_dir=self._root, include_hidden=pattern.rpartition("/")[2].startswith("."))
        described = [self.at(path) for path in sorted(paths)]
        return [each for each in described if each is not None]

    def at(self, path: str) -> dict[str, Any] | None:
        """See Tree."""
        full = os.path.normpath(os.path.join(self._root, path))
        if not os.path.lexists(full):
            return None
        place = self._place(full)
        name = os.path.basename(full)
        real = path_of(place)
        if os.path.isdir(real):
            return {"class": "Directory", "location": place, "basename": name, "_inside": path}
        if not os.path.exists(real):
            raise FileError(f"The output {path!r} is a link to {os.readlink(full)}, where nothing is.")
        return {
            "class": "File",
            "location": place,
            "basename": name,
            "size": os.stat(real).st_size,
            "_inside": path,
        }

    def _place(self, full: str) -> str:
        """Where the content really is: links to inputs mean those."""
        if not os.path.islink(full) and "/" not in os.path.relpath(full, self._root):
            return location(full)
        real = os.path.realpath(full)
        if self._known is None:
            self._known = self._find_origins()
        if real in self._known:
            return self._known[real]
        for folder, place in self._known.items():
            if real.startswith(folder + "/"):
                return place + real[len(folder) :]
        if (real + "/").startswith(os.path.realpath(self._root) + "/"):
            return location(real)
        raise FileError(f"The output {os.path.basename(full)!r} is a link to {real}, outside of the work folder.")

    def text(self, file: Mapping[str, Any], *, whole: bool = False) -> str:
        """See Tree."""
        return files.contents(path_of(str(file["location"])), whole=whole)

    def listing(self, file: Mapping[str, Any], *, deeply: bool) -> list[dict[str, Any]]:
        """See Tree."""
        return files.listed(path_of(str(file["location"])), deeply=deeply)


class SiteTree:
    """The outputs of a job. What it did not declare is not known; folders are known as wholes."""

    def __init__(self, left: Left) -> None:
        self._entries = {entry.path: entry for entry in left.entries}
        self._texts = left.texts

    def glob(self, pattern: str) -> list[dict[str, Any]]:
        """See Tree."""
        if not glob.has_magic(pattern):
            found = self.at(pattern)
            return [found] if found is not None else []
        depth = pattern.count("/")
        paths = [path for path in self._entries if path.count("/") == depth and fnmatch.fnmatchcase(path, pattern)]
        return [self._file(self._entries[path]) for path in sorted(paths)]

    def at(self, path: str) -> dict[str, Any] | None:
        """See Tree."""
        found = self._entries.get(os.path.normpath(path))
        return None if found is None else self._file(found)

    def _file(self, entry: LeftEntry) -> dict[str, Any]:
        found: dict[str, Any] = {
            "class": "Directory" if entry.is_folder else "File",
            "location": entry.location,
            "basename": os.path.basename(entry.path),
            "_inside": entry.path,
        }
        if not entry.is_folder:
            found["size"] = entry.size
        return found

    def text(self, file: Mapping[str, Any], *, whole: bool = False) -> str:
        """See Tree."""
        found = self._texts.get(str(file.get("_inside")))
        if found is None:
            raise FileError(f"The text of {file.get('basename')} is at the site, and was not brought here.")
        return found

    def listing(self, file: Mapping[str, Any], *, deeply: bool) -> list[dict[str, Any]]:
        """See Tree. Hidden files are not among them."""
        folder = str(file.get("_inside")) + "/"
        found = []
        for path, entry in sorted(self._entries.items()):
            if path.startswith(folder) and "/" not in path[len(folder) :]:
                one = self._file(entry)
                if entry.is_folder and deeply:
                    one["listing"] = self.listing(one, deeply=True)
                found.append(one)
        return found
