"""The supervisor: the loop that brings what is into line with what is asked for.

    wake ─► take what changed ─► plan (placement, pure) ─► commit attempts ─► hand them to the workers
      ▲                                                                            │
      └──────────────── an attempt moved, a job or a site changed, time ◄──────────┘

One process leads at a time, by a lease; every write of its checks that the lease is still its own, so a leader that
was asleep can't change anything. What it keeps in memory it can load again at any moment.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from isthmus.control import places, transactions
from isthmus.control.backlog import Backlog
from isthmus.control.cleaning import sweep
from isthmus.control.dispatch import Dispatcher
from isthmus.control.knowledge import Knowledge
from isthmus.control.knowledge import read as read_knowledge
from isthmus.control.leadership import Leadership, LostLease
from isthmus.control.lifecycle import LONGEST_DELAY_S
from isthmus.control.live import STOPPED, Live
from isthmus.control.metering import Metered, Metering
from isthmus.control.needs import Mark, Needs
from isthmus.control.resizing import Resizing
from isthmus.control.sessions import Sessions
from isthmus.control.worker import CROWD, Worker
from isthmus.db import attempts as attempt_rows
from isthmus.db import figures
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.db.notifications import PLACEMENT, SUPERVISOR
from isthmus.domain.clock import Clock
from isthmus.domain.errors import IsthmusError, SiteError, Unavailable
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.states import AttemptState, JobState
from isthmus.placement.backfill import Release
from isthmus.placement.needs import Need
from isthmus.placement.plan import Assignment, Plan, Ticket, plan
from isthmus.placement.snapshot import SiteSnapshot
from isthmus.sites.base import Site, Submission

log = logging.getLogger(__name__)

T = TypeVar("T")

NOTED = 200  # jobs of a need whose reason for waiting is written down; the others share it
LONGEST_SLEEP_S = 60.0
SWEEP_S = 600.0
GATHER_S = 0.03  # what becomes free within this time is given away in one cycle, where many attempts are live
LEARN_S = 60.0  # between looks at what is known beside the sites' rows, while attempts begin or end
LEARN_IDLE_S = 900.0  # between them, where nothing happens: use of long ago counts less
VISIT_S = 5.0  # between looks for sites to ask, though nothing of ours is there
LONGEST_VISIT_S = 30.0  # between questions to one of them that goes on being full
PROBED = 0  # stands for whoever probed the site, until a worker has asked it
KEEP_S = 7 * 86400.0  # folders of ended attempts at their sites


class Place:
    """One site of the leading supervisor: its row, what placement sees, a worker for each user with jobs there."""

    def __init__(self, row: Any, snapshot: SiteSnapshot) -> None:
        self.row = row
        self.snapshot = snapshot
        self.workers: dict[int, Worker] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.others = {PROBED: snapshot.used_jobs}  # other jobs there, by who saw them
        self.troubles: dict[int, str] = {}
        self.visit: asyncio.Task[None] | None = None
        self.visit_every, self.visit_at = VISIT_S, 0.0  # rarer while a full site says the same; by the monotonic clock


class Supervisor:
    """Leads when it can, and waits to lead when it can't. ``run`` works until cancelled."""

    def __init__(
        self,
        db: Database,
        sessions: Sessions,
        needs: Needs,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        name: str = "",
        keep_s: float = KEEP_S,
    ) -> None:
        self.db = db
        self.clock = clock
        self._leadership = Leadership(db, clock, name)
        self.name = self._leadership.name
        self.keep_s = keep_s
        self.leading = asyncio.Event()
        self._sessions = sessions
        self._needs = needs
        self._dispatcher = dispatcher
        self._backlog = Backlog()
        self._resizing = Resizing(db)
        self._metering = Metering(clock)
        self._knowledge = Knowledge()
        self._places: dict[str, Place] = {}
        self._live: dict[int, Live] = {}  # by job
        self._moved = False  # an attempt began or ended since what is known was read
        self._freed = asyncio.Event()  # room at a site, or its health, changed: plan again
        self._noted: dict[Need, tuple[Reason, str]] = {}
        self._fits: dict[Need, tuple[str, ...]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.cycles = 0
        self.last_cycle_s = 0.0

    async def run(self) -> None:
        """Lead whenever no other does, until cancelled."""
        while True:
            await self._leadership.win()
            log.info("supervisor %s leads", self.name)
            try:
                await self._reign()
            except* (LostLease, Unavailable) as group:
                log.warning("supervisor %s leads no more: %s", self.name, group.exceptions[0])
                await self.clock.sleep(1.0)
            finally:
                await self._abdicate()

    async def _abdicate(self) -> None:
        self.leading.clear()
        await self._metering.close()
        self._places.clear()
        self._live.clear()
        self._backlog = Backlog()
        await self._leadership.release()

    async def _reign(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._leadership.keep())
            group.create_task(self._sweep())
            group.create_task(self._visit())
            await self._load()
            group.create_task(self._learn())
            self.leading.set()
            with self.db.watch(SUPERVISOR) as news:
                news.set()
                while True:
                    look = news.is_set()
                    news.clear()
                    self._freed.clear()
                    began = self.clock.monotonic()
                    sleep_s = await self._cycle(look)
                    self.last_cycle_s = self.clock.monotonic() - began
                    waits = [asyncio.create_task(event.wait()) for event in (news, self._freed)]
                    done, _ = await asyncio.wait(waits, timeout=sleep_s, return_when=asyncio.FIRST_COMPLETED)
                    for wait in waits:
                        wait.cancel()
                    if not done:
                        news.set()  # now and then, look though nobody said anything
                    elif len(self._live) > CROWD and not news.is_set():
                        await self.clock.sleep(began + GATHER_S - self.clock.monotonic())

    async def _sweep(self) -> None:
        """Clean up now and then what ended long ago."""
        while True:
            await self.clock.sleep(SWEEP_S)
            try:
                await sweep(self.db, self._sessions, self.clock.now().timestamp(), self.keep_s)
            except SiteError as error:
                log.info("cleaning waits: %s", error)

    async def _visit(self) -> None:
        """Ask sites at which nothing of ours is, where what was last seen of them keeps jobs away."""
        while True:
            await self.clock.sleep(VISIT_S)
            now = self.clock.monotonic()
            for place in list(self._places.values()):
                full = self._backlog.ready and any(place.others.values()) and now >= place.visit_at
                away = place.snapshot.health is Health.UNREACHABLE
                asked = any(worker.live for worker in place.workers.values())
                if (full or away) and not asked and place.visit is None:
                    assert self._group is not None
                    place.visit = self._group.create_task(self._visit_one(place))

    async def _visit_one(self, place: Place) -> None:
        before = dict(place.others)
        try:
            users = [user_id for user_id in place.others if user_id != PROBED] or list(place.workers)
            for user_id in users or self._sessions.owners_of(place.row.id)[:1]:
                await self._worker(place, user_id).ask()
        finally:
            place.visit = None
        if sum(place.others.values()) != sum(before.values()):
            place.visit_every = VISIT_S
            self._freed.set()
        else:
            place.visit_every = min(2 * place.visit_every, LONGEST_VISIT_S)
        place.visit_at = self.clock.monotonic() + place.visit_every

    async def _learn(self) -> None:
        """Ask for the sites' figures, and take in what is known, now and then and when somebody changed the rules."""
        with self.db.watch(PLACEMENT) as news:
            news.set()  # what nobody asked since the last leader is asked at once
            read_at = -math.inf
            while True:
                changed = news.is_set()
                news.clear()
                sites = [_metered(place) for place in self._places.values()]
                found = await self._metering.round(self._knowledge, sites, now=changed)
                if found:
                    await self.record(figures.put, found)
                before = self._knowledge
                if changed or found or self._moved or self.clock.monotonic() - read_at >= LEARN_IDLE_S:
                    read_at, self._moved = self.clock.monotonic(), False
                    await self._know()
                if changed and before.rules.metrics != self._knowledge.rules.metrics:
                    await self.record(figures.keep_only, list(self._knowledge.rules.metrics))
                    news.set()  # new metrics: ask for their figures at once
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LEARN_S, self._metering.soonest(self._knowledge))):
                        await news.wait()

    async def _know(self) -> None:
        """Read what is known, and look at the sites in its light."""
        now = self.clock.now().timestamp()
        specs = [places.read_site(place.row.spec) for place in self._places.values()]
        before = [_view(place.snapshot) for place in self._places.values()]
        self._knowledge = await self.db.read(read_knowledge, now, specs)
        for place in self._places.values():
            self._knowledge.furnish(place.snapshot, place.row.id, places.read_site(place.row.spec))
        if [_view(place.snapshot) for place in self._places.values()] != before:
            self._fits.clear()  # a constraint may name what has become a metric
            self._freed.set()

    # ---- what is

    async def _load(self) -> None:
        """Everything that is open, from the database."""
        self._backlog = Backlog()
        self._places.clear()
        self._live.clear()
        self._noted.clear()
        await self._needs.refresh()
        rows = await self.db.read(site_rows.every)
        now = self.clock.now().timestamp()
        specs = [places.read_site(row.spec) for row in rows]
        self._knowledge = await self.db.read(read_knowledge, now, specs)
        await self._load_sites(rows)

        def read(conn: Connection) -> tuple[Sequence[Any], list[Any]]:
            return attempt_rows.live(conn), list(job_rows.open_jobs(conn))

        live, waiting = await self.db.read(read)
        await self._needs.refresh()
        for row in live:
            need = self._needs.of(row.job_spec, row.owner_id, row.job_mem_bytes, row.job_zones)
            self._adopt(Live.of_row(row, need))
        for row in waiting:
            self._take_job(row)

    async def _load_sites(self, rows: Iterable[Any]) -> None:
        for row in rows:
            place = self._places.get(row.name)
            if row.state == SiteState.REMOVED and (place is None or not any(w.live for w in place.workers.values())):
                if place is not None:
                    await self._retire(self._places.pop(row.name))
                continue
            users = await self._sessions.users_of(row.id)
            names = None if users is None else self._needs.names(users)
            cached = await self._needs.cached(row.id)
            snapshot = places.snapshot(row, users=names, cached=cached, knowledge=self._knowledge)
            if place is None:
                self._places[row.name] = Place(row, snapshot)
                continue
            if place.row.spec != row.spec:
                await self._sessions.forget(row.id)
                await self._retire(place)
            fresh = Place(row, snapshot)
            fresh.workers, fresh.tasks = place.workers, place.tasks
            fresh.others, fresh.troubles = place.others, place.troubles
            snapshot.used_jobs = sum(fresh.others.values())
            self._places[row.name] = fresh
            for live in self._live.values():
                if live.site == row.name:
                    places.count(snapshot, live.plan, live.owner, live.state.rank < AttemptState.RUNNING.rank)
                    if live.user_id not in fresh.workers:
                        self._worker(fresh, live.user_id).take(live)
        self._fits.clear()

    async def _retire(self, place: Place) -> None:
        for task in place.tasks.values():
            task.cancel()
        place.tasks.clear()
        place.workers.clear()

    def _take_job(self, row: job_rows.JobRow) -> None:
        """A job as it is now: into the queue, out of it, or to be ended."""
        live = self._live.get(row.id)
        state = JobState(row.state)
        if live is not None and (state.ended or state is JobState.QUEUED):
            # Its attempt's end was pushed: the worker, which asks the site, does not know of it yet.
            over = AttemptState(state) if state.ended else AttemptState.FAILED
            self._worker(self._places[live.site], live.user_id).over(live, over)
            live = None
        if live is not None:
            if row.kill_by and not live.kill_requested:
                self._worker(self._places[live.site], live.user_id).kill(live)
            return
        if state is not JobState.QUEUED or row.waiting_for > 0 or row.kill_by:
            self._backlog.drop(row.id)
            return
        at = "" if row.site_id is None else self._name_of(row.site_id)
        need = self._needs.of(row.spec, row.user_id, row.mem_bytes, row.zones, at)
        ticket = Ticket(-row.priority, row.id, row.submitted_at, math.inf if row.deadline is None else row.deadline)
        self._backlog.put(need, ticket, wake_at=self._wake_at(row), now=self.clock.monotonic())
        self._noted.pop(need, None)

    def _name_of(self, site_id: int) -> str:
        """The name of a site that is there; an empty text for one that is not."""
        return next((name for name, place in self._places.items() if place.row.id == site_id), "")

    def _releases(self, site: str) -> list[Release]:
        """What our live attempts at a site will give back, and when at the latest."""
        now = self.clock.now().timestamp()
        found = []
        for live in self._live.values():
            if live.site == site:
                span = live.need.time
                ends = (live.began if live.began is not None else now) + span if span else math.inf
                nodes = int(live.plan.get("nodes", 1))
                cpus, mem = (int(live.plan.get(what, 0)) * nodes for what in ("cpus", "mem"))
                gpus = places.gpus_of(live.plan, self._places[site].snapshot) * nodes
                found.append(Release(max(ends, now), cpus, mem, gpus))
        return found

    def _wake_at(self, row: job_rows.JobRow) -> float:
        """When a job may be placed, by the monotonic clock: a time of day that was set back must not delay it."""
        left = (row.wake_at or 0.0) - self.clock.now().timestamp()
        return self.clock.monotonic() + min(left, LONGEST_DELAY_S) if left > 0 else 0.0

    # ---- one cycle

    async def _cycle(self, look: bool = True) -> float:
        """Do what there is to do; how long nothing will be to do, if nothing happens.

        ``look``: somebody changed something in the database. Else only sites became free, or time passed.
        """
        self.cycles += 1
        now = self.clock.now().timestamp()
        looked = await self._look() if look else {}
        next_wake = self._backlog.wake(self.clock.monotonic())
        snapshots = [place.snapshot for place in self._places.values()]
        steps = await self._resizing.steps(snapshots, self._backlog.ready, self._live, now)
        for live in steps.stops:
            await self._stop(live, now)
        if self._backlog.ready:
            ordinary: Mapping[Need, list[Ticket]] = self._backlog.ready
            if steps.handled:
                ordinary = {need: line for need, line in ordinary.items() if need not in steps.handled}
            terms = self._knowledge.terms(self._releases)
            result = plan(ordinary, snapshots, now, fits=self._fits, terms=terms)
            steps.wake_s = min(steps.wake_s, result.wake_s)
            starts = [*result.assignments, *steps.starts]
            result.waiting.update(steps.waiting)
            if starts:
                for job_id in await self._start(starts, now):
                    looked.pop(job_id, None)
            await self._note_waiting(result)
        if looked:
            await self._take_marks(looked)
        longest = max(0.05, min(LONGEST_SLEEP_S, steps.wake_s))
        if next_wake is None:
            return longest
        return max(0.05, min(longest, next_wake - self.clock.monotonic()))

    async def _look(self) -> dict[int | str, Any]:
        """Take in what is marked as changed: rows by a job's id or a site's name. The marks stay.

        A job that is placed in this cycle loses its mark with the attempt that it gets: no write is spent on it before.
        """
        jobs, sites, mark = await self.db.read(transactions.marked)
        await self._take_in(jobs, sites, mark)
        return {row.id: row for row in jobs} | {row.name: row for row in sites}

    async def _take_marks(self, looked: Mapping[int | str, Any]) -> None:
        """Take the marks off what was looked at; what has changed since is taken in, and planned for."""
        jobs, sites, mark = await self.record(transactions.take_marks)
        jobs = [row for row in jobs if looked.get(row.id) != row]
        sites = [row for row in sites if looked.get(row.name) != row]
        if jobs or sites:
            await self._take_in(jobs, sites, mark)
            self._freed.set()

    async def _take_in(self, jobs: Sequence[Any], sites: Sequence[Any], mark: Mark) -> None:
        if sites:
            await self._load_sites(sites)
        if jobs:
            await self._needs.refresh(mark)
        for row in jobs:
            self._take_job(row)

    async def _start(self, assignments: list[Assignment], now: float) -> set[int]:
        """Commit the attempts, then hand them to the workers; the jobs that have one now."""
        started: set[int] = set()
        for start in range(0, len(assignments), 500):
            part = assignments[start : start + 500]
            starts = [
                transactions.Start(one, need, self._places[one.site].row.id, self._share(one, need))
                for one in part
                if (need := self._backlog.need_of(one.job)) is not None and one.site in self._places
            ]
            credential_of, token_hash = self._sessions.credential_of, self._dispatcher.token_hash
            begun = await self.record(transactions.begin, starts, credential_of, token_hash, now)
            self._backlog.drop_many([one.job for one in part])
            for live in begun:
                self._adopt(live)
            started.update(live.job_id for live in begun)
        return started

    def _share(self, one: Assignment, need: Need) -> float:
        """What a part of a GPU comes to at its site; 0.0 where the job asks for none."""
        return 0.0 if need.part is None else self._places[one.site].snapshot.gpus.share(need.part)

    async def _stop(self, live: Live, now: float) -> None:
        """Stop an attempt, for its job to go on later or with another number of GPUs. That it is no kill is kept."""
        live.plan[STOPPED] = 1
        await self.record(transactions.mark_stopped, live, now)
        self._worker(self._places[live.site], live.user_id).kill(live)

    def _adopt(self, live: Live) -> None:
        """A live attempt is ours to drive."""
        self._live[live.job_id] = live
        place = self._places[live.site]
        places.count(place.snapshot, live.plan, live.owner, live.state.rank < AttemptState.RUNNING.rank)
        self._worker(place, live.user_id).take(live)

    def _worker(self, place: Place, user_id: int) -> Worker:
        worker = place.workers.get(user_id)
        if worker is None:
            assert self._group is not None
            site = self._sessions.lazy(place.row.id, user_id)
            worker = Worker(place.row.name, place.row.id, user_id, site, self, asks_batch=place.snapshot.own_queue)
            place.workers[user_id] = worker
            place.tasks[user_id] = self._group.create_task(self._guard(worker))
        return worker

    async def _guard(self, worker: Worker) -> None:
        """Run a worker; what it did not expect is written down, and it goes on after a while."""
        while True:
            try:
                await worker.run()
            except* (LostLease, Unavailable):
                raise
            except* Exception:  # the loop's edge: recorded, backed off
                log.exception("the worker of %s stumbled", worker.name)
            await self.clock.sleep(2.0)
            for live in list(worker.live.values()):
                worker.take(live)

    async def _note_waiting(self, result: Plan) -> None:
        """Write down why jobs wait, where that changed."""
        changes: list[dict[str, Any]] = []
        for need, waiting in result.waiting.items():
            if self._noted.get(need) == (waiting.reason, waiting.message):
                continue
            self._noted[need] = (waiting.reason, waiting.message)
            changes.extend(
                {"id": ticket.job, "reason": waiting.reason.value, "message": waiting.message}
                for ticket in self._backlog.ready.get(need, [])[:NOTED]
            )
        if changes:
            await self.record(transactions.note_waiting, changes)

    # ---- what the workers need

    async def record(self, fn: Callable[..., T], *args: Any) -> T:
        """Write in a transaction that only the leading supervisor can commit."""
        return await self._leadership.record(fn, *args)

    async def prepare(self, live: Live, site: Site) -> Submission:
        """Bring image and data there and build the submission. Raises IsthmusError."""
        return await self._dispatcher.prepare(live, site, self._places[live.site].row)

    async def collect(self, live: Live, site: Site) -> str:
        """Check and bring home the outputs; why it failed, or "". Raises SiteError to be called again."""
        return await self._dispatcher.collect(live, site, self._places[live.site].row)

    async def keep_log(self, live: Live, site: Site) -> None:
        """Bring home the log of an attempt that ended. Raises SiteError."""
        await self._dispatcher.keep_log(live, site)

    def learned(self, live: Live, facts: Mapping[str, object]) -> None:
        """A runner saw its node: keep what a probe could not find out."""
        place = self._places.get(live.site)
        if place is None:
            return
        inventory = places.read_inventory(place.row.inventory)
        engines = facts.get("engines")
        reaches = facts.get("reaches_api")
        if (engines and not inventory.engines) or (isinstance(reaches, bool) and inventory.nodes_reach_api is None):
            assert self._group is not None
            self._group.create_task(self._keep_facts(place.row.id, facts))

    async def _keep_facts(self, site_id: int, facts: Mapping[str, object]) -> None:
        await self.record(transactions.keep_facts, site_id, facts)
        self._freed.set()

    def moved(self, live: Live, before: AttemptState) -> None:
        """Keep count of what is in use, and plan again where something became free."""
        place = self._places.get(live.site)
        self._moved = True
        if place is not None:
            if before.rank < AttemptState.RUNNING.rank <= live.state.rank:
                place.snapshot.queued_jobs -= 1
                live.began = self.clock.now().timestamp()
            if live.state.ended:
                places.count(place.snapshot, live.plan, live.owner, False, -1)
        if live.state.ended:
            if self._live.get(live.job_id) is live:
                del self._live[live.job_id]
            self._freed.set()

    def health(self, worker: Worker, failure: IsthmusError | None, others: int | None) -> None:
        """Note that a site answered, or why not, where that is news."""
        place = self._places.get(worker.name)
        if place is None:
            return
        place.troubles[worker.user_id] = worker.trouble
        if failure is None:
            health, message = Health.UP, "; ".join(text for text in dict.fromkeys(place.troubles.values()) if text)
        else:
            health, message = Health.UNREACHABLE, str(failure)
        if place.snapshot.health is not health or place.snapshot.health_message != message:
            place.snapshot.health, place.snapshot.health_message = health, message
            assert self._group is not None
            self._group.create_task(self._keep_health(place.row.id, health, message))
        if others is not None:
            place.snapshot.used_jobs += others - place.others.pop(PROBED, 0) - place.others.get(worker.user_id, 0)
            place.others[worker.user_id] = others

    async def _keep_health(self, site_id: int, health: Health, message: str) -> None:
        now = self.clock.now().timestamp()
        await self.record(transactions.set_health, site_id, health, message, now)
        self._freed.set()


def _metered(place: Place) -> Metered:
    spec = places.read_site(place.row.spec)
    labels = {name: value for name, value in place.snapshot.labels.items() if not isinstance(value, bool)}
    return Metered(place.row.id, spec.name, labels, spec.metrics)


def _view(site: SiteSnapshot) -> tuple[object, ...]:
    """What of a snapshot makes other plans at once when it changes; learned waits and speeds come with the next."""
    metrics = {name: (one.known, one.weight) for name, one in site.metrics.items()}
    prices = (site.node_hour, site.cpu_hour, site.gpu_hour, dict(site.gpu_hours))
    return metrics, site.policy, dict(site.queue_policies), prices
