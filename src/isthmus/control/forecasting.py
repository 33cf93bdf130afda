"""What if: the queue's future on paper, as things are and with a change. Nothing of it is kept."""

import asyncio
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.live import Live, read_spec
from isthmus.control.needs import Needs
from isthmus.control.rights import require
from isthmus.control.sizedqueue import Played, play
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.placement import Forecast, Outcome, WhatIf, WhatIfView
from isthmus.domain.sites import SiteState
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.users import Caller, Role, Scope
from isthmus.placement import constraints
from isthmus.placement.forecast import Running, Told, forecast, hold
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms
from isthmus.placement.policies import USUAL_S, Ticket, find_policy
from isthmus.placement.scores import WEIGHTS
from isthmus.placement.snapshot import SiteSnapshot

MAX_JOBS = 5000
SHOWN = 20


@dataclasses.dataclass(slots=True)
class _Scene:
    """The queue, the sites and what runs there."""

    queue: dict[Need, list[Ticket]]
    sites: dict[str, SiteSnapshot]
    running: list[Running]
    terms: Terms
    names: dict[int, str]
    handed: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # those in sites' own queues, and
    # which sites they asked for
    left_out: int = 0
    live: list[Live] = dataclasses.field(default_factory=list)


class Forecasting:
    """Works in a thread: the server goes on meanwhile. One at a time."""

    def __init__(self, db: Database, needs: Needs, clock: Clock) -> None:
        self._db = db
        self._needs = needs
        self._clock = clock
        self._turn = asyncio.Semaphore(1)

    async def whatif(self, caller: Caller, change: WhatIf) -> WhatIfView:
        """Both forecasts. Raises Invalid with the place of what the change names wrongly."""
        require(caller, Role.VIEWER, Scope.READ)
        await self._needs.refresh()
        async with self._turn:
            scene = await self._db.read(self._scene)
            other = _changed(scene, change)
            show = {*change.show, *(int(job) for job in _jobs(change))}
            now = self._now()
            played = [await play(self._db, one.sites, one.queue, one.live, now) for one in (scene, other)]
            first = await asyncio.to_thread(_forecast, scene, played[0], show, now)
            second = await asyncio.to_thread(_forecast, other, played[1], show, now)
        notes = ["Jobs are taken to run as long as they may; those without a time limit, for an hour."]
        sized = len(played[0].told.keys() | played[1].told.keys())
        if sized:
            notes.append(f"{sized} jobs are sized by deadline-cost, as it does it live, and run as expected of them.")
        return WhatIfView(now=first, then=second, left_out=scene.left_out, notes=tuple(notes))

    def _scene(self, conn: Connection) -> _Scene:
        sites, knowledge = places.seen(conn, self._now())
        running: list[Running] = []
        scene = _Scene({}, sites, running, knowledge.terms(), {})
        handed: dict[int, str] = {}
        for row in attempt_rows.live(conn):
            if row.site_name not in sites:
                continue
            need = self._needs.of(row.job_spec, row.owner_id, row.job_mem_bytes, row.job_zones)
            scene.live.append(Live.of_row(row, need))
            plan = json.loads(row.plan)
            if AttemptState(row.state).rank < AttemptState.RUNNING.rank:
                handed[row.job_id] = row.site_name  # it waits in that site's queue, and holds nothing yet
                places.count(sites[row.site_name], plan, row.owner, True, -1)
                continue
            need = dataclasses.replace(need, gpus=int(plan.get("gpus", need.gpus)))
            end = (row.started_at or self._now()) + (need.time or USUAL_S)
            running.append(Running(row.job_id, row.site_name, need, end))
        at = {row.id: row.name for row in site_rows.every(conn)}
        waiting_rows = [
            row
            for row in job_rows.open_jobs(conn)
            if row.id in handed or (row.state == JobState.QUEUED and not row.waiting_for and not row.kill_by)
        ]
        waiting_rows.sort(key=lambda row: (-row.priority, row.id))
        scene.left_out = max(0, len(waiting_rows) - MAX_JOBS)
        for row in waiting_rows[:MAX_JOBS]:
            need = self._needs.of(row.spec, row.user_id, row.mem_bytes, row.zones, at.get(row.site_id, ""))
            if row.id in handed:
                scene.handed[row.id] = need.sites
                need = dataclasses.replace(need, sites=(handed[row.id],))
            deadline = math.inf if row.deadline is None else row.deadline
            scene.queue.setdefault(need, []).append(Ticket(-row.priority, row.id, row.submitted_at, deadline))
            scene.names[row.id] = read_spec(row.spec).name
        return scene

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _jobs(change: WhatIf) -> set[str]:
    return {*change.deadlines, *change.priorities, *change.constraints}


