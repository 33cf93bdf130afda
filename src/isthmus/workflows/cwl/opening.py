"""From what a person names to a program and its inputs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from isthmus.domain.errors import Invalid, nearest
from isthmus.workflows.cwl import files, loading, orders, reading
from isthmus.workflows.cwl import inputs as inputs_of
from isthmus.workflows.cwl.loading import Library
from isthmus.workflows.cwl.model import InForce, Process, Workflow, processes
from isthmus.workflows.cwl.translation import CwlProgram
from isthmus.workflows.dataflow.graph import MISSING
from isthmus.workflows.locations import is_far, path_of
from isthmus.workflows.placing import Bindings
from isthmus.workflows.work import StepFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A program with what it was given. ``strange``: what was given and is no input."""

    program: CwlProgram
    address: str
    given: dict[str, Any]
    requirements: Any
    strange: tuple[str, ...]
    documents: tuple[str, ...]


def opened(
    process: str,
    inputs: str = "",
    words: Sequence[str] = (),
    *,
    basedir: str = "",
    bindings: Bindings | None = None,
    within: str = "",
) -> Opened:
    """Read a process and its inputs: a file of them, and ``--name value`` words over it. Raises Invalid.

    ``bindings`` are checked; they may say that an input's files lie elsewhere. ``within``: a folder with all that
    somebody else gave. Nothing outside it is read or even looked for.
    """
    values: Any = {}
    if inputs:
        inputs = os.path.abspath(inputs)
        values = orders.read(inputs) or {}
    elif _is_order(process):
        inputs = os.path.abspath(process)
        values = orders.read(inputs)
        process = os.path.join(os.path.dirname(inputs), str(values[orders.TOOL]))
    if not isinstance(values, dict):
        raise Invalid("The inputs are no names and values.", place=inputs)
    where = address(process)
    library = Library(within)
    read = reading.read(where, library)
    base = os.path.join(os.path.abspath(basedir), "-") if basedir else inputs or os.path.join(os.getcwd(), "-")
    if within:
        _refuse_outside(values, read, base, within)
    program = CwlProgram(read, extra=orders.requirements(values, inputs))
    if bindings is not None:
        bindings.check(program.graph)
    given = orders.located(values, base, bindings.lying(program.graph) if bindings is not None else {})
    if words:
        given.update(orders.from_words(words, read))
    strange = tuple(orders.unknown(given, read))
    brought = values.get(orders.REQUIREMENTS)
    return Opened(
        program=program,
        address=where,
        given=given,
        requirements=brought,
        strange=strange,
        documents=(*library.files, *_defaults(read)),
    )


def check_types(opened: Opened) -> None:
    """Raise Invalid for inputs that are missing or of another type; no expression is evaluated for that."""
    process = opened.program.process
    others = [each for each in opened.given if each not in process.inputs]
    for name, parameter in process.inputs.items():
        value = opened.given.get(name)
        if value is None and parameter.default is not MISSING:
            continue
        try:
            inputs_of.check(parameter, value, nearest(name, others))
        except StepFailed as error:
            raise Invalid(error.message, place=f"inputs.{name}", code="cwl-inputs") from None


def _refuse_outside(values: dict[str, Any], process: Process, base: str, within: str) -> None:
    """Raise Invalid where inputs, defaults or ontologies are files outside."""
    for name, value in values.items():
        _refuse_files(value, base, within, f"inputs.{name}")
    for one in processes(process):
        for schema in one.schemas:
            loading.refuse_outside(schema, within, one.place)
        for parameter in one.inputs.values():
            _refuse_files(parameter.default, one.file, within, parameter.place or one.place)
        if isinstance(one, Workflow):
            for step in one.steps.values():
                for each in step.inputs.values():
                    _refuse_files(each.default, one.file, within, one.place)


def _refuse_files(value: Any, base: str, within: str, place: str) -> None:
    if isinstance(value, list):
        for each in value:
            _refuse_files(each, base, within, place)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in ("location", "path") and isinstance(each, str) and value.get("class") in ("File", "Directory"):
                if not (is_far(each) or each.startswith("_:") or loading.is_url(each)):
                    loading.refuse_outside(unquote(loading.resolve(base, each)), within, place)
            else:
                _refuse_files(each, base, within, place)


def _defaults(process: Process) -> list[str]:
    """The files that defaults name."""
    found = []
    for one in processes(process):
        values = [(each.default, one.file) for each in one.inputs.values()]
        if isinstance(one, Workflow):
            values += [(each.default, one.file) for step in one.steps.values() for each in step.inputs.values()]
        for value, base in values:
            for file in files.each(files.normalised(value, base) if value else None):
                path = path_of(str(file.get("location", "")))
                if path and os.path.exists(path):
                    found.append(path)
    return found


def again(where: str, given: dict[str, Any], requirements: Any) -> CwlProgram:
    """The program of an earlier run. Raises Invalid."""
    extra: InForce | None = orders.requirements({orders.REQUIREMENTS: requirements}, where)
    return CwlProgram(reading.read(where), extra=extra)


def address(text: str) -> str:
    """The address of a process as a person names it: a path, a URL, with #NAME or not."""
    if text.startswith(("http://", "https://")):
        return text
    text = text.removeprefix("file://")
    path, hash_, name = text.partition("#")
    return os.path.abspath(path) + hash_ + name


def _is_order(path: str) -> bool:
    """Whether it is a file of inputs that names its process itself."""
    if not path.endswith((".yml", ".yaml", ".json")) or not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8", errors="replace") as stream:
        return orders.TOOL in stream.read(1 << 16)
