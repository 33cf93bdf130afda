"""Groups of tasks: waited for and cancelled together."""

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.tasks.graph import Node


class Group:
    """The tasks that were called while the group was open. `outer` is the group around it."""

    __slots__ = ("error", "live", "name", "nodes", "outer", "waiters")

    def __init__(self, name: str, outer: "Group | None") -> None:
        self.name = name
        self.outer = outer
        self.nodes: set[Node] = set()
        self.live = 0
        self.error: BaseException | None = None
        self.waiters: list[Waiter] = []


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
