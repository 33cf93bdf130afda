"""From what a person names to a program and its inputs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.workflows.cwl import orders, reading
from isthmus.workflows.cwl.model import InForce
from isthmus.workflows.cwl.translation import CwlProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A program with what it was given. ``strange``: what was given and is no input."""

    program: CwlProgram
    address: str
    given: dict[str, Any]
    requirements: Any
    strange: tuple[str, ...]


def opened(process: str, inputs: str = "", words: Sequence[str] = (), *, basedir: str = "") -> Opened:
    """Read a process and its inputs: a file of them, and ``--name value`` words over it. Raises Invalid."""
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
    read = reading.read(where)
    base = os.path.join(os.path.abspath(basedir), "-") if basedir else inputs or os.path.join(os.getcwd(), "-")
    given = orders.located(values, base)
    if words:
        given.update(orders.from_words(words, read))
    strange = tuple(orders.unknown(given, read))
    brought = values.get(orders.REQUIREMENTS)
    return Opened(
        program=CwlProgram(read, extra=orders.requirements(values, inputs)),
        address=where,
        given=given,
        requirements=brought,
        strange=strange,
    )


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
