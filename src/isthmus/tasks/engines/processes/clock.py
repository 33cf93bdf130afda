"""What the program's side has to mind when nothing comes: tasks that run too long, and workers that are silent.

A worker that is silent with calls queued behind one that runs is rung at: it sends what results it keeps, and gives
the calls back. All is called while the program's lock is held.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from isthmus.tasks.engines.processes.hands import Hand
from isthmus.tasks.failures import TaskTimedOut

# A worker that is silent for so long with calls queued is rung at: they may stand behind a long one.
_SILENT_S = 0.02


class Clock:
    """See the module. `hands`: the workers, as they come and go."""

    def __init__(self, hands: Sequence[Hand]) -> None:
        self._hands = hands
        self._deadlines: list[tuple[float, int, Any]] = []

    def limit(self, worker: Hand, call: int, seconds: float) -> None:
        """The call, which goes to this worker now, may take so long."""
        heapq.heappush(self._deadlines, (time.monotonic() + seconds, call, worker))

    def patience(self) -> float:
        """How long nothing may come before there is something to mind; -1: for ever."""
        wait = -1.0
        if any(self._may_ring(worker) for worker in self._hands):
            wait = _SILENT_S
        if self._deadlines:
            left = max(0.0, self._deadlines[0][0] - time.monotonic())
            wait = left if wait < 0 else min(wait, left)
        return wait

    def mind(self, kill: Callable[[Hand, BaseException], None]) -> None:
        """End what has run too long, and ring at the silent."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number, worker = heapq.heappop(self._deadlines)
            entry = worker.calls.get(number)
            if entry is None:
                continue
            node = entry[0]
            limit = node.function.options.time_out
            if worker.first() is node:
                kill(worker, TaskTimedOut(f"{node.function.name} ran longer than its time_out of {limit:g} s."))
            else:
                heapq.heappush(self._deadlines, (now + limit, number, worker))
        for worker in self._hands:
            if self._may_ring(worker) and now - worker.heard >= _SILENT_S and worker.pid:
                worker.rung = True
                with suppress(OSError):
                    worker.bell.send(b"!")

    def _may_ring(self, worker: Hand) -> bool:
        """Whether it has calls queued that others might take, or results that it keeps."""
        if len(worker.calls) < 2 or worker.rung:
            return False
        is_reserve = len(worker.calls) == 2 and worker.reserve in worker.calls
        return not is_reserve or any(not other.calls and other.takes_calls() for other in self._hands)
