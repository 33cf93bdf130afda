"""Waiting for the end of jobs, of many or of one of them, without asking about each again and again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection

from isthmus.control.recording import ENDED, ended_topic
from isthmus.db import jobs as job_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import NotFound
from isthmus.domain.states import JobState

_ASKED_AT_ONCE = 32  # jobs of a long wait

# Of these jobs (second: all that are waited for) those still to wait for; once there are none, the rows to answer with.
Look = Callable[[Connection, Sequence[int], Sequence[int]], tuple[list[int], dict[int, Any]]]


async def for_all(db: Database, clock: Clock, wanted: Sequence[int], timeout_s: float) -> dict[int, Any]:
    """The jobs' rows, as soon as every one has ended or the time is over. Raises NotFound."""
    rows = await _look_until(db, clock, wanted, timeout_s, _not_ended, _from_first_that_lives)
    return rows or await db.read(job_rows.many, wanted)


async def for_one(db: Database, clock: Clock, wanted: Sequence[int], timeout_s: float) -> dict[int, Any]:
    """The rows of those that have ended, as soon as there is one; none when the time is over. Raises NotFound."""
    return await _look_until(db, clock, wanted, timeout_s, _unless_one_ended, _unless_one_ended)


async def _look_until(
    db: Database, clock: Clock, wanted: Sequence[int], timeout_s: float, first: Look, again: Look
) -> dict[int, Any]:
    """The rows that a look brings when it leaves no job to wait for; none if the time is over before."""
    deadline = clock.monotonic() + timeout_s
    with db.watch(*_topics(wanted)) as news:
        left, rows = await db.read(first, wanted, wanted)
        while left:
            remaining = deadline - clock.monotonic()
            if remaining <= 0 or not await _in_time(news, remaining):
                return {}
            news.clear()
            left, rows = await db.read(again, left, wanted)
    return rows


async def _in_time(news: Any, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


def _topics(wanted: Sequence[int]) -> Sequence[str]:
    """One topic a job; of many, any job's, since a watch of thousands of topics would cost more."""
    return [ended_topic(job_id) for job_id in wanted] if len(wanted) <= 100 else [ENDED]


def _not_ended(conn: Connection, ids: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], dict[int, Any]]:
    """Which of them have not ended; where all have, the rows of those that are wanted. Raises NotFound."""
    states = _states(conn, ids)
    left = [job_id for job_id in ids if not JobState(states[job_id]).ended]
    return left, {} if left else job_rows.many(conn, wanted)


def _unless_one_ended(conn: Connection, ids: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], dict[int, Any]]:
    """All of them while none has ended; then none, and the rows of those that have. Raises NotFound."""
    ended = [job_id for job_id, state in _states(conn, ids).items() if JobState(state).ended]
    return ([], job_rows.many(conn, ended)) if ended else (list(ids), {})


def _states(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    states = job_rows.states(conn, ids)
    missing = [job_id for job_id in ids if job_id not in states]
    if missing:
        raise NotFound(f"There is no job {missing[0]}.", place="job")
    return states


def _from_first_that_lives(
    conn: Connection, ids: Sequence[int], wanted: Sequence[int]
) -> tuple[list[int], dict[int, Any]]:
    """As `_not_ended`, but those after one that has not ended are not asked, since all are waited for."""
    for start in range(0, len(ids), _ASKED_AT_ONCE):
        states = job_rows.states(conn, ids[start : start + _ASKED_AT_ONCE])
        living = [job_id for job_id, state in states.items() if not JobState(state).ended]
        if living:
            return [*living, *ids[start + _ASKED_AT_ONCE :]], {}
    return [], job_rows.many(conn, wanted)
