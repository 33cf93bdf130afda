"""Resizing: the policy `deadline-cost` at sites that ask for it, on jobs that can be sized.

    queue, live attempts, reported progress ─► one Pool for each site ─► start with so many GPUs, stop these

A job that is stopped gets SIGTERM and its grace, leaves a checkpoint, is QUEUED again at once, and goes on with another
number of GPUs, or when there is room. It stays at the site where its checkpoint lies.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isthmus.control.live import SIZED, STOPPED, Live, read_spec
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db.engine import Database
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobSpec, Sizing
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState
from isthmus.placement import filters
from isthmus.placement.needs import Need
from isthmus.placement.performance import run_times
from isthmus.placement.plan import Assignment, Ticket, Waiting
from isthmus.placement.policies import DEADLINE_COST
from isthmus.placement.sizing.pool import Member, Orders, Pool
from isthmus.placement.sizing.problem import HOUR_S, SizedJob
from isthmus.placement.snapshot import SiteSnapshot, gpus_of

LEAST_PART = 0.03  # of a job's work that must have been reported before its speed is believed
FAR_S = 10 * 365 * 86400.0  # the deadline of a job that has none


@dataclass(slots=True)
class Steps:
    """What the supervisor is to do, and which needs are none of the ordinary plan's business."""

    starts: list[Assignment] = field(default_factory=list)
    stops: list[Live] = field(default_factory=list)
    handled: frozenset[Need] = frozenset()
    waiting: dict[Need, Waiting] = field(default_factory=dict)
    wake_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class _Fleet:
    """The GPU nodes of a site that are alike; of several kinds, those with the most GPUs in all."""

    queue: str
    node: str
    kind: str
    gpus: int
    nodes: int


