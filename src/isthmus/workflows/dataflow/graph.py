"""A graph of steps and how their ports are fed. Plain data, written by a front end, read by the machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()
"""The default of a port that has none: its value is then null."""


class Merge(StrEnum):
    """How several sources make one list."""

    NESTED = "nested"  # one entry a source
    FLATTENED = "flattened"  # lists are joined


class Pick(StrEnum):
    """Which of a list's entries are taken, where some may be null."""

    ALL = ""
    FIRST = "first_non_null"
    ONLY = "the_only_non_null"
    EVERY = "all_non_null"


class Cross(StrEnum):
    """How several scattered ports are combined."""

    DOT = "dotproduct"
    NESTED = "nested_crossproduct"
    FLAT = "flat_crossproduct"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: a step's output, or with step "" an input of the graph."""

    step: str
    port: str


@dataclass(frozen=True, slots=True)
class Feed:
    """What feeds a port. One source without ``merge`` gives its value as it is."""

    sources: tuple[Source, ...] = ()
    merge: Merge | None = None
    pick: Pick = Pick.ALL
    default: Any = MISSING


@dataclass(frozen=True, slots=True)
class Scatter:
    """The ports whose lists are taken apart, and how they are combined."""

    ports: tuple[str, ...]
    how: Cross = Cross.DOT


@dataclass(frozen=True, slots=True)
class Loop:
    """A step that runs again until its preparation says no more.

    ``feeds``: the inputs of the next round, fed from the step's own outputs (sources with step ""); inputs
    that are not named keep their values. ``keep_all``: the outputs are lists with one entry a round.
    """

    feeds: Mapping[str, Feed] = field(default_factory=dict)
    keep_all: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A node: a body to run, and how its inputs are fed.

    ``body`` is a Graph (its inputs are the step's) or work of the front end's own kind. ``prepared``: the front end
    is asked before each run; it may change the inputs, or skip the run.
    """

    inputs: Mapping[str, Feed]
    outputs: tuple[str, ...]
    body: Any
    scatter: Scatter | None = None
    prepared: bool = False
    loop: Loop | None = None
    note: Any = None  # the front end's own, for preparing it
    place: str = ""  # where it is written, for people: workflow.cwl:12


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps by name, and what feeds the outputs (from steps, or inputs of the graph)."""

    inputs: tuple[str, ...]
    steps: Mapping[str, Step]
    outputs: Mapping[str, Feed]
