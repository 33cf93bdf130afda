"""What a person gives a CWL process: a file of inputs, and values on the command line."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus import documents
from isthmus.domain.errors import Invalid, nearest
from isthmus.workflows.cwl import files, formats, loading, types, vocabulary
from isthmus.workflows.cwl.files import FileError
from isthmus.workflows.cwl.model import ArrayType, InForce, Parameter, Process
from isthmus.workflows.locations import location, location_at, path_of
from isthmus.workflows.placing import HERE, Lying

REQUIREMENTS, TOOL = "cwl:requirements", "cwl:tool"


def read(path: str) -> Any:
    """The inputs in a file, JSON or YAML. Raises Invalid."""
    if path.endswith(".json"):
        # Large lists of inputs come as JSON; its own reader is far faster, and says the line too.
        text = documents.read_text(Path(path), most_bytes=1 << 30)
        try:
            return json.loads(text)
        except ValueError:
            return documents.parse(text, path)
    return documents.read(Path(path))


def located(values: Mapping[str, Any], base: str, lying: Mapping[str, Lying] | None = None) -> dict[str, Any]:
    """The inputs with their files' locations; relative ones are beside ``base``, or where ``lying`` says so of an input
    below a folder elsewhere. Raises Invalid."""
    namespaces = values.get("$namespaces") or {}
    found = {}
    for name, value in values.items():
        if name.startswith("$") or name in (REQUIREMENTS, TOOL, "id"):
            continue
        try:
            found[name] = files.normalised(value, base)
        except FileError as error:
            raise Invalid(str(error), place=_place(values, name, base), code="cwl-inputs") from None
        if lying and name in lying:
            found[name] = _elsewhere(found[name], os.path.dirname(base), lying[name], _place(values, name, base))
        for file in files.each(found[name]):
            if namespaces and file.get("format"):
                file["format"] = formats.iri(str(file["format"]), namespaces)
            _check_there(file, _place(values, name, base))
    return found


def _elsewhere(value: Any, base: str, lying: Lying, place: str) -> Any:
    """A value whose files lie where the bindings say: by the same relative paths."""

    def moved(file: dict[str, Any]) -> dict[str, Any]:
        path = path_of(str(file.get("location", "")))
        if not path:
            return file
        inner = os.path.relpath(path, base)
        if inner.startswith(".."):
            raise Invalid(
                f"{path} can't lie below {lying.folder}: give it as a relative path.", place=place, hint=lying.place
            )
        there = os.path.join(lying.folder, inner)
        file["location"] = location(there) if lying.site == HERE else location_at(lying.site, there)
        return file

    return files.changed(value, lambda file: files.deep(file, moved))


def _place(values: Any, name: str, base: str) -> str:
    return documents.place_of(values, name) or base


def _check_there(file: Mapping[str, Any], place: str) -> None:
    path = path_of(str(file.get("location", "")))
    if path and not os.path.exists(path):
        name = os.path.basename(path)
        try:
            hint = nearest(name, os.listdir(os.path.dirname(path)))
        except OSError:
            hint = f"There is no folder {os.path.dirname(path)} either."
        raise Invalid(f"There is no {path}.", place=place, hint=hint if hint.startswith(("Did", "There is no")) else "")
    if path and os.path.isdir(path) != (file["class"] == "Directory"):
        raise Invalid(f"{path} is {'a folder' if os.path.isdir(path) else 'no folder'}.", place=place)
    for inner in file.get("secondaryFiles") or ():
        _check_there(inner, place)


def requirements(values: Mapping[str, Any], file: str) -> InForce | None:
    """The requirements that the inputs bring with them."""
    written = values.get(REQUIREMENTS)
    if not written:
        return None
    entries = written if isinstance(written, list) else [{"class": name, **each} for name, each in written.items()]
    found = {}
    for each in entries:
        name = str(each.get("class"))
        if name not in vocabulary.REQUIREMENTS:
            raise Invalid(
                f"There is no requirement {name!r} here.", place=file, hint=nearest(name, vocabulary.REQUIREMENTS)
            )
        found[name] = each
    return InForce(found)


def unknown(values: Mapping[str, Any], process: Process) -> list[str]:
    """What was given that is no input, each with the nearest right word."""
    told = []
    for name in values:
        if name not in process.inputs:
            told.append(f"There is no input {name!r}. {nearest(name, process.inputs)}".strip())
    return told


def from_words(words: Sequence[str], process: Process) -> dict[str, Any]:
    """Inputs from ``--name value`` on a command line. Raises Invalid."""
    found: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise Invalid(f"{word!r} is no input: they are given as --NAME VALUE.", place="the command line")
        name, equals, value = word[2:].partition("=")
        if name not in process.inputs:
            raise Invalid(f"There is no input {name!r}.", place="the command line", hint=nearest(name, process.inputs))
        parameter = process.inputs[name]
        if not equals:
            if _is(parameter, "boolean"):
                found[name] = True
                continue
            if not waiting:
                raise Invalid(f"--{name} needs a value.", place="the command line")
            value = waiting.pop(0)
        given = _value(parameter, value)
        if isinstance(given, list):
            found.setdefault(name, []).extend(given)
        else:
            found[name] = given
    return located(found, os.path.join(os.getcwd(), "-"))


def _is(parameter: Parameter, kind: str) -> bool:
    return kind in types.options(parameter.type)


def _value(parameter: Parameter, text: str) -> Any:
    for kind in types.options(parameter.type):
        if isinstance(kind, ArrayType):
            inner = Parameter(name=parameter.name, type=kind.items)
            return [_value(inner, text)]
        if kind in ("File", "Directory"):
            return {"class": kind, "location": text if loading.is_url(text) else os.path.abspath(text)}
        if kind in types.NUMBERS:
            try:
                return int(text) if kind in ("int", "long") else float(text)
            except ValueError:
                continue
        if kind == "boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind == "string" or (not isinstance(kind, str) and types.matches(kind, text)):
            return text
    raise Invalid(
        f"{text!r} is not {types.told(parameter.type)}, which --{parameter.name} must be.", place="the command line"
    )
