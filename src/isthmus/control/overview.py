"""The overview: what a person wants to know first: what needs them, what runs, what ended, what it took."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.knowledge import Knowledge, catalogue_of
from isthmus.control.rights import require
from isthmus.control.sites import Sites
from isthmus.control.views import job_view
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.states import JobState
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import JobView, Overview, UsageOf

DAY_S = 86400.0
SHOWN = 8  # of each kind
FAILED_S = 3 * DAY_S
LONG_S = 3600.0  # a wait that a person wants to hear of
SILENT_S = 600.0
WEEK_FRESH_S = 60.0  # for how long the week's usage is told again without being added up


class Overviews:
    """Puts overviews together. The week's usage, which looks at every attempt of it, is kept for a minute."""

    def __init__(self, db: Database, sites: Sites, clock: Clock) -> None:
        self._db = db
        self._sites = sites
        self._clock = clock
        self._week: tuple[UsageOf, ...] = ()
        self._week_at: float | None = None
        self._adding: asyncio.Task[None] | None = None

    async def of(self, caller: Caller, user: str = "") -> Overview:
        """Of one user's jobs, or of everybody's."""
        require(caller, Role.VIEWER, Scope.READ)
        found = await self._db.read(_read, user, self._clock.now().timestamp())
        sites = tuple(await self._sites.list(caller))
        return Overview(**found, sites=sites, week=await self.week(caller, user))

    async def week(self, caller: Caller, user: str = "") -> tuple[UsageOf, ...]:
        """What the last 7 days took, of one user or of everybody; no more than a minute old."""
        require(caller, Role.VIEWER, Scope.READ)
        week = await self._week_of(self._clock.now().timestamp())
        return tuple(one for one in week if not user or one.user == user)

    async def _week_of(self, now: float) -> Sequence[UsageOf]:
        age = None if self._week_at is None else self._clock.monotonic() - self._week_at
        if age is None or age > WEEK_FRESH_S:
            if self._adding is None or self._adding.done():
                self._adding = asyncio.create_task(self._add_up(now))
            if age is None:
                await asyncio.shield(self._adding)
        return self._week

    async def _add_up(self, now: float) -> None:
        self._week = await self._db.read(_usage, now)
        self._week_at = self._clock.monotonic()


def _read(conn: Connection, user: str, now: float) -> dict[str, Any]:
    live = [state.value for state in JobState if not state.ended]
    ended = [state.value for state in JobState if state.ended]
    day = now - DAY_S
    silent = job_rows.many(conn, attempt_rows.silent(conn, now - SILENT_S, limit=SHOWN))
    return {
        "counts": _states(job_rows.counts(conn, user=user, states=live)),
        "ended": _states(job_rows.ended_counts(conn, day, user=user)),
        "failed": _views(job_rows.ended_since(conn, now - FAILED_S, states=["FAILED"], user=user, limit=SHOWN)),
        "waiting": _views(
            job_rows.open_since(conn, now - LONG_S, states=["QUEUED", "STAGING", "PENDING"], user=user, limit=SHOWN)
        ),
        "silent": tuple(view for view in _views(silent.values()) if not user or view.user == user),
        "running": _views(
            job_rows.open_since(
                conn, now + DAY_S, states=["RUNNING", "COLLECTING"], user=user, oldest=False, limit=SHOWN
            )
        ),
        "finished": _views(job_rows.ended_since(conn, day, states=ended, user=user, limit=SHOWN)),
    }


def _states(counts: dict[str, int]) -> dict[JobState, int]:
    return {JobState(state): count for state, count in counts.items()}


def _views(rows: Any) -> tuple[JobView, ...]:
    return tuple(job_view(row) for row in rows)


def _usage(conn: Connection, now: float) -> tuple[UsageOf, ...]:
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - timedelta(days=6 - number) for number in range(7)]
    known = Knowledge(catalogue=catalogue_of(conn), at=now)
    priced = {
        row.name: (
            known.rates(places.read_site(row.spec).price),
            places.gpu_kinds(places.read_inventory(row.inventory)),
        )
        for row in site_rows.every(conn, removed=True)
    }
    found: dict[tuple[date, str, str], UsageOf] = {}
    for row in attempt_rows.usage(conn, [day.timestamp() for day in days], now):
        price, kinds = priced[row.site]
        gpu_hour = price.gpu(row.gpu_type or kinds.get(row.node, ""))
        for number, day in enumerate(days):
            cpu_h, gpu_h, node_h = ((getattr(row, f"{what}{number}") or 0.0) / 3600 for what in ("cpu", "gpu", "node"))
            if not node_h:
                continue
            cost = cpu_h * price.cpu_hour + gpu_h * gpu_hour + node_h * price.node_hour
            key = (day.date(), row.user, row.site)
            so_far = found.get(key) or UsageOf(day=key[0], user=key[1], site=key[2])
            found[key] = replace(
                so_far,
                cpu_h=so_far.cpu_h + cpu_h,
                gpu_h=so_far.gpu_h + gpu_h,
                node_h=so_far.node_h + node_h,
                cost=so_far.cost + cost,
            )
    return tuple(found.values())
