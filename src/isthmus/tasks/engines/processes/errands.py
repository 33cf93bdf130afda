"""Errands: calls that a worker's own task has made, on their way to whichever worker is free."""

from typing import Any

from isthmus.tasks.engines.processes.hands import Hand
from isthmus.tasks.graph import READY


class Stats:
    """What calls of a function took lately; the part of a Task that errands need."""

    __slots__ = ("name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = -1.0


class Errand:
    """A call that a task has made in worker `origin`: its node is there."""

    __slots__ = (
        "args",
        "depth",
        "encoding",
        "function",
        "inputs",
        "key",
        "number",
        "origin",
        "payload",
        "returns",
        "sent_to",
        "state",
        "units",
    )

    def __init__(self, origin: "Hand", sent: tuple[Any, ...], function: Stats) -> None:
        self.number, self.key, self.payload, self.returns, self.args, self.encoding, self.inputs, self.depth, _ = sent
        self.origin = origin
        self.function = function
        self.state = READY
        self.sent_to: Any = None
        self.units = 1


class Errands:
    """Errands by depth; the last of the deepest comes first."""

    def __init__(self) -> None:
        self._by_depth: dict[int, list[Errand]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_depth)

    def depth(self) -> int:
        """The depth of the deepest."""
        return max(self._by_depth)

    def push(self, errand: Errand) -> None:
        """Add one."""
        self._by_depth.setdefault(errand.depth, []).append(errand)

    def peek(self) -> Errand:
        """The next."""
        return self._by_depth[self.depth()][-1]

    def pop(self) -> Errand:
        """Take the next."""
        depth = self.depth()
        errands = self._by_depth[depth]
        errand = errands.pop()
        if not errands:
            del self._by_depth[depth]
        return errand

    def drop(self, origin: "Hand") -> None:
        """Forget those of a worker that is gone."""
        for depth in list(self._by_depth):
            left = [errand for errand in self._by_depth[depth] if errand.origin is not origin]
            if left:
                self._by_depth[depth] = left
            else:
                del self._by_depth[depth]
