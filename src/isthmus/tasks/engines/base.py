"""What an engine is to a program, and what a program is to an engine.

The program finds out which tasks are ready; the engine runs them where it likes, and says how they ended. All calls
that are marked *locked* are made while the caller holds `program.lock`; none of those blocks.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from isthmus.tasks.graph import Node
from isthmus.tasks.groups import Waiter


class Engine(Protocol):
    """Runs tasks."""

    name: str
    workers: int  # how many tasks at once
    depth: int  # of the task that this thread runs: 0 for the program itself
    in_place: bool  # tasks share the program's objects: a writer must wait for readers

    def start(self) -> None:
        """Be ready for tasks. Called once, before any."""

    def ready(self, nodes: Sequence[Node]) -> None:
        """These may run now (locked)."""

    def added(self, node: Node) -> None:
        """A task waits for others; the engine may send it after them to where they are (locked)."""

    def poll(self) -> None:
        """Take what results are there, without blocking. Called now and then by a program that only submits."""

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Block until the waiter is released; False after `timeout_s`."""

    def nodes(self) -> list[Node]:
        """Every task that is ready or runs (locked)."""

    def pids(self) -> list[int]:
        """The worker processes."""

    def pack(self, value: Any) -> Any:
        """An argument as it travels; `Leaf` stands in it for inputs. A copy, unless `in_place`."""

    def put(self, value: Any) -> Any:
        """A value as a version keeps it; a copy, unless `in_place`."""

    def get(self, stored: Any) -> Any:
        """The value that a version keeps, for the program itself. May block."""

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        """What `pack` has packed, with these inputs in the place of leaves. From any thread."""

    def digest(self, stored: Any) -> bytes:
        """A digest of a packed argument or a stored value: of its content, the same in another run."""

    def cancel(self, node: Node, *, kill: bool) -> bool:
        """Don't run it; with `kill`, end it where it runs. Whether it will not end by itself any more (locked)."""

    def close(self, *, kill: bool) -> None:
        """Stop all workers; with `kill`, at once."""


class Host(Protocol):
    """What an engine asks of its program."""

    lock: Any

    def finished(self, node: Node, values: Sequence[Any], seconds: float, where: int = 0) -> None:
        """The task has ended well on worker `where`, and left these stored values (locked)."""

    def failed(self, node: Node, error: BaseException, *, retry: bool = True) -> None:
        """The task has raised, or its worker died (locked)."""
