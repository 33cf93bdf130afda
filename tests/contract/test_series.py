"""Long series, on both databases: drawn from their blocks they are what reading every value would show."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from sqlalchemy import Connection

from isthmus.db import attempts, jobs, metrics, sites, users
from isthmus.db.engine import Database
from isthmus.domain.users import Role

COUNT = metrics.FEW * 2 + 77


def an_attempt(conn: Connection) -> int:
    user = users.create(conn, "ada", Role.MEMBER, now=1.0).id
    site = sites.add(conn, "here", "{}", now=1.0)
    row = {"user_id": user, "state": "RUNNING", "spec": "{}", "submitted_at": 1.0}
    (job,) = jobs.insert(conn, [row])
    attempt = {"key": "k", "job_id": job, "number": 1, "site_id": site, "user_id": user, "state": "RUNNING"}
    (made,) = attempts.insert(conn, [{**attempt, "created_at": 1.0, "token_hash": "x"}])
    return made


def values() -> list[float | None]:
    dice = random.Random(1)
    found: list[float | None] = [math.sin(step / 500) + dice.random() / 10 for step in range(COUNT)]
    found[COUNT // 3], found[2 * COUNT // 3], found[COUNT - 3], found[10] = 99.0, -99.0, 98.0, None
    return found


@pytest.fixture
async def attempt(db: Database) -> int:
    made = await db.write(an_attempt)
    told = values()
    for start in range(0, COUNT, 1000):  # as runners bring them: some at a time, of several series
        rows: list[dict[str, Any]] = []
        for step in range(start, min(start + 1000, COUNT)):
            for name, value in (("loss", told[step]), ("other", float(step))):
                rows.append({"attempt_id": made, "name": name, "step": float(step), "at": 1e9 + step, "value": value})
        await db.write(metrics.insert, rows)
    return made


async def test_no_spike_is_lost(db: Database, attempt: int) -> None:
    whole, count = await db.read(metrics.series, attempt, "loss")
    assert count == len(whole) == COUNT
    thinned, told = await db.read(metrics.series, attempt, "loss", points=400)
    assert told == COUNT
    assert 300 < len(thinned) <= 400
    assert set(thinned) <= set(whole)
    assert (thinned[0], thinned[-1]) == (whole[0], whole[-1])
    assert {99.0, -99.0, 98.0} <= {one.value for one in thinned}
    assert [one.id for one in thinned] == sorted(one.id for one in thinned)


async def test_what_is_new_goes_on_from_there(db: Database, attempt: int) -> None:
    whole, _ = await db.read(metrics.series, attempt, "loss")
    after = whole[COUNT - 50].id
    rest, count = await db.read(metrics.series, attempt, "loss", after=after, points=400)
    assert (rest, count) == (whole[COUNT - 49 :], 49)
    middle, count = await db.read(metrics.series, attempt, "loss", after=whole[100].id, points=400)
    assert count == COUNT - 101
    assert middle[0] == whole[101]


@pytest.mark.parametrize("by_time", [False, True])
async def test_looking_closer_shows_every_value(db: Database, attempt: int, by_time: bool) -> None:
    whole, _ = await db.read(metrics.series, attempt, "loss")
    low, high = COUNT // 3 - 60.0, COUNT // 3 + 60.0
    between = (1e9 + low, 1e9 + high) if by_time else (low, high)
    near, count = await db.read(metrics.series, attempt, "loss", points=400, between=between, by_time=by_time)
    expected = [one for one in whole if one.step is not None and low <= one.step <= high]
    assert (near, count) == (expected, len(expected))


async def test_ends_are_those_of_all_values(db: Database, attempt: int) -> None:
    told = values()
    finite = [value for value in told if value is not None]
    assert await db.read(metrics.ends, attempt, "loss") == (told[-1], min(finite), max(finite))
    assert await db.read(metrics.ends, attempt, "nothing") is None


async def test_the_runner_s_own_are_asked_for_apart(db: Database, attempt: int) -> None:
    row = {"attempt_id": attempt, "name": "system/cpu_s", "step": None, "at": 1.0, "value": 1.0}
    await db.write(metrics.insert, [row])
    assert await db.read(metrics.names, attempt) == ["loss", "other"]
    assert await db.read(metrics.names, attempt, system=True) == ["system/cpu_s"]


async def test_the_queue_is_in_the_order_of_placement(db: Database) -> None:
    def fill(conn: Connection) -> list[int]:
        user = users.create(conn, "ada", Role.MEMBER, now=1.0).id
        priorities = (0, 5, 0, 5, -1, 7, 0)
        base = {"user_id": user, "state": "QUEUED", "spec": "{}", "submitted_at": 1.0}
        ids = jobs.insert(conn, [{**base, "priority": priority} for priority in priorities])
        jobs.insert(conn, [{**base, "state": "RUNNING", "priority": 9}])
        return ids

    a, b, c, d, e, f, g = await db.write(fill)
    order = [f, b, d, a, c, g, e]
    assert [row.id for row in await db.read(jobs.queue)] == order
    found: list[int] = []
    behind = 0
    while rows := await db.read(jobs.queue, behind=behind, limit=2):
        found += [row.id for row in rows]
        behind = found[-1]
    assert found == order
    assert await db.read(jobs.queue, user="nobody") == []
