"""Groups of tasks: waited for and cancelled together."""

import threading
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import NotFound, nearest

if TYPE_CHECKING:
    from isthmus.tasks.graph import Node


class Group:
    """The tasks that were called while the group was open. `outer` is the group around it."""

    __slots__ = ("_waiters", "error", "nodes", "outer")

    def __init__(self, outer: "Group | None") -> None:
        self.outer = outer
        self.nodes: set[Node] = set()
        self.error: BaseException | None = None  # what has cancelled it
        self._waiters: list[Waiter] = []

    def add(self, node: "Node") -> None:
        """The task is in this group, and in those around it."""
        group: Group | None = self
        while group is not None:
            group.nodes.add(node)
            group = group.outer

    def discard(self, node: "Node") -> None:
        """The task has ended. Who waited for the last one goes on."""
        group: Group | None = self
        while group is not None:
            group.nodes.discard(node)
            if not group.nodes:
                waiters, group._waiters = group._waiters, []
                for waiter in waiters:
                    waiter.release()
            group = group.outer

    def all_ended(self, depth: int) -> "Waiter | None":
        """Somebody who waits, at this depth of tasks, until its tasks have ended; None where they have."""
        if not self.nodes:
            return None
        waiter = Waiter(depth)
        self._waiters.append(waiter)
        return waiter


class Groups:
    """Those of a program, by name."""

    def __init__(self) -> None:
        self.open: Group | None = None  # the innermost that tasks are called in now
        self._named: dict[str, Group] = {}

    def begin(self, name: str) -> None:
        """Open a group of this name, within the one that is open."""
        self.open = self._named[name] = Group(self.open)

    def end(self) -> None:
        """Close the one that is open."""
        if self.open is not None:
            self.open = self.open.outer

    def named(self, name: str) -> Group:
        """The latest of this name. Raises NotFound with the nearest."""
        if name not in self._named:
            raise NotFound(f"There is no group {name!r}.", hint=nearest(name, self._named))
        return self._named[name]


class Waiter:
    """Somebody who waits until `waiting` is 0."""

    __slots__ = ("_lock", "depth", "waiting")
    blocked = 0  # how many threads of this process wait without an end

    def __init__(self, depth: int = 0) -> None:
        self.waiting = 0
        self.depth = depth
        self._lock = threading.Lock()
        self._lock.acquire()

    def release(self) -> None:
        """What it waited for is there."""
        self._lock.release()

    def block(self, timeout_s: float | None = None) -> bool:
        """Block until released; False after `timeout_s`."""
        if timeout_s is not None:
            got = self._lock.acquire(timeout=max(0.0, timeout_s))
        else:
            Waiter.blocked += 1
            try:
                got = self._lock.acquire()
            finally:
                Waiter.blocked -= 1
        if got:
            self._lock.release()
        return got

    @property
    def released(self) -> bool:
        """Whether it need not wait any more."""
        return not self._lock.locked()


class TaskGroup:
    """``with TaskGroup("name"):`` the tasks called inside are a group, waited for at the end.

    With ``implicit_barrier=False`` nothing is waited for: use `barrier_group` later. A `COMPSsException` that one of
    its tasks raises cancels the others and comes out where the group is waited for.
    """

    def __init__(self, group_name: str, implicit_barrier: bool = True) -> None:
        self.group_name = group_name
        self.implicit_barrier = implicit_barrier

    def __enter__(self) -> "TaskGroup":
        from isthmus.tasks.current import current

        current().open_group(self.group_name)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from isthmus.tasks.current import current

        current().close_group(self.group_name)
        if self.implicit_barrier and kind is None:
            current().barrier_group(self.group_name)
