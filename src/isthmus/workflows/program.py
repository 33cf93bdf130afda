"""What a front end gives the driver: a graph, and how its steps are prepared, begun and understood."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from isthmus.workflows.dataflow.graph import Graph, Step
from isthmus.workflows.hidden import Hidden
from isthmus.workflows.work import Ended, Folders, Left, Need, Wanted, Work


class Run(Protocol):
    """One run of a step that needs a place. Its methods raise StepFailed."""

    need: Need
    reusable: bool

    def work(self, folders: Folders, *, contained: bool = True) -> Work:
        """What is to be done, with paths as the command sees them."""

    def wanted(self) -> Wanted:
        """What `collect` will look for, where that is not on this machine."""

    def identity(self, identify: Callable[[str], str]) -> dict[str, Any]:
        """What its result depends on, in parts, as JSON can say it; ``identify`` tells a location's content."""

    def collect(self, ended: Ended, left: Left) -> dict[str, Any]:
        """The outputs, from what the command left."""


class Program(Protocol):
    """A workflow in some language, ready to be driven."""

    name: str
    graph: Graph
    hidden: Hidden

    def inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's inputs from what a person gave. Raises Invalid."""

    def secrets(self) -> tuple[str, ...]:
        """The inputs whose values must not be shown: `inputs` hides them."""

    def contained(self) -> str:
        """The first place where a container is required; "" if none is."""

    def asked(self) -> Iterator[tuple[str, Need, str]]:
        """What steps need, for those of which it is known before anything runs: path, need, where it is written."""

    def prepare(self, task: str, step: Step, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The inputs of a task as it is to run, or None: it is skipped. Raises StepFailed."""

    def begin(self, step: Step, inputs: dict[str, Any]) -> "Run | dict[str, Any]":
        """A run that needs a place, or the outputs, where none is needed. Raises StepFailed."""

    def reads(self, step: Step) -> bool:
        """Whether preparing or beginning the step may read what its input files hold."""

    def check(self, outputs: Mapping[str, Any]) -> None:
        """Raise StepFailed unless the run's outputs are what they are declared to be."""

    def close(self) -> None:
        """Let go of what it holds."""
