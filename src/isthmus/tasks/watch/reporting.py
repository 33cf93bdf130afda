"""In a job of the platform: what its tasks do, told as the job's metrics, so that the panel can draw it.

    tasks/done, tasks/failed, tasks/waiting     how many
    tasks/per_s                                 ended in the last second, a second
    tasks/of/NAME/calls, /done, /seconds        by function: called, ended, their seconds together
    tasks/from/NAME/to/NAME                     how often a value of one function went to the other: the graph
    tasks/worker/N                              the share of the last stretch in which worker N ran tasks: the time line

By function, so a graph of a million tasks is as readable as one of ten. Once a second, and at the end.
"""

import threading
import time
from collections import Counter, OrderedDict
from typing import Any

from isthmus.tasks.graph import FAILED, Node

_EVERY_S = 1.0
_MAKERS = 200_000  # values whose makers are remembered
_NAMES = 60  # functions and edges that are told


class Reporting:
    """Counts while tasks end, and tells from a thread of its own."""

    def __init__(self, tell: Any = None) -> None:
        if tell is None:
            from isthmus import report as tell
        self._tell = tell
        self._lock = threading.Lock()
        self.total = self.done = self.failed = 0
        self.calls: Counter[str] = Counter()
        self.ended_by: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.edges: Counter[tuple[str, str]] = Counter()
        self._busy: Counter[int] = Counter()
        self._makers: OrderedDict[int, str] = OrderedDict()
        self._last = (time.monotonic(), 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, name="isthmus-report", daemon=True)
        self._thread.start()

    def submitted(self, node: Node) -> None:
        name = node.function.function.__name__
        with self._lock:
            self.total += 1
            self.calls[name] += 1
            for version in node.inputs or ():
                maker = self._makers.get(version.id)
                if maker is not None:
                    self.edges[maker, name] += 1
            made = [version.id for version in node.outputs or ()]
            for group, _, _ in node.commutes or ():
                made.append(group.final.id)
            for one in made:
                self._makers[one] = name
            while len(self._makers) > _MAKERS:
                self._makers.popitem(last=False)

    def retried(self, node: Node) -> None:
        """It is one task."""

    def ended(self, node: Node, seconds: float, where: int) -> None:
        name = node.function.function.__name__
        with self._lock:
            self.done += 1
            self.failed += node.state == FAILED
            self.ended_by[name] += 1
            self.seconds[name] += seconds  # type: ignore[assignment]
            if where >= 0:
                self._busy[where] += seconds  # type: ignore[assignment]

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _go(self) -> None:
        while not self._over.wait(_EVERY_S):
            if self.total:
                self.tell()
        if self.total:
            self.tell()

    def tell(self) -> None:
        """Tell how it stands now."""
        with self._lock:
            now = time.monotonic()
            before, then = self._last[1], self._last[0]
            self._last = (now, self.done)
            stretch = max(1e-3, now - then)
            values: dict[str, float] = {
                "tasks/done": self.done,
                "tasks/failed": self.failed,
                "tasks/waiting": self.total - self.done,
                "tasks/per_s": round((self.done - before) / stretch, 3),
            }
            for name, count in self.calls.most_common(_NAMES):
                values[f"tasks/of/{name}/calls"] = count
                values[f"tasks/of/{name}/done"] = self.ended_by[name]
                values[f"tasks/of/{name}/seconds"] = round(self.seconds[name], 6)
            for (maker, reader), count in self.edges.most_common(_NAMES):
                values[f"tasks/from/{maker}/to/{reader}"] = count
            for where in self._busy:
                # A task's seconds are known at its end: what is over goes to the next stretch.
                share = min(1.0, self._busy[where] / stretch)
                values[f"tasks/worker/{where}"] = round(share, 4)
                self._busy[where] = max(0.0, self._busy[where] - share * stretch)  # type: ignore[assignment]
            progress = (self.done, self.total)
        self._tell(values, progress=progress)
