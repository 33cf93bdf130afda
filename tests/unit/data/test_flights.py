"""Flights: work that many wait for is done once."""

import asyncio

import pytest

from isthmus.data.flights import Flight, Flights


async def test_who_joins_a_dying_flight_begins_a_new_one() -> None:
    flights: Flights[int] = Flights()
    begun, may_end = [], asyncio.Event()

    async def work(flight: Flight[int]) -> int:
        begun.append(flight)
        if len(begun) > 1:
            return 2
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()  # such as closing a channel
        return 1

    first = asyncio.create_task(flights.join("k", work))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    second = asyncio.create_task(flights.join("k", work))
    await asyncio.sleep(0)
    assert len(begun) == 1, "never two at once"
    may_end.set()
    assert await second == 2
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not len(flights)


async def test_all_who_wait_get_the_error_and_the_next_may_try_again() -> None:
    flights: Flights[int] = Flights()
    answers = [ValueError("no"), 3]

    async def work(flight: Flight[int]) -> int:
        await asyncio.sleep(0)
        answer = answers.pop(0)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    both = await asyncio.gather(*(flights.join("k", work) for _ in range(2)), return_exceptions=True)
    assert [str(one) for one in both] == ["no", "no"]
    assert await flights.join("k", work) == 3


async def test_who_joins_late_hears_the_last_progress() -> None:
    flights: Flights[None] = Flights()
    go = asyncio.Event()

    async def work(flight: Flight[None]) -> None:
        flight.tell(5, 10)
        await go.wait()
        flight.tell(10, 10)

    early: list[int] = []
    late: list[int] = []
    first = asyncio.create_task(flights.join("k", work, lambda done, total: early.append(done)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(flights.join("k", work, lambda done, total: late.append(done)))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, second)
    assert early == late == [5, 10]
