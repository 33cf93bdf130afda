"""The plan of a queue: how the jobs of sites with the policy `deadline-cost` would go on, and what that costs.

It is what the supervisor's own method decides, event after event, on what the database says now, if nothing else came
and all ran as expected. Nothing is decided here, and nothing kept.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.fleets import Fleet, fleet_of, fleets_of, hour_of
from isthmus.control.knowledge import catalogue_of, read_rules
from isthmus.control.live import Live
from isthmus.control.needs import Needs
from isthmus.control.resizing import FAR_S, Resizing, free_nodes, home_of
from isthmus.control.rights import require
from isthmus.control.sizedqueue import schedule
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Invalid, NotFound, nearest
from isthmus.domain.states import JobState
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import PlannedJob, PlannedRun, PlanView
from isthmus.placement.needs import Need
from isthmus.placement.policies import DEADLINE_COST
from isthmus.placement.sizing.pool import Member
from isthmus.placement.sizing.problem import HOUR_S
from isthmus.placement.sizing.schedule import Schedule
from isthmus.placement.snapshot import SiteSnapshot

MOST = 1000  # jobs of one kind of node that a plan is made for


@dataclass(frozen=True, slots=True)
class _Queue:
    """What is there of one site, from the database."""

    waiting: dict[int, Need]
    running: dict[int, Live]
    others: list[Live]


class QueuePlans:
    """Makes plans, one at a time, in a thread."""

    def __init__(self, db: Database, needs: Needs, clock: Clock) -> None:
        self._db = db
        self._needs = needs
        self._clock = clock
        self._turn = asyncio.Semaphore(1)

    async def plans(self, caller: Caller, site: str = "") -> list[PlanView]:
        """A plan for each kind of GPU nodes with jobs, of all sites with the policy or of one. Raises NotFound."""
        require(caller, Role.VIEWER, Scope.READ)
        await self._needs.refresh()
        snapshots, live, queued = await self._db.read(_read, self._clock.now().timestamp())
        if site and site not in snapshots:
            raise NotFound(f"There is no site {site!r}.", place="site", hint=nearest(site, snapshots))
        if site and snapshots[site].policy != DEADLINE_COST:
            raise Invalid(
                f"The site {site!r} does not decide by the policy {DEADLINE_COST}: jobs go as they ask, by priority.",
                place="site",
                hint=f"Set its policy to {DEADLINE_COST} for a plan.",
            )
        pools = [one for one in snapshots.values() if one.policy == DEADLINE_COST]
        now = self._clock.now().timestamp()
        resizing = Resizing(self._db)
        if pools:
            await resizing.learn(pools, now)
        found = []
        for one, queue in self._queues(pools, live, queued).items():
            fleets = fleets_of(snapshots[one])
            if (site and one != site) or not fleets or not (queue.waiting or queue.running):
                continue
            members, epoch = await resizing.members(snapshots[one], fleets, queue.waiting, queue.running, now)
            for fleet in fleets:
                nodes = free_nodes(snapshots[one], fleets, fleet, queue.others)
                if members[fleet] and nodes:
                    found.append(await self._plan(resizing, snapshots[one], fleet, nodes, members[fleet], epoch, now))
        return found

    def _queues(
        self, pools: Sequence[SiteSnapshot], live: Sequence[Any], queued: Sequence[Any]
    ) -> Mapping[str, _Queue]:
        queues = {one.name: _Queue({}, {}, []) for one in pools}
        fleets = {one.name: fleets_of(one) for one in pools}
        for row in live:
            if row.site_name not in queues:
                continue
            attempt = Live.of_row(row, self._needs.of(row.job_spec, row.owner_id, row.job_mem_bytes, row.job_zones))
            if attempt.need.sized:
                queues[row.site_name].running[attempt.job_id] = attempt
            else:
                queues[row.site_name].others.append(attempt)
        for row in queued:
            need = self._needs.of(row.spec, row.user_id, row.mem_bytes, row.zones)
            home = home_of(need, pools, fleets) if need.sized else None
            if home is not None:
                queues[home].waiting[row.id] = need
        return queues

    async def _plan(
        self,
        resizing: Resizing,
        site: SiteSnapshot,
        fleet: Fleet,
        nodes: int,
        members: list[Member],
        epoch: float,
        now: float,
    ) -> PlanView:
        if len(members) > MOST:
            raise Invalid(f"{len(members)} jobs are more than the {MOST} that a plan is made for.", place="site")
        async with self._turn:
            plan = await schedule(resizing, site, fleet, nodes, members, epoch, now)
        ids = [int(one.job.id) for one in members]

        def read(conn: Connection) -> tuple[Mapping[int, Any], list[Any]]:
            return job_rows.many(conn, ids), attempt_rows.standing_of(conn, ids)

        rows, attempts = await self._db.read(read)
        spent = _spent(attempts, site, now)
        return _view(site, fleet, nodes, members, plan, rows, spent, epoch, now)


def _spent(attempts: Sequence[Any], site: SiteSnapshot, now: float) -> dict[int, float]:
    """By job, the price of the GPUs that it has held, by their type."""
    import json

    fleets = fleets_of(site)
    spent: dict[int, float] = {}
    for row in attempts:
        if row.started_at:
            held_s = max(0.0, (row.ended_at or now) - row.started_at)
            gpus = int(json.loads(row.plan or "{}").get("gpus", 0))
            fleet = fleet_of(fleets, row.plan)
            gpu_hour = hour_of(site, fleet) if fleet is not None else site.gpu_hour
            spent[row.job_id] = spent.get(row.job_id, 0.0) + held_s * gpus * gpu_hour / HOUR_S
    return spent


def _view(
    site: SiteSnapshot,
    fleet: Fleet,
    nodes: int,
    members: Sequence[Member],
    schedule: Schedule,
    rows: Mapping[int, Any],
    spent: Mapping[int, float],
    epoch: float,
    now: float,
) -> PlanView:
    def moment(seconds: float) -> datetime:
        return datetime.fromtimestamp(now + seconds, UTC)

    jobs = []
    for member in members:
        job = int(member.job.id)
        mine = [run for run in schedule.runs if run.job == member.job.id]
        end_s = max((run.end_s for run in mine), default=0.0)
        due = member.job.deadline_s + epoch
        far = due - (member.job.release_s + epoch) >= FAR_S * (1 - 1e-9)
        held_s = sum((run.end_s - run.start_s) * run.gpus for run in mine)
        jobs.append(
            PlannedJob(
                job=job,
                name=rows[job].name if job in rows else "",
                user=rows[job].user_name if job in rows else "",
                left=member.left,
                gpus=member.gpus,
                deadline=None if far else datetime.fromtimestamp(due, UTC),
                ends_at=moment(end_s),
                late_s=0.0 if far else max(0.0, now + end_s - due),
                cost_so_far=round(spent.get(job, 0.0), 4),
                cost_expected=round(held_s * hour_of(site, fleet) / HOUR_S, 4),
            )
        )
    return PlanView(
        site=site.name,
        queue=fleet.queue,
        node=fleet.node,
        gpu_type=fleet.kind,
        nodes=nodes,
        gpus=fleet.gpus,
        at=moment(0.0),
        runs=tuple(
            PlannedRun(
                job=int(run.job), node=run.node, gpus=run.gpus, start_at=moment(run.start_s), end_at=moment(run.end_s)
            )
            for run in schedule.runs
        ),
        jobs=tuple(sorted(jobs, key=lambda one: one.ends_at)),
        cost_so_far=round(sum(one.cost_so_far for one in jobs), 4),
        cost_expected=round(sum(one.cost_expected for one in jobs), 4),
    )


def _read(conn: Connection, now: float) -> tuple[dict[str, SiteSnapshot], Sequence[Any], list[Any]]:
    """Sites by name, live attempts, jobs that wait."""
    known = replace(read_rules(conn, now), catalogue=catalogue_of(conn))
    snapshots = {
        row.name: places.snapshot(row, knowledge=known) for row in site_rows.every(conn) if row.state != "REMOVED"
    }
    queued = [
        row
        for row in job_rows.open_jobs(conn)
        if row.state == JobState.QUEUED and row.waiting_for <= 0 and not row.kill_by and '"sizing"' in row.spec
    ]
    return snapshots, attempt_rows.live(conn), queued
