"""Flights: work that many wait for is done once.

Who asks for a key that is being worked on joins; the work ends early only when all who waited have left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

Listener = Callable[[int, int], None]


class Flight(Generic[T]):
    """One piece of work on its way. It tells its progress with ``tell``; those who join later hear the last."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.task: asyncio.Task[T] | None = None
        self.waiting = 0
        self.ending = False  # all who waited have left
        self._last: tuple[int, int] | None = None

    def tell(self, done: int, total: int) -> None:
        """Progress, in any unit."""
        self._last = (done, total)
        for listener in self.listeners:
            listener(done, total)

    def listen(self, listener: Listener) -> None:
        self.listeners.append(listener)
        if self._last is not None:
            listener(*self._last)


class Flights(Generic[T]):
    """The flights of one kind of work, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight[T]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    async def join(
        self, key: Hashable, work: Callable[[Flight[T]], Awaitable[T]], listener: Listener | None = None
    ) -> T:
        """The result of ``work`` for ``key``, begun now or by somebody else before. Raises what it raises."""
        flight = self._flights.get(key)
        while flight is not None and flight.ending and flight.task is not None:
            await asyncio.wait({flight.task})
            flight = self._flights.get(key)
        if flight is None or flight.task is None:
            flight = Flight()
            self._flights[key] = flight
            flight.task = asyncio.create_task(self._fly(key, flight, work))
        if listener is not None:
            flight.listen(listener)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.waiting == 1 and not flight.task.done():
                flight.ending = True
                flight.task.cancel()
                await asyncio.wait({flight.task})
            raise
        finally:
            flight.waiting -= 1
            if listener is not None:
                flight.listeners.remove(listener)

    async def _fly(self, key: Hashable, flight: Flight[T], work: Callable[[Flight[T]], Awaitable[T]]) -> T:
        try:
            return await work(flight)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