class Resizing:
    """Keeps a pool for each site, with what it learned of the jobs. Used by the leading supervisor alone."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pools: dict[tuple[str, _Fleet], Pool] = {}
        self.wants: dict[int, int] = {}  # by job, what it should have now

    async def steps(
        self,
        sites: Iterable[SiteSnapshot],
        ready: Mapping[Need, Sequence[Ticket]],
        live: Mapping[int, Live],
        now: float,
    ) -> Steps:
        """Decide for all pools. ``now`` in seconds since the epoch. Costs nothing where no site has the policy."""
        found = Steps()
        pools = [site for site in sites if site.policy == DEADLINE_COST]
        if not pools:
            return found
        fleets = {site.name: _fleet(site) for site in pools}
        waiting: dict[str, dict[int, Need]] = {site.name: {} for site in pools}
        handled: set[Need] = set()
        for need, tickets in ready.items():
            home = _home(need, pools, fleets) if need.sized else None
            if home is not None:
                handled.add(need)
                waiting[home].update({ticket.job: need for ticket in tickets})
        found.handled = frozenset(handled)
        for site in pools:
            fleet = fleets[site.name]
            running = {job: one for job, one in live.items() if one.site == site.name and one.need.sized}
            if fleet is not None and (waiting[site.name] or running):
                await self._decide(found, site, fleet, waiting[site.name], running, now)
        return found

    async def _decide(
        self,
        found: Steps,
        site: SiteSnapshot,
        fleet: _Fleet,
        waiting: Mapping[int, Need],
        running: Mapping[int, Live],
        now: float,
    ) -> None:
        ids = sorted({*waiting, *running})

        def read(conn: Any) -> tuple[dict[int, Any], list[Any]]:
            return job_rows.many(conn, ids), attempt_rows.standing_of(conn, ids)

        rows, attempts = await self._db.read(read)
        members: list[Member] = []
        # Times are counted from the first of the jobs: as seconds since the epoch they would lose their fractions.
        epoch = min((row.submitted_at for row in rows.values()), default=now)
        for job in ids:
            if job in rows:
                mine = [row for row in attempts if row.job_id == job]
                member = _member(rows[job], mine, running.get(job), fleet, epoch, now)
                if member is not None:
                    members.append(member)
        taken = site.used_gpus - sum(int(one.plan.get("gpus", 0)) for one in running.values())
        nodes = max(0, fleet.nodes - -(-max(0, taken) // fleet.gpus))
        orders = self._pool(site, fleet).orders(now - epoch, nodes, members)
        self._note(found, site, fleet, waiting, running, orders)

    def _note(
        self,
        found: Steps,
        site: SiteSnapshot,
        fleet: _Fleet,
        waiting: Mapping[int, Need],
        running: Mapping[int, Live],
        orders: Orders,
    ) -> None:
        found.wake_s = min(found.wake_s, orders.wake_s)
        self.wants.update({int(job): gpus for job, gpus in orders.wants.items()})
        for job, gpus in orders.start.items():
            if int(job) in waiting and not filters.first((filters.healthy, filters.limits), waiting[int(job)], site):
                found.starts.append(Assignment(int(job), site.name, fleet.queue, fleet.node, gpus))
        started = {one.job for one in found.starts}
        for job, need in waiting.items():
            if job not in started:
                found.waiting[need] = Waiting(
                    Reason.CAPACITY, f"{site.name}: its GPUs are worth more to other jobs now"
                )
        found.stops.extend(running[int(job)] for job in orders.stop)

    def _pool(self, site: SiteSnapshot, fleet: _Fleet) -> Pool:
        pool = self._pools.get((site.name, fleet))
        if pool is None:
            from isthmus.placement.sizing.mixing import Mixing, Tuning

            method = Mixing(Tuning(least_part=LEAST_PART))
            pool = Pool(fleet.kind, fleet.gpus, site.gpu_hour, site.restart_s, method)
            self._pools = {key: known for key, known in self._pools.items() if key[0] != site.name}
            self._pools[site.name, fleet] = pool
        return pool


def check_policy() -> None:
    """Raise Invalid where what the policy needs is not installed."""
    from importlib.util import find_spec

    if find_spec("numpy") is None:
        raise Invalid(
            f"The policy {DEADLINE_COST!r} needs numpy, which is not installed.",
            place="policy",
            hint="pip install 'isthmus[placement]', where the control plane runs.",
        )


def _home(need: Need, sites: Sequence[SiteSnapshot], fleets: Mapping[str, _Fleet | None]) -> str | None:
    """The site whose policy decides on this need: the first by name where it fits."""
    for site in sorted(sites, key=lambda one: one.name):
        if fleets[site.name] is not None and not filters.first(filters.LASTING, need, site):
            return site.name
    return None


def _fleet(site: SiteSnapshot) -> _Fleet | None:
    found: dict[tuple[str, str, str, int], int] = {}
    for queue in sorted(site.queues, key=lambda one: not one.default):
        for node in queue.nodes:
            if queue.up and gpus_of(node):
                key = (queue.name, node.name, node.gpus[0].type, gpus_of(node))
                found[key] = found.get(key, 0) + node.count
    if not found:
        return None
    (queue_name, node_name, kind, gpus), nodes = max(found.items(), key=lambda one: one[0][3] * one[1])
    return _Fleet(queue_name, node_name, kind or "gpu", gpus, nodes)


def _member(
    row: Any, attempts: Sequence[Any], live: Live | None, fleet: _Fleet, epoch: float, now: float
) -> Member | None:
    spec = read_spec(row.spec)
    sizing = spec.sizing or Sizing()
    times = run_times(
        sizing.times,
        fleet.kind,
        fleet.gpus,
        stated_s=float(spec.resources.time),
        stated_gpus=spec.resources.gpus,
    )
    if not times:
        return None
    release = row.submitted_at - epoch
    deadline = spec.deadline.timestamp() - epoch if spec.deadline is not None else release + FAR_S
    job = SizedJob(row.id, release, max(deadline, release), sizing.late_per_hour / HOUR_S, {fleet.kind: times})
    left = max(1e-6, 1.0 - max((_done(one.progress) for one in attempts), default=0.0)) if spec.checkpoint else 1.0
    if live is None:
        return Member(job, left)
    if not spec.checkpoint:
        left = max(1e-6, 1.0 - _done(attempts[-1].progress)) if attempts else 1.0
    began = attempts[-1].started_at if attempts else None
    ran_s = max(0.0, now - began) if began else 0.0
    settled = live.state is AttemptState.RUNNING and ran_s > 0
    return Member(
        job,
        left,
        gpus=0 if live.plan.get(STOPPED) else int(live.plan.get("gpus", 0)),
        fixed=not _can_stop(spec, live) or not settled,
        ran_s=ran_s,
        stopping=bool(live.plan.get(STOPPED)),
    )


def _can_stop(spec: JobSpec, live: Live) -> bool:
    return spec.checkpoint and not live.kill_requested and bool(live.plan.get(SIZED))


def _done(progress: str) -> float:
    """The part of the work that a progress report says is done."""
    if not progress:
        return 0.0
    said = json.loads(progress)
    total = said.get("total")
    done = float(said.get("done") or 0.0)
    return min(1.0, done / float(total)) if total else min(1.0, done)
