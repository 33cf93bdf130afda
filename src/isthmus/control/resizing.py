"""Resizing: the policy `deadline-cost` at sites that ask for it, on jobs that can be sized.

    queue, live attempts, reported progress ─► one Pool for each kind of node ─► start with so many GPUs, stop these

A job that is stopped gets SIGTERM and its grace, leaves a checkpoint, is QUEUED again at once, and goes on with another
number of GPUs, or when there is room. It stays at the site where its checkpoint lies. Where a site has several kinds of
GPU nodes, a job goes to the kind on which it is in time at the least price. How long jobs take is learned from
those of the same kind that ended (`isthmus.placement.throughputs`).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.control import places
from isthmus.control.fleets import Fleet, fleet_of, fleets_of, hour_of, spread, suits
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
from isthmus.placement.snapshot import SiteSnapshot
from isthmus.placement.throughputs import UNSEEN, Estimate, Throughputs, kind_of

LEAST_PART = 0.03  # of a job's work that must have been reported before its speed is believed
LATE_S = 60.0  # an end that is written down later than this teaches nothing
FAR_S = 10 * 365 * 86400.0  # the deadline of a job that has none


@dataclass(slots=True)
class Steps:
    """What the supervisor is to do, and which needs are none of the ordinary plan's business."""

    starts: list[Assignment] = field(default_factory=list)
    stops: list[Live] = field(default_factory=list)
    handled: frozenset[Need] = frozenset()
    waiting: dict[Need, Waiting] = field(default_factory=dict)
    wake_s: float = 3600.0