def _changed(scene: _Scene, change: WhatIf) -> _Scene:
    """The same scene with the change. Raises Invalid."""
    sites = {name: site.copy() for name, site in scene.sites.items()}
    named = [(f"nodes.{name}", name) for name in change.nodes]
    named += [(f"without[{number}]", name) for number, name in enumerate(change.without)]
    named += [(f"policies.{name}", name) for name in change.policies]
    for place, name in named:
        if name not in sites:
            raise Invalid(f"There is no site {name!r}.", place=place, hint=nearest(name, sites))
    for name, more in change.nodes.items():
        sites[name] = _resized(sites[name], more)
    for name in change.without:
        sites[name].state = SiteState.DRAINING
    for name, policy in change.policies.items():
        try:
            sites[name].policy = find_policy(policy).name
        except Invalid as error:
            error.place = f"policies.{name}"
            raise
        sites[name].queue_policies = {}
    for name in change.weights:
        if name not in WEIGHTS:
            raise Invalid(f"There is no score {name!r}.", place=f"weights.{name}", hint=nearest(name, WEIGHTS))
    for name, weight in change.weights.items():
        if not 0 <= weight <= 1e6:
            raise Invalid(f"{weight:g} can't be: it must be from 0 to 1e6.", place=f"weights.{name}")
    queue = _requeued(scene.queue, change, scene.handed)
    terms = dataclasses.replace(scene.terms, weights={**scene.terms.weights, **change.weights})
    return dataclasses.replace(scene, sites=sites, queue=queue, terms=terms)


def _requeued(
    queue: Mapping[Need, Sequence[Ticket]], change: WhatIf, handed: Mapping[int, tuple[str, ...]]
) -> dict[Need, list[Ticket]]:
    """The queue with other deadlines, priorities and constraints; who waits at a site that is gone may go elsewhere."""
    known = {str(ticket.job) for line in queue.values() for ticket in line}
    for field in ("deadlines", "priorities", "constraints"):
        for job in getattr(change, field):
            if job not in known:
                raise Invalid(
                    f"{job!r} is no job that waits for a place.",
                    place=f"{field}.{job}",
                    hint="`isthmus job ps --queue` lists those that do.",
                )
    for job, when in change.deadlines.items():
        if when.tzinfo is None:
            raise Invalid("It has no time zone.", place=f"deadlines.{job}", hint="Write it like 2030-01-31T12:00:00Z.")
    found: dict[Need, list[Ticket]] = {}
    for need, line in queue.items():
        for ticket in line:
            job = str(ticket.job)
            mine, asks = ticket, need
            if job in change.deadlines:
                mine = mine._replace(deadline=change.deadlines[job].timestamp())
            if job in change.priorities:
                mine = mine._replace(rank=-change.priorities[job])
            if job in change.constraints:
                read = constraints.check(change.constraints[job], place=f"constraints.{job}")
                asks = dataclasses.replace(asks, constraints=read)
            if ticket.job in handed and not set(asks.sites) - set(change.without):
                asks = dataclasses.replace(asks, sites=handed[ticket.job])
            found.setdefault(asks, []).append(mine)
    return {need: sorted(line) for need, line in found.items()}


def _resized(site: SiteSnapshot, more: int) -> SiteSnapshot:
    """The site with so many more of its largest kind of node, or fewer; none is taken away that is not there."""
    kinds = {node.name: node for queue in site.queues for node in queue.nodes}
    if not kinds:
        return site
    chosen = max(kinds.values(), key=lambda node: (sum(kind.count for kind in node.gpus), node.cpus, node.name))
    count = max(0, chosen.count + more)
    queues = tuple(
        dataclasses.replace(
            queue,
            nodes=tuple(
                dataclasses.replace(node, count=count) if node.name == chosen.name else node for node in queue.nodes
            ),
        )
        for queue in site.queues
    )
    fresh = site.copy()
    fresh.queues = queues
    fresh.measure()
    return fresh


def _forecast(scene: _Scene, played: Played, show: set[int], now: float) -> Forecast:
    """``played``: what becomes of the jobs that a policy sizes; the others find what these leave."""
    queue = {
        need: rest
        for need, line in scene.queue.items()
        if (rest := [one for one in line if one.job not in played.told])
    }
    sites = {name: site.copy() for name, site in scene.sites.items()}
    running = [one for one in scene.running if one.job not in played.told]
    for one in scene.running:
        if one.job in played.told:  # what it holds is booked
            hold(sites[one.site], one.need, -1)
    told = forecast(queue, list(sites.values()), running, now, scene.terms, booked=played.booked)
    told.update((job, one) for job, one in played.told.items() if job in scene.names)
    tickets = {ticket.job: ticket for line in scene.queue.values() for ticket in line}
    started = [one for one in told.values() if one.site]
    late = {job: _late(told[job], ticket, now) for job, ticket in tickets.items()}
    shown = sorted(show & tickets.keys()) or [ticket.job for ticket in sorted(tickets.values())[:SHOWN]]
    waits = [one.start - tickets[one.job].submitted_at for one in started]
    return Forecast(
        jobs=len(told),
        never=len(told) - len(started),
        late=sum(span > 0 for span in late.values()),
        mean_wait_s=round(sum(waits) / len(waits), 3) if waits else 0.0,
        last_end_s=round(max((one.end - now for one in started), default=0.0), 3),
        cost=round(sum(one.cost for one in started), 4),
        shown=tuple(_outcome(told[job], scene.names.get(job, ""), late[job], now) for job in shown),
    )


def _late(one: Told, ticket: Ticket, now: float) -> float:
    """Seconds after its deadline; of a job that never starts, those that are over by now, a second at least."""
    if not math.isfinite(ticket.deadline):
        return 0.0
    return max(0.0, one.end - ticket.deadline) if one.site else max(1.0, now - ticket.deadline)


def _outcome(one: Told, name: str, late_s: float, now: float) -> Outcome:
    return Outcome(
        job=one.job,
        name=name,
        site=one.site,
        start_s=round(one.start - now, 3) if one.site else None,
        end_s=round(one.end - now, 3) if one.site else None,
        late_s=round(late_s, 3),
        cost=round(one.cost, 4),
    )
