"""The files and folders that tasks read and write: which datum each path is, and who uses it still."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from typing import Any

from isthmus.tasks.graph import DONE, Datum, Graph
from isthmus.tasks.groups import Waiter


class Files:
    """Those of a program. Paths may be relative: they are of the folder where the program is now."""

    def __init__(self, lock: "threading.RLock", graph: Graph) -> None:
        self._lock = lock
        self._graph = graph
        self._data: dict[str, Datum] = {}

    def datum(self, path: str) -> Datum:
        """The datum of an absolute path; new where no task has used it."""
        with self._lock:
            found = self._data.get(path)
            if found is None:
                found = self._data[path] = Datum(self._graph.version(), in_place=True)
            return found

    def known(self, paths: Iterable[Any]) -> list[Datum]:
        """The data of those paths that tasks have used."""
        return [self._data[path] for path in map(os.path.abspath, paths) if path in self._data]

    def is_awaited(self, path: Any) -> bool:
        """Whether a task that has not ended will write it."""
        found = self._find(path)
        return found is not None and found.version.producer is not None

    def is_busy(self, path: Any) -> bool:
        """Whether a task that has not ended reads or writes it."""
        found = self._find(path)
        with self._lock:
            return found is not None and (
                found.version.producer is not None or any(node.state < DONE for node in found.readers or ())
            )

    def readers_left(self, path: Any, depth: int) -> Waiter | None:
        """Somebody who waits, at this depth of tasks, for all who read it now; None where nobody does."""
        found = self._find(path)
        with self._lock:
            readers = [node for node in (found.readers if found is not None else None) or () if node.state < DONE]
            if not readers:
                return None
            waiter = Waiter(depth)
            for node in readers:
                node.after = [*(node.after or ()), waiter]  # type: ignore[list-item]
                waiter.waiting += 1
            return waiter

    def delete(self, path: Any) -> None:
        """Delete it, and know nothing of it. Nothing where it is not there."""
        name = os.path.abspath(path)
        self._data.pop(name, None)
        if os.path.isdir(name):
            shutil.rmtree(name, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def _find(self, path: Any) -> Datum | None:
        return self._data.get(os.path.abspath(path))