class Resizing:
    """Keeps a pool for each site, with what it learned of the jobs. Used by the leading supervisor alone."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pools: dict[tuple[str, Fleet], Pool] = {}
        self.wants: dict[int, int] = {}  # by job, what it should have now
        self.throughputs = Throughputs()
        self._learned_to = 0.0  # ends up to this time are in there

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
        await self.learn(pools, now)
        fleets = {site.name: fleets_of(site) for site in pools}
        waiting: dict[str, dict[int, Need]] = {site.name: {} for site in pools}
        handled: set[Need] = set()
        for need, tickets in ready.items():
            home = home_of(need, pools, fleets) if need.sized else None
            if home is not None:
                handled.add(need)
                waiting[home].update({ticket.job: need for ticket in tickets})
        found.handled = frozenset(handled)
        for site in pools:
            here = [one for one in live.values() if one.site == site.name]
            running = {one.job_id: one for one in here if one.need.sized}
            if fleets[site.name] and (waiting[site.name] or running):
                others = [one for one in here if not one.need.sized]
                await self._decide(found, site, fleets[site.name], waiting[site.name], running, others, now)
        return found

    async def learn(self, pools: Sequence[SiteSnapshot], now: float) -> None:
        """Take in what the jobs that ended since the last look have shown."""
        since = self._learned_to

        def read(conn: Any) -> tuple[list[Any], list[Any]]:
            rows = attempt_rows.gpu_runs(conn, since)
            again = sorted({row.job_id for row in rows if row.number > 1})
            return rows, attempt_rows.standing_of(conn, again) if again else []

        rows, before = await self._db.read(read)
        kinds = {(site.name, fleet.node): fleet.kind for site in pools for fleet in fleets_of(site)}
        self._learned_to = max([self._learned_to, now - LATE_S, *(row.ended_at for row in rows)])
        for row in rows:
            kind = kinds.get((row.site, str(json.loads(row.plan).get("node", ""))))
            time_s = _whole_time(row, [one for one in before if one.job_id == row.job_id]) if kind else 0.0
            if kind and time_s:
                gpus = int(json.loads(row.plan)["gpus"])
                self.throughputs.add(kind_of(read_spec(row.spec)), kind, gpus, time_s)

    async def _decide(
        self,
        found: Steps,
        site: SiteSnapshot,
        fleets: Sequence[Fleet],
        waiting: Mapping[int, Need],
        running: Mapping[int, Live],
        others: Sequence[Live],
        now: float,
    ) -> None:
        members, epoch = await self.members(site, fleets, waiting, running, now)
        known = {int(one.job.id) for there in members.values() for one in there}
        kinds = " or ".join(dict.fromkeys(fleet.kind for fleet in fleets))
        for need in {need for job, need in waiting.items() if job not in known}:
            found.waiting[need] = Waiting(Reason.NO_SITE, f"{site.name}: its `sizing.times` say nothing of {kinds}")
        for fleet in fleets:
            if not members[fleet]:
                continue
            nodes = free_nodes(site, fleets, fleet, others)
            orders = self.pool(site, fleet).orders(now - epoch, nodes, members[fleet])
            mine_waiting = {
                int(one.job.id): waiting[int(one.job.id)] for one in members[fleet] if one.job.id in waiting
            }
            self._note(found, site, fleet, mine_waiting, running, orders)

    async def members(
        self,
        site: SiteSnapshot,
        fleets: Sequence[Fleet],
        waiting: Mapping[int, Need],
        running: Mapping[int, Live],
        now: float,
        deadlines: Mapping[int, float] | None = None,
    ) -> tuple[dict[Fleet, list[Member]], float]:
        """Which jobs belong to which kind of node, and the moment from which their times are counted.

        ``deadlines``: seconds since the epoch, of some jobs instead of their own.
        """
        ids = sorted({*waiting, *running})

        def read(conn: Any) -> tuple[dict[int, Any], list[Any]]:
            return job_rows.many(conn, ids), attempt_rows.standing_of(conn, ids)

        rows, attempts = await self._db.read(read)
        members: dict[Fleet, list[Member]] = {fleet: [] for fleet in fleets}
        undecided: list[tuple[dict[Fleet, Member], Fleet | None]] = []
        # Times are counted from the first of the jobs: as seconds since the epoch they would lose their fractions.
        epoch = min((row.submitted_at for row in rows.values()), default=now)
        for job in ids:
            if job in rows:
                mine = [row for row in attempts if row.job_id == job]
                ran_on = fleet_of(fleets, mine[-1].plan) if mine else None
                if job in running:
                    can = [fleet_of(fleets, json.dumps(running[job].plan)) or fleets[0]]
                else:
                    can = [one for one in fleets if suits(waiting[job], one)]
                could = {}
                for fleet in can:
                    known = self._times(rows[job], fleet)
                    if known:
                        could[fleet] = _member(rows[job], mine, running.get(job), fleet, known, epoch, now)
                        if deadlines is not None and job in deadlines:
                            could[fleet] = _due(could[fleet], deadlines[job] - epoch)
                if job in running:
                    members[can[0]].extend(could.values())
                elif could:
                    undecided.append((could, ran_on))
        spread(members, undecided, now - epoch, {fleet: hour_of(site, fleet) for fleet in fleets})
        return members, epoch

    def _times(self, row: Any, fleet: Fleet) -> tuple[Estimate, ...]:
        """What is known of a job's run times on these nodes: its own profile, its kind's, or a usual curve."""
        spec = read_spec(row.spec)
        sizing = spec.sizing or Sizing()
        if not sizing.times:
            learned = self.throughputs.run_times(kind_of(spec), fleet.kind, fleet.gpus)
            if learned:
                return learned
        times = run_times(
            sizing.times,
            fleet.kind,
            fleet.gpus,
            stated_s=float(spec.resources.time),
            stated_gpus=spec.resources.gpus,
        )
        # What a person says is taken at its word, a curve that was put through it is not.
        return tuple(
            Estimate(time_s, 0.0 if sizing.times or gpus == spec.resources.gpus else UNSEEN)
            for gpus, time_s in enumerate(times, 1)
        )

    def _note(
        self,
        found: Steps,
        site: SiteSnapshot,
        fleet: Fleet,
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

    def pool(self, site: SiteSnapshot, fleet: Fleet) -> Pool:
        pool = self._pools.get((site.name, fleet))
        if pool is not None:
            pool.say(hour_of(site, fleet), site.restart_s)
        else:
            from isthmus.placement.sizing.mixing import Mixing, Tuning

            method = Mixing(Tuning(least_part=LEAST_PART))
            pool = Pool(fleet.kind, fleet.gpus, hour_of(site, fleet), site.restart_s, method)
            still = fleets_of(site)
            self._pools = {key: known for key, known in self._pools.items() if key[0] != site.name or key[1] in still}
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


def free_nodes(site: SiteSnapshot, fleets: Sequence[Fleet], fleet: Fleet, others: Sequence[Live]) -> int:
    """How many of its nodes jobs whose number of GPUs nobody chooses leave."""
    taken = sum(
        places.gpus_of(one.plan, site) for one in others if len(fleets) == 1 or one.plan.get("node") == fleet.node
    )
    return max(0, fleet.nodes - math.ceil(taken / fleet.gpus - 1e-6))


def home_of(need: Need, sites: Sequence[SiteSnapshot], fleets: Mapping[str, Sequence[Fleet]]) -> str | None:
    """The site whose policy decides on this need: the first by name where it fits."""
    for site in sorted(sites, key=lambda one: one.name):
        if fleets[site.name] and not filters.first(filters.LASTING, need, site):
            return site.name
    return None


def _whole_time(row: Any, attempts: Sequence[Any]) -> float:
    """How long the whole job would have taken as this attempt ran; 0.0 where it shows nothing."""
    done = 1.0 if row.state == "COMPLETED" else _done(row.progress)
    if row.number > 1 and read_spec(row.spec).checkpoint:
        earlier = [
            _done(one.progress) for one in attempts if one.ended_at is not None and one.ended_at <= row.started_at
        ]
        if not any(earlier):
            return 0.0  # where it began is not known
        done -= max(earlier)
    ran_s = row.ended_at - row.started_at
    return float(ran_s / done) if done >= LEAST_PART and ran_s > 0 else 0.0


def _member(
    row: Any,
    attempts: Sequence[Any],
    live: Live | None,
    fleet: Fleet,
    known: tuple[Estimate, ...],
    epoch: float,
    now: float,
) -> Member:
    spec = read_spec(row.spec)
    sizing = spec.sizing or Sizing()
    release = row.submitted_at - epoch
    deadline = spec.deadline.timestamp() - epoch if spec.deadline is not None else release + FAR_S
    times = {fleet.kind: tuple(one.time_s for one in known)}
    doubts = {fleet.kind: tuple(one.uncertainty for one in known)}
    job = SizedJob(row.id, release, max(deadline, release), sizing.late_per_hour / HOUR_S, times, doubts)
    left = max(1e-6, 1.0 - max((_done(one.progress) for one in attempts), default=0.0)) if spec.checkpoint else 1.0
    if live is None:
        return Member(job, left, rigid=not spec.checkpoint)
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
        rigid=not spec.checkpoint,
    )


def _due(member: Member, deadline_s: float) -> Member:
    """The same with another deadline."""
    job = member.job
    least = min(max(deadline_s, job.release_s), job.release_s + FAR_S)
    return replace(member, job=replace(job, deadline_s=least))


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
