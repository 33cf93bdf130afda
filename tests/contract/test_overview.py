"""The overview, on both databases: what needs somebody, and what the week took."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.doctor import Doctor
from isthmus.control.leadership import LEASE
from isthmus.control.overview import WEEK_FRESH_S, Overviews
from isthmus.control.sessions import Sessions
from isthmus.control.sites import Sites
from isthmus.control.vault import Vault
from isthmus.data.store import FolderStore
from isthmus.db import attempts, jobs, leases, sites, users
from isthmus.db.engine import Database
from isthmus.domain.errors import Forbidden
from isthmus.domain.sites import Health, Price, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.users import Caller, Role
from isthmus.domain.views import Check
from isthmus.testing.clock import ManualClock

HOUR = 3600.0


class Plane:
    def __init__(self, db: Database, folder: Path) -> None:
        self.db, self.clock = db, ManualClock()
        vault = Vault.open(folder)
        self.sessions = Sessions(db, vault, instance="12345678", data=folder)
        self.overviews = Overviews(db, Sites(db, self.sessions, vault, self.clock), self.clock)
        self.now = self.clock.now().timestamp()
        self.count = 0

    async def start(self) -> Caller:
        def make(conn: Connection) -> Caller:
            for name in ("ada", "bob"):
                users.create(conn, name, Role.MEMBER, now=1.0)
            spec = SiteSpec(name="box", kind="local", price=Price(cpu_hour=0.5, gpu_hour=2.0, node_hour=0.25))
            sites.add(conn, "box", places.write_site(spec), now=1.0)
            return Caller(user=users.get(conn, "ada"))

        return await self.db.write(make)

    async def job(
        self, state: str, *, user: int = 1, ran: tuple[float, float | None] | None = None, **more: Any
    ) -> int:
        """A job; ``ran``: hours ago that its attempt began and ended."""

        def make(conn: Connection) -> int:
            self.count += 1
            begin = self.now - ran[0] * HOUR if ran else None
            end = self.now - ran[1] * HOUR if ran and ran[1] is not None else None
            row = {
                "user_id": user,
                "name": f"j{self.count}",
                "state": state,
                "spec": "{}",
                "submitted_at": self.now - 10,
            }
            ended = end if JobState(state).ended else None
            (made,) = jobs.insert(conn, [{**row, "started_at": begin, "ended_at": ended, **more}])
            if ran:
                plan = json.dumps({"cpus": 4, "mem": 0, "gpus": 1, "nodes": 2})
                attempt = {"key": f"k{made}", "job_id": made, "number": 1, "site_id": 1, "user_id": user}
                live = {"live": end is None, "state": "RUNNING" if end is None else "COMPLETED", "heard_at": begin}
                times = {"created_at": begin, "started_at": begin, "ended_at": end}
                attempts.insert(conn, [{**attempt, **live, **times, "plan": plan, "token_hash": ""}])
            return made

        return await self.db.write(make)


@pytest.fixture
async def plane(db: Database, tmp_path: Path) -> AsyncIterator[Plane]:
    made = Plane(db, tmp_path)
    yield made
    await made.sessions.close()


async def test_what_needs_somebody(plane: Plane) -> None:
    caller = await plane.start()
    failed = await plane.job("FAILED", ran=(3, 2))
    await plane.job("FAILED", ran=(24 * 9, 24 * 8))  # long ago
    silent = await plane.job("RUNNING", ran=(1, None))
    long_waiting = await plane.job("QUEUED", submitted_at=plane.now - 2 * HOUR)
    await plane.job("QUEUED")
    theirs = await plane.job("COMPLETED", user=2, ran=(5, 4))
    found = await plane.overviews.of(caller)
    assert [job.id for job in found.failed] == [failed]
    assert [job.id for job in found.silent] == [silent]
    assert [job.id for job in found.waiting] == [long_waiting]
    assert [job.id for job in found.running] == [silent]
    assert [job.id for job in found.finished] == [failed, theirs]
    assert found.counts == {JobState.RUNNING: 1, JobState.QUEUED: 2}
    assert found.ended == {JobState.FAILED: 1, JobState.COMPLETED: 1}
    assert [site.name for site in found.sites] == ["box"]
    mine = await plane.overviews.of(caller, "bob")
    assert ([job.id for job in mine.finished], mine.failed, mine.silent, mine.counts) == ([theirs], (), (), {})


async def test_the_week_adds_up_by_day_user_and_site(plane: Plane) -> None:
    caller = await plane.start()
    # The clock may stand anywhere in a day: an attempt that crosses midnight counts on both sides of it.
    await plane.job("COMPLETED", ran=(30, 27))
    await plane.job("COMPLETED", user=2, ran=(24 * 10, 24 * 6.5))  # began before the week: what lies within counts
    await plane.job("RUNNING", user=2, ran=(0.5, None))
    found = await plane.overviews.of(caller)
    ada = [one for one in found.week if one.user == "ada"]
    assert sum(one.gpu_h for one in ada) == pytest.approx(3 * 2)  # 3 hours, on each of 2 nodes 1 GPU
    assert sum(one.cpu_h for one in ada) == pytest.approx(3 * 8)
    assert sum(one.node_h for one in ada) == pytest.approx(3 * 2)
    assert sum(one.cost for one in ada) == pytest.approx(3 * (8 * 0.5 + 2 * 2.0 + 2 * 0.25))
    today = datetime.fromtimestamp(plane.now, UTC)
    first = (today - timedelta(days=6)).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    within = max(0.0, (plane.now - 24 * 6.5 * HOUR) - first) / HOUR
    bob = sum(one.gpu_h for one in found.week if one.user == "bob")
    assert bob == pytest.approx((within + 0.5) * 2)
    assert all(one.site == "box" for one in found.week)
    assert (await plane.overviews.of(caller, "ada")).week == tuple(ada)


async def test_the_week_is_added_up_once_a_minute(plane: Plane) -> None:
    caller = await plane.start()
    assert (await plane.overviews.of(caller)).week == ()
    await plane.job("COMPLETED", ran=(2, 1))
    assert (await plane.overviews.of(caller)).week == ()
    await plane.clock.advance(WEEK_FRESH_S + 1)
    await plane.overviews.of(caller)  # is told what was, and adds up behind it
    assert plane.overviews._adding is not None
    await plane.overviews._adding
    assert len((await plane.overviews.of(caller)).week) == 1


async def test_the_doctor_says_what_is_not_well(plane: Plane, db: Database, tmp_path: Path) -> None:
    caller = await plane.start()
    store = FolderStore(tmp_path / "store")
    store.prepare()
    known = Sites(db, plane.sessions, Vault.open(tmp_path), plane.clock)
    doctor = Doctor(db, known, store, tmp_path / "not" / "yet", version="1.2")

    async def found() -> dict[str, Check]:
        return {check.what: check for check in await doctor.checks(caller)}

    before = await found()
    assert list(before) == ["server", "database", "supervisor", "store", "disk", "site box"]
    assert {what for what, check in before.items() if check.result != "ok"} == {"supervisor"}
    assert before["server"].found.startswith("1.2, Python 3.")
    assert before["database"].found.startswith(db.kind)
    now = await db.read(leases.clock)
    await db.write(leases.acquire, LEASE, "host-1", now=now, ttl_s=60.0)
    box = await db.read(sites.get, "box")
    await db.write(sites.change, box.id, health=Health.UNREACHABLE.value, health_message="no route")
    after = await found()
    assert after["supervisor"].found == "host-1 leads"
    assert (after["site box"].result, after["site box"].hint) == ("fail", "isthmus site test box")
    assert "no route" in after["site box"].found
    with pytest.raises(Forbidden):
        await doctor.checks(Caller(user=caller.user, scopes=frozenset()))
