"""The queue of sites with the policy `deadline-cost` on paper: how its jobs would go on by the live policy itself.

    waiting and live jobs that can be sized ─► one pool for each kind of node, as `resizing` makes them ─► schedules

Nothing comes in meanwhile, all runs as expected, and nothing is kept.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from isthmus.control.fleets import Fleet, fleets_of, hour_of
from isthmus.control.live import Live
from isthmus.control.resizing import Resizing, free_nodes, home_of
from isthmus.db.engine import Database
from isthmus.placement.forecast import Booked, Told
from isthmus.placement.needs import Need
from isthmus.placement.policies import DEADLINE_COST, Ticket
from isthmus.placement.sizing.pool import Member
from isthmus.placement.sizing.problem import HOUR_S, SizedJob
from isthmus.placement.sizing.schedule import Schedule
from isthmus.placement.snapshot import SiteSnapshot

DECISIONS = 20_000
MOST = 300  # jobs of one kind of node; a forecast takes more the ordinary way


@dataclass(slots=True)
class Played:
    """What becomes of the jobs that the policy sizes, by job, and what they hold of the sites meanwhile."""

    told: dict[int, Told] = field(default_factory=dict)
    booked: list[Booked] = field(default_factory=list)


async def schedule(
    resizing: Resizing,
    site: SiteSnapshot,
    fleet: Fleet,
    nodes: int,
    members: Sequence[Member],
    epoch: float,
    now: float,
) -> Schedule:
    """How the jobs of one kind of node would go on; times in seconds from now. Raises Invalid if they never end."""
    from isthmus.placement.sizing.simulate import simulate

    pool = resizing.pool(site, fleet)
    problem = pool.problem(nodes, [_from_now(one, now - epoch) for one in members])
    result = await asyncio.to_thread(
        simulate,
        problem,
        pool.method,
        restart_s=site.restart_s,
        begin=pool.under_way(nodes, members),
        rigid=frozenset(one.job.id for one in members if one.rigid),
        max_decisions=DECISIONS,
    )
    return result.schedule


async def play(
    db: Database,
    sites: Mapping[str, SiteSnapshot],
    queue: Mapping[Need, Sequence[Ticket]],
    live: Sequence[Live],
    now: float,
) -> Played:
    """All pools there are, one after the other. ``queue`` may name live jobs too: those are where they are."""
    found = Played()
    pools = [one for one in sites.values() if one.policy == DEADLINE_COST and fleets_of(one)]
    if not pools:
        return found
    fleets = {one.name: fleets_of(one) for one in pools}
    running = {one.job_id: one for one in live if one.need.sized and one.site in fleets}
    waiting: dict[str, dict[int, Need]] = {one.name: {} for one in pools}
    deadlines: dict[int, float] = {}
    for need, line in queue.items():
        home = home_of(need, pools, fleets) if need.sized else None
        for ticket in line:
            deadlines[ticket.job] = ticket.deadline
            if home is not None and ticket.job not in running:
                waiting[home][ticket.job] = need
    resizing = Resizing(db)
    await resizing.learn(pools, now)
    for site in pools:
        mine = {job: one for job, one in running.items() if one.site == site.name}
        others = [one for one in live if one.site == site.name and not one.need.sized]
        if not (mine or waiting[site.name]):
            continue
        here = fleets[site.name]
        members, epoch = await resizing.members(site, here, waiting[site.name], mine, now, deadlines)
        for fleet in here:
            nodes = free_nodes(site, here, fleet, others)
            if members[fleet] and nodes and len(members[fleet]) <= MOST:
                plan = await schedule(resizing, site, fleet, nodes, members[fleet], epoch, now)
                needs = {**waiting[site.name], **{job: one.need for job, one in mine.items()}}
                _tell(found, site, fleet, plan, needs, now)
    return found


def _tell(
    found: Played, site: SiteSnapshot, fleet: Fleet, plan: Schedule, needs: Mapping[int, Need], now: float
) -> None:
    an_hour = hour_of(site, fleet)
    for run in plan.runs:
        job = int(run.job)
        start, end = now + run.start_s, now + run.end_s
        known = found.told.get(job, Told(job, site.name, start, end))
        cost = known.cost + (end - start) * run.gpus * an_hour / HOUR_S
        found.told[job] = Told(job, site.name, min(known.start, start), max(known.end, end), cost)
        found.booked.append(Booked(start, end, job, site.name, replace(needs[job], gpus=run.gpus)))


def _from_now(member: Member, now: float) -> SizedJob:
    """Time begins now: what was submitted before can begin at once."""
    return replace(member.job, release_s=0.0, deadline_s=max(0.0, member.job.deadline_s - now))
