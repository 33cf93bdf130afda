"""Documents by address: fetched once, with what they import put in place, and processes found in them by name.

An address is an absolute path or an http(s) URL, with ``#name`` for one of several processes in a file.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from isthmus import documents
from isthmus.documents import Map, Seq, place_of
from isthmus.domain.errors import Invalid, nearest

MOST_BYTES = 64 << 20


def is_url(address: str) -> bool:
    """Whether it is an address on the network."""
    return address.startswith(("http://", "https://"))


def resolve(base: str, reference: str) -> str:
    """What a reference in the file ``base`` means: an absolute path or URL, with its fragment."""
    if is_url(reference):
        return reference
    if reference.startswith("file://"):
        parts = urlsplit(reference)
        return unquote(parts.path) + (f"#{parts.fragment}" if parts.fragment else "")
    path, hash_, fragment = reference.partition("#")
    if not path:
        return base.partition("#")[0] + hash_ + fragment
    if is_url(base):
        return urljoin(base, path) + hash_ + fragment
    return os.path.normpath(os.path.join(os.path.dirname(base), path)) + hash_ + fragment


class Library:
    """The documents of one run. ``within``: the folder in which all of them must lie; "": anywhere."""

    def __init__(self, within: str = "") -> None:
        self._within = within
        self._files: dict[str, Any] = {}
        self._texts: set[str] = set()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that was read so far."""
        return tuple(sorted({*self._files, *self._texts}))

    def document(self, file: str, place: str = "") -> Any:
        """The document in a file, its imports in place. Raises Invalid."""
        if file not in self._files:
            refuse_outside(file, self._within, place)
            text = text_of(file, place)
            self._files[file] = Map()  # a circle of imports ends here
            self._files[file] = self._expand(documents.parse(text, file), file)
        return self._files[file]

    def process(self, address: str, place: str = "") -> Map:
        """The process at an address, as it is written. Raises Invalid."""
        file, _, fragment = address.partition("#")
        document = self.document(file, place)
        if not isinstance(document, Map):
            raise Invalid("This file holds no CWL process.", place=f"{file}:1")
        graph = document.get("$graph")
        if graph is None:
            if fragment and fragment not in (short(str(document.get("id", fragment))), fragment):
                raise Invalid(f"There is no {fragment!r} in {file}.", place=place)
            return document
        entries = graph if isinstance(graph, list) else [graph]
        found = {}
        for entry in entries:
            if isinstance(entry, Map):
                entry.setdefault("cwlVersion", document.get("cwlVersion"))
                for name in ("$namespaces", "$schemas"):
                    if name in document:
                        entry.setdefault(name, document[name])
                found[str(entry.get("id", "")).rpartition("#")[2]] = entry
        if not fragment:
            if len(found) == 1:
                return next(iter(found.values()))
            fragment = "main"
        if fragment not in found:
            raise Invalid(
                f"There is no process {fragment!r} among those of {file}.", place=place, hint=nearest(fragment, found)
            )
        return found[fragment]

    def _expand(self, node: Any, file: str) -> Any:
        """The node with its ``$import``, ``$include`` and ``$mixin`` put in place."""
        if isinstance(node, Seq):
            for index, child in enumerate(node):
                if isinstance(child, Map | Seq):
                    node[index] = self._expand(child, file)
        elif isinstance(node, Map):
            if len(node) == 1 and "$import" in node:
                return self._import(node, "$import", file)
            if len(node) == 1 and "$include" in node:
                address = resolve(file, str(node["$include"]))
                refuse_outside(address, self._within, place_of(node, "$include"))
                self._texts.add(address)
                return text_of(address, place_of(node, "$include"))
            if "$mixin" in node:
                mixed = self._import(node, "$mixin", file)
                for name, value in mixed.items():
                    if name not in node:
                        node[name] = value
                        node.lines[name] = mixed.lines.get(name, node.line)
                del node["$mixin"]
            for name, child in node.items():
                if isinstance(child, Map | Seq):
                    node[name] = self._expand(child, file)
        return node

    def _import(self, node: Map, how: str, file: str) -> Any:
        address = resolve(file, str(node[how]))
        target, _, fragment = address.partition("#")
        found = self.document(target, place_of(node, how))
        if not fragment:
            return found
        entries = found if isinstance(found, list) else found.get("$graph", [found])
        for entry in entries:
            if isinstance(entry, Map) and fragment in (
                str(entry.get("id", "")).rpartition("#")[2],
                str(entry.get("name", "")).rpartition("#")[2],
            ):
                return entry
        raise Invalid(f"There is no {fragment!r} in {target}.", place=place_of(node, how))


def short(identifier: str) -> str:
    """The last part of an identifier: ``#main/step/out`` is ``out``."""
    return identifier.rpartition("#")[2].rpartition("/")[2]


def refuse_outside(file: str, within: str, place: str = "") -> None:
    """Raise Invalid for a file that is not within a folder (""; anywhere), whether or not there is one."""
    if within and (is_url(file) or not os.path.normpath(file).startswith(os.path.join(within, ""))):
        raise Invalid(f"{file} is not among the files that were given.", place=place, code="outside")


def text_of(file: str, place: str = "") -> str:
    """The text at an address. Raises Invalid."""
    if is_url(file):
        from urllib.error import URLError
        from urllib.request import urlopen

        try:
            with urlopen(file, timeout=60) as answer:
                data: bytes = answer.read(MOST_BYTES)
            return data.decode("utf-8")
        except (URLError, OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{file} can't be fetched: {error}.", place=place) from None
    try:
        return documents.read_text(Path(file))
    except Invalid as error:
        if not place:
            raise
        raise Invalid(f"{error.message.rstrip('.')}: {file}.", place=place, hint=error.hint) from None
