"""No engine: a call runs at once, and gives its value itself. For debugging, and to compare results with.

What a program says is the same: `wait_on` gives back what it is given, barriers have nothing to wait for. Failure
policies hold; directions are checked but not needed.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from isthmus.domain.errors import NotFound, nearest
from isthmus.tasks.checkpoint import copy_whole
from isthmus.tasks.declaration import CANCEL_SUCCESSORS, IGNORE, RETRY, Task, returns_of_call
from isthmus.tasks.directions import DIRECTORY, FILE
from isthmus.tasks.failures import COMPSsException
from isthmus.tasks.functions import body_of
from isthmus.tasks.settings import Settings


class _Nothing:
    """The engine of a program that has none."""

    name = "sequential"
    workers = 1
    depth = 0
    in_place = True

    def pids(self) -> list[int]:
        """No worker processes."""
        return []


class Sequential:
    """A program that runs each call where it stands. The same words as `isthmus.tasks.program.Program`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = _Nothing()
        self.watchers: list[Any] = []
        self.advice = None
        self.members: Any = None
        self._groups: list[str] = []
        self._cancelled: set[str] = set()
        self._known: set[str] = set()
        self._errors: dict[str, BaseException] = {}

    def call(self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the task now."""
        from isthmus.tasks import special

        if special.wanted(task):
            task, args, kwargs, result = special.before(self, task, args, kwargs)
            if result is not special.NOTHING:
                return result
        if any(group in self._cancelled for group in self._groups):
            return None
        kwargs, _ = returns_of_call(task, kwargs)
        options = task.options
        body = body_of(task)
        attempts = 1 + (options.retries if options.on_failure == RETRY else 0)
        for attempt in range(attempts):
            try:
                value = body(*args, **kwargs)
                for given in (*args, *kwargs.values()):
                    if getattr(type(given), "has_persistent_state", False):
                        given.save()
                return value
            except COMPSsException as error:
                if not self._groups:
                    raise
                # What is left of the group is cancelled, and its end tells.
                self._cancelled.add(self._groups[-1])
                self._errors[self._groups[-1]] = error
                return None
            except Exception as error:
                if options.on_failure == IGNORE:
                    _put_defaults(task, {**dict(zip(task.shape.names, args, strict=False)), **kwargs})
                    return options.defaults.get("returns")
                if options.on_failure == CANCEL_SUCCESSORS:
                    print(f"isthmus: {task.name} failed: {type(error).__name__}: {error}", file=sys.stderr)
                    return None
                if attempt + 1 == attempts or options.on_failure != RETRY or not _repeatable(task):
                    raise
        raise AssertionError("unreachable")

    def wait_on(self, *values: Any) -> Any:
        """The values, as they are."""
        return values[0] if len(values) == 1 else list(values)

    def value_of(self, value: Any, timeout_s: float | None = None) -> Any:
        """The value, as it is."""
        return value

    def barrier(self) -> None:
        """Every call has ended."""

    def raise_unseen(self) -> None:
        """A failure came out where it was."""

    def open_group(self, name: str) -> None:
        """Calls from now on are in this group."""
        self._groups.append(name)
        self._known.add(name)

    def close_group(self, name: str) -> None:
        """Calls from now on are not in this group."""
        if self._groups:
            self._groups.pop()

    def barrier_group(self, name: str) -> None:
        """Raises the COMPSsException that cancelled the group."""
        if name not in self._known:
            raise NotFound(f"There is no group {name!r}.", hint=nearest(name, self._known))
        error = self._errors.pop(name, None)
        if error is not None:
            raise error

    def cancel_group(self, name: str) -> None:
        """Its calls have ended."""
        if name not in self._known:
            raise NotFound(f"There is no group {name!r}.", hint=nearest(name, self._known))

    def cancel(self, future: Any) -> bool:
        """It has ended."""
        return False

    def wait_file(self, *paths: Any) -> None:
        """The files are as they are."""

    def open(self, path: Any, mode: str = "r") -> Any:
        """The file, opened."""
        return open(path, mode)

    def file_exists(self, path: Any) -> bool:
        """Whether the file is there."""
        return os.path.exists(path)

    def delete_file(self, path: Any) -> bool:
        """Delete the file or folder."""
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return True

    def delete_object(self, value: Any) -> bool:
        """Nothing is kept of it."""
        return True

    def limit_time(self, seconds: float) -> None:
        """Calls can't be cancelled: each ends before the next begins."""

    def resize(self, more: int) -> None:
        """There are no workers."""

    def snapshot(self) -> None:
        """Nothing is kept."""

    def close(self, *, kill: bool = False) -> None:
        """Nothing runs."""
        for watcher in self.watchers:
            watcher.close()


def _put_defaults(task: Task, given: Mapping[str, Any]) -> None:
    """The declared defaults of files that the task would have written."""
    for name in task.shape.written:
        kind = task.shape.parameters[name].kind
        if kind in (FILE, DIRECTORY) and name in task.options.defaults and name in given:
            copy_whole(os.fspath(task.options.defaults[name]), os.fspath(given[name]))


def _repeatable(task: Task) -> bool:
    # What it writes in place may be half written: the program that runs it sequentially is told at once.
    return not task.shape.written
