"""Warnings about programs that run, but not as their author thinks. Each is given once; none changes what happens.

An object whose part is passed beside it: two data, and what a task does to one is not seen in the other. A large
argument that is copied at each call. A result that nobody ever uses.
"""

import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from isthmus.tasks.calls import PLAIN
from isthmus.tasks.graph import Datum

if TYPE_CHECKING:
    from isthmus.tasks.declaration import Task
    from isthmus.tasks.tracking import Tracker

# From how many bytes on, and at which copy of the same object, a large argument is spoken of.
_LARGE = 16 << 20
_TIMES = 3
_PARTS = 100  # how many parts of an object are looked at


class Advice:
    """What has been seen of the program so far. For the program's own thread."""

    def __init__(self, tracker: "Tracker") -> None:
        self._tracker = tracker
        self._wholes: dict[int, tuple[Any, Any, str]] = {}  # a part -> the part and the whole, weakly; its name
        self._copies: dict[tuple[int, str], tuple[int, str, int]] = {}  # a parameter -> object, copy, how many
        self._unused: dict[Task, int] = {}

    # -- a part beside its whole -------------------------------------------------------------------------------

    def writes(self, task: "Task", name: str, whole: Any) -> None:
        """A task is given an object that it will change."""
        for label, part in _parts(whole):
            if self._tracker.find(part) is not None:
                _say_part(task, name, label)
            reference = _weakly(whole)
            if reference is not None:
                self._wholes[id(part)] = (_weakly(part), reference, label)

    def takes(self, task: "Task", name: str, value: Any) -> None:
        """A task is given an object that stands for no datum yet."""
        entry = self._wholes.get(id(value))
        if entry is None:
            return
        part, whole, label = entry[0], entry[1](), entry[2]
        if whole is None or (part is not None and part() is not value):
            del self._wholes[id(value)]
        elif self._tracker.find(whole) is not None and any(item is value for _, item in _parts(whole)):
            _say_part(task, name, label)

    @property
    def knows_parts(self) -> bool:
        """Whether `takes` has anything to compare with."""
        return bool(self._wholes)

    # -- a large argument --------------------------------------------------------------------------------------

    def copied(self, task: "Task", name: str, value: Any, copy: str, size: int) -> None:
        """The argument went out as the copy of this name and size."""
        if size < _LARGE:
            return
        before, last, times = self._copies.get((task.number, name), (0, "", 0))
        if before != id(value):
            times = 0
        elif last == copy:
            return  # the same copy: it costs nothing
        times += 1
        self._copies[task.number, name] = (id(value), copy, times)
        if times == _TIMES:
            warnings.warn(
                f"{task.name} is given the same {type(value).__name__} as {name!r} again and again, and each call "
                f"copies its {size >> 20} MB. Let a task make it and pass its future, or pass a contiguous numpy "
                "array, which is copied once.",
                stacklevel=2,
            )

    # -- a result that nobody uses -----------------------------------------------------------------------------

    def unused(self, task: "Task") -> None:
        """The only result of a call has gone, and nobody has looked at it. From any thread."""
        self._unused[task] = self._unused.get(task, 0) + 1

    def close(self) -> None:
        """The program has ended: say what only its end shows."""
        unused, self._unused = self._unused, {}
        for task, times in unused.items():
            calls = "one call" if times == 1 else f"{times} calls"
            warnings.warn(
                f"Nobody has used the result of {task.name} in {calls}. Where it is not wanted, "
                "@task(returns=0) saves keeping it.",
                stacklevel=2,
            )


def _say_part(task: "Task", name: str, label: str) -> None:
    warnings.warn(
        f"{task.name}: {name!r} and its {label} are both given to tasks, as two things: what a task does to one is "
        "not seen in the other. Pass the whole, or wait_on it before its part is passed.",
        stacklevel=2,
    )


def _parts(whole: Any) -> Iterator[tuple[str, Any]]:
    """The objects right within this one that can change, with what the program calls them."""
    kind = type(whole)
    if kind is list:
        named = ((f"[{place}]", item) for place, item in enumerate(whole[:_PARTS]))
    elif kind is dict:
        named = ((f"[{key!r}]", item) for key, item in list(whole.items())[:_PARTS])
    else:
        state = getattr(whole, "__dict__", None)
        if type(state) is not dict:
            return
        named = ((f".{key}", item) for key, item in list(state.items())[:_PARTS])
    for label, item in named:
        if type(item) not in PLAIN and not isinstance(item, tuple | type | Datum) and not callable(item):
            yield label, item


def _weakly(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        return None
