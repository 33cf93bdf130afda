"""What a task's failure looks like to the program.

A task that raises gives its own exception, with notes that say which task it was, with which arguments, and the
traceback that it had where it ran. What ended without an exception of its own raises one of these.
"""

import pickle
import reprlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isthmus.domain.errors import IsthmusError

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_LEVELS, _MOST = 6, 1000  # of what can't be pickled: how deep, and among how many parts, it is looked for


class TaskError(IsthmusError):
    """A task did not give its value."""


class TaskCancelled(TaskError):
    """A task was cancelled: by its group, by the program, or because what it needed has failed."""


class TaskTimedOut(TaskError):
    """A task ran longer than its time_out."""


class WorkerLost(TaskError):
    """The worker that ran the task has died: killed, or by a fault of native code."""


class COMPSsException(Exception):
    """Raised by a task, it cancels what is left of the task's group and comes out where the group ends."""

    def __init__(self, message: str, target_direction: int = -1) -> None:
        super().__init__(message)
        self.message = message
        self.target_direction = target_direction


def summary(value: Any) -> str:
    """One argument, in a few words: arrays by shape and type."""
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and kind is not None:
        return f"{type(value).__name__}{tuple(shape)} of {kind}"
    try:
        return _short.repr(value)
    except Exception as error:  # noqa: BLE001  (the user's own __repr__ must not hide the user's error)
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def culprit(value: Any, name: str) -> tuple[str, str]:
    """What within the value can't be pickled, as the program would write it, and its type's name.

    Looks into lists, tuples, dicts and objects, a few levels deep.
    """
    for _ in range(_LEVELS):
        found = next(((label, part) for label, part in _parts(value) if not _pickles(part)), None)
        if found is None:
            break
        name, value = name + found[0], found[1]
    return name, type(value).__name__


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        yield from ((f"[{place}]", part) for place, part in enumerate(value[:_MOST]))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:_MOST])
    elif not isinstance(value, type) and isinstance(state := getattr(value, "__dict__", None), dict):
        yield from ((f".{key}", part) for key, part in list(state.items())[:_MOST])


def _pickles(value: Any) -> bool:
    try:
        pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001  (a user's object may do anything when it is pickled)
        return False
    return True


def noted(error: BaseException, task: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> BaseException:
    """The exception with notes: which task, with which arguments, and its traceback. Called where it was caught."""
    given = [summary(value) for value in args]
    given += [f"{name}={summary(value)}" for name, value in (kwargs or {}).items()]
    note = f"In task {task}({', '.join(given)})"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
        frames = traceback.format_tb(error.__traceback__)[1:]
        if frames:
            error.add_note("Where it ran:\n" + "".join(frames).rstrip())
    return error


def portable(error: BaseException) -> bytes:
    """The exception, pickled; where it can't be, one that says the same."""
    try:
        data = pickle.dumps(error, 5)
        pickle.loads(data)
        return data
    except Exception:  # noqa: BLE001  (a user's exception may do anything when it is pickled)
        stand_in = TaskError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            stand_in.add_note(note)
        return pickle.dumps(stand_in, 5)


def brought(payload: bytes) -> BaseException:
    """The exception that `portable` has pickled elsewhere."""
    try:
        error = pickle.loads(payload)
    except Exception as trouble:  # noqa: BLE001  (a user's exception may do anything when it is unpickled)
        return RuntimeError(f"A task raised an exception that can't be unpickled here: {trouble}")
    assert isinstance(error, BaseException)
    return error
