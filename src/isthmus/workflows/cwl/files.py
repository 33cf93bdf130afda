"""File and Directory values: normalised, described, listed, found on this machine.

Between steps a file is a mapping with ``class``, ``location`` (see `isthmus.workflows.locations`; none for one that is
only ``contents``) and ``basename``. ``path`` and what is derived from it are put in for one tool at a time.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from isthmus.workflows.cwl import loading
from isthmus.workflows.locations import is_far, location, path_of

CONTENTS_BYTES = 64 << 10
PIECE = 1 << 20


class FileError(Exception):
    """A file is not there or not as it must be. The message is for people."""


def is_file(value: Any) -> bool:
    """Whether it is a File or Directory."""
    return isinstance(value, Mapping) and value.get("class") in ("File", "Directory")


def each(value: Any) -> Iterator[dict[str, Any]]:
    """The Files and Directories in a value, outermost only."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            yield value  # type: ignore[misc]
        else:
            for inner in value.values():
                yield from each(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from each(inner)


def changed(value: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """The value with every outermost File and Directory replaced by what ``change`` makes of a copy."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            return change(dict(value))
        return {key: changed(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [changed(inner, change) for inner in value]
    return value


def deep(file: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A file changed, and after it those that belong to it: secondary files and a listing's entries."""
    found = change(dict(file))
    for name in ("secondaryFiles", "listing"):
        if found.get(name):
            found[name] = [deep(inner, change) for inner in found[name]]
    return found


def normalised(value: Any, base: str) -> Any:
    """The value with its Files and Directories as they are kept between steps. ``base``: a file beside which relative
    paths are meant. Raises FileError."""
    return changed(value, lambda file: deep(file, lambda one: _normal(one, base)))


def _normal(file: dict[str, Any], base: str) -> dict[str, Any]:
    where = file.pop("location", None) or file.pop("path", None)
    file.pop("path", None)
    for name in ("dirname", "nameroot", "nameext"):
        file.pop(name, None)
    if where is None:
        if file["class"] == "File" and not isinstance(file.get("contents"), str):
            raise FileError("A File has neither a `location` (or `path`) nor `contents`.")
        if file["class"] == "Directory" and not isinstance(file.get("listing"), list):
            raise FileError("A Directory has neither a `location` (or `path`) nor a `listing`.")
        file.setdefault("basename", uuid.uuid4().hex)
        return file
    where = str(where)
    if is_far(where) or where.startswith("_:") or loading.is_url(where):
        file["location"] = where
    elif where.startswith(("file://", "/")):
        file["location"] = location(os.path.normpath(path_of(where)))
    elif ":" in where.partition("/")[0] and not os.path.exists(os.path.join(os.path.dirname(base), where)):
        raise FileError(f"{where}: locations of this kind can't be read here; file, http and https can.")
    else:
        found = loading.resolve(base, where)
        file["location"] = found if loading.is_url(found) else location(unquote(found) if "%" in found else found)
    file.setdefault("basename", basename(file["location"]))
    return file


def basename(place: str) -> str:
    """The name that a location ends in."""
    path = path_of(place) or unquote(urlsplit(place).path if "://" in place else place)
    return os.path.basename(path.rstrip("/"))


def split_name(name: str) -> tuple[str, str]:
    """``(nameroot, nameext)`` of a basename; a leading dot begins no extension."""
    root, dot, rest = name.rpartition(".")
    return (root, dot + rest) if root.strip(".") else (name, "")


def with_path(file: dict[str, Any], path: str) -> dict[str, Any]:
    """The file as a tool sees it at ``path``."""
    file["path"] = path
    file["basename"] = os.path.basename(path.rstrip("/"))
    if file["class"] == "File":
        file["dirname"] = os.path.dirname(path)
        file["nameroot"], file["nameext"] = split_name(file["basename"])
    return file


def listed(path: str, *, deeply: bool) -> list[dict[str, Any]]:
    """The entries of a folder of this machine, by name. Raises FileError."""
    found: list[dict[str, Any]] = []
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise FileError(f"The folder {path} can't be listed: {error.strerror}.") from None
    for entry in entries:
        if entry.is_dir():
            one: dict[str, Any] = {"class": "Directory", "location": location(entry.path), "basename": entry.name}
            if deeply:
                one["listing"] = listed(entry.path, deeply=True)
        else:
            one = {"class": "File", "location": location(entry.path), "basename": entry.name}
            if entry.is_file():
                one["size"] = entry.stat().st_size
        found.append(one)
    return found


def with_listing(file: dict[str, Any], how: str) -> dict[str, Any]:
    """A Directory with as much of its listing as ``how`` asks for."""
    if file["class"] != "Directory" or how not in ("shallow_listing", "deep_listing"):
        return file
    deeply = how == "deep_listing"
    if file.get("listing") is not None:
        if deeply:
            file["listing"] = [with_listing(dict(inner), how) for inner in file["listing"]]
        return file
    path = path_of(file.get("location", ""))
    if path:
        file["listing"] = listed(path, deeply=deeply)
    return file


def contents(path: str, *, whole: bool = False) -> str:
    """A file's text, for ``loadContents``. Raises FileError above 64 KiB, unless it is wanted ``whole``."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(-1 if whole else CONTENTS_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}.") from None
    if len(data) > CONTENTS_BYTES and not whole:
        raise FileError(f"{path} has more than 64 KiB, so loadContents can't load it.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text: byte {error.start}.") from None


def checksum(path: str) -> str:
    """``sha1$…`` of a file, as CWL writes it."""
    known = hashlib.sha1(usedforsecurity=False)
    with open(path, "rb", buffering=0) as stream:
        while piece := stream.read(PIECE):
            known.update(piece)
    return f"sha1${known.hexdigest()}"


def secondary_name(name: str, pattern: str) -> str:
    """The basename of a secondary file by a pattern: each ``^`` takes one extension away."""
    while pattern.startswith("^"):
        pattern = pattern[1:]
        root, dot, _ = name.rpartition(".")
        name = root if dot else name
    return name + pattern


def sibling(file: Mapping[str, Any], name: str, kind: str = "") -> dict[str, Any]:
    """The file of another name beside a file."""
    head, slash, _ = str(file["location"]).rpartition("/")
    return {"class": kind or "File", "location": head + slash + quote(name), "basename": name}


def exists(place: str) -> bool:
    """Whether something lies at a location of this machine. Others are believed."""
    path = path_of(place)
    return not path or os.path.exists(path)
