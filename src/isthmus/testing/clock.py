"""A clock that stands still until a test moves it."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, tzinfo=UTC)
TURNS = 50  # of the event loop, for what was woken to do its work


class ManualClock:
    """A `Clock` in a test's hands: deterministic, and as fast as the test.

    `advance` moves both clocks and wakes who slept; `jump` moves the time of day alone, as an administrator or a
    time server does.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait for this clock now."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move time on by `seconds`, stopping at each sleeper on the way until it has done its work."""
        await self.settle()
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self._set(at)
            woken.set_result(None)
            await self.settle()
        self._set(end)
        await self.settle()

    def jump(self, seconds: float) -> None:
        """Set the time of day forwards or back; nobody wakes."""
        self._now += timedelta(seconds=seconds)

    @staticmethod
    async def settle() -> None:
        """Let everything run that can run without time going on. Input and output may need more."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _set(self, monotonic: float) -> None:
        self._now += timedelta(seconds=monotonic - self._monotonic)
        self._monotonic = monotonic
