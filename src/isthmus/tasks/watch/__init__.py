"""Seeing what a program's tasks do: a progress bar, a trace, the graph. Each is told of every task while it is on."""

from typing import Any, Protocol

from isthmus.tasks.graph import Node


class Watcher(Protocol):
    """Told of each task, while the program's lock is held."""

    def submitted(self, node: Node) -> None:
        """A task was called; its inputs and outputs are known."""

    def retried(self, node: Node) -> None:
        """A task has failed and runs again."""

    def ended(self, node: Node, seconds: float, where: int) -> None:
        """A task has ended (look at its state), after so many seconds on worker `where`; -1: it did not run."""

    def close(self) -> None:
        """The program's tasks have ended."""


def watchers(settings: Any) -> list[Watcher]:
    """Those that the settings ask for."""
    found: list[Watcher] = []
    if settings.progress:
        from isthmus.tasks.watch.progress import Progress

        found.append(Progress())
    if settings.trace:
        from isthmus.tasks.watch.trace import Trace

        found.append(Trace(settings.trace))
    if settings.graph:
        from isthmus.tasks.watch.drawing import Drawing

        found.append(Drawing(settings.graph))
    if settings.report:
        from isthmus.tasks.watch.reporting import Reporting

        found.append(Reporting())
    return found


def unwatched(settings: Any) -> Any:
    """The settings of a program within a worker: what it does is seen from outside."""
    from dataclasses import replace

    return replace(settings, progress=False, trace="", graph="", report="")
