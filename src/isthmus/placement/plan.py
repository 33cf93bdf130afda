"""The plan: from the queue and the sites to assignments, by priority, oldest first, without starving large jobs.

Jobs of one Need are judged together. A job that has waited longer than ``PATIENCE_S`` for room reserves the
site where it fits best: nothing behind it may start there until it has started.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.domain.reasons import Reason
from isthmus.placement import filters
from isthmus.placement.needs import Need
from isthmus.placement.scores import moving, parts, score, standing
from isthmus.placement.snapshot import SiteSnapshot

PATIENCE_S = 600.0
# Sites whose scores differ by less are equally good: so that not all are judged anew for each job.
EQUAL = 0.005


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A job's place in the queue: higher priority first, then the older."""

    rank: int  # minus the priority
    job: int
    submitted_at: float = field(compare=False, default=0.0)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Run this job there. ``queue`` and ``node`` are what it should ask the batch system for."""

    job: int
    site: str
    queue: str
    node: str
    gpus: int = 0  # of one node, where a policy chose their number; 0: as the job asks


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the jobs of a need were left in the queue."""

    reason: Reason
    message: str


@dataclass(slots=True)
class Plan:
    assignments: list[Assignment] = field(default_factory=list)
    waiting: dict[Need, Waiting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What placement says of one site for one job."""

    site: str
    fits: bool  # it can run there, some day
    free: bool  # it could start there now
    why: tuple[str, ...] = ()
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)


def plan(
    queue: Mapping[Need, Sequence[Ticket]],
    sites: Iterable[SiteSnapshot],
    now: float,
    *,
    fits: dict[Need, tuple[str, ...]] | None = None,
) -> Plan:
    """Assign what can start. ``queue`` holds each need's tickets in order. Neither argument is changed.

    ``fits`` remembers from one call to the next where each need can run at all; whoever passes it clears it when a site
    is another than it was, not merely fuller.
    """
    fits = {} if fits is None else fits
    places = [site.copy() for site in sorted(sites, key=lambda site: site.name)]
    result = Plan()
    heads: list[tuple[Ticket, int, Need]] = []
    cursors: dict[Need, int] = {}
    rooms: dict[Need, _Rooms] = {}
    for number, (need, tickets) in enumerate(queue.items()):
        if tickets:
            heads.append((tickets[0], number, need))
            cursors[need] = 0
    heapq.heapify(heads)
    reserved: set[str] = set()
    while heads:
        ticket, number, need = heapq.heappop(heads)
        room = rooms.get(need)
        if room is None:
            room = rooms[need] = _Rooms(need, places, fits)
        site = room.take(reserved)
        if site is None:
            result.waiting[need] = _why(need, room, reserved)
            if room.fitting and now - ticket.submitted_at > PATIENCE_S:
                best = max(room.fitting, key=lambda one: (score(need, one), one.name))
                if not best.own_queue:
                    reserved.add(best.name)
            continue  # the rest of this need can't start either
        result.assignments.append(_assign(ticket, need, site, room.target(site)))
        cursors[need] += 1
        tickets = queue[need]
        if cursors[need] < len(tickets):
            heapq.heappush(heads, (tickets[cursors[need]], number, need))
    return result


def explain(need: Need, sites: Iterable[SiteSnapshot]) -> list[Verdict]:
    """For each site, whether the job fits, whether it could start, why not, and the scores."""
    verdicts = []
    for site in sorted(sites, key=lambda one: one.name):
        lasting = [why for judge in filters.LASTING if (why := judge(need, site))]
        passing = [why for judge in filters.PASSING if (why := judge(need, site))] if not lasting else []
        verdicts.append(
            Verdict(
                site=site.name,
                fits=not lasting,
                free=not lasting and not passing,
                why=tuple(lasting or passing),
                score=score(need, site) if not lasting else 0.0,
                scores=parts(need, site) if not lasting else {},
            )
        )
    return verdicts


class _Rooms:
    """The sites where one need fits, the best free one first. Scores go stale as sites fill: checked when taken."""

    def __init__(self, need: Need, places: list[SiteSnapshot], fits: dict[Need, tuple[str, ...]]) -> None:
        self.need = need
        names = fits.get(need)
        if names is None:
            names = tuple(site.name for site in places if not filters.first(filters.LASTING, need, site))
            fits[need] = names
        self.fitting = [site for site in places if site.name in names]
        self._standing = [standing(need, site) for site in self.fitting]
        self._heap = [
            (-self._standing[number] - moving(need, site), number) for number, site in enumerate(self.fitting)
        ]
        heapq.heapify(self._heap)
        self._targets: dict[str, tuple[str, str]] = {}

    def target(self, site: SiteSnapshot) -> tuple[str, str]:
        """The names of the queue and the node type to ask for there."""
        known = self._targets.get(site.name)
        if known is None:
            queue = filters.choose_queue(self.need, site)
            node = filters.choose_node(self.need, queue) if queue else None
            known = self._targets[site.name] = (queue.name if queue else "", node.name if node else "")
        return known

    def take(self, reserved: set[str]) -> SiteSnapshot | None:
        heap = self._heap
        while heap:
            stale, number = heap[0]
            site = self.fitting[number]
            if site.name in reserved or filters.first(filters.PASSING, self.need, site):
                heapq.heappop(heap)  # within one plan a site only fills
                continue
            fresh = -self._standing[number] - moving(self.need, site)
            if fresh > stale + EQUAL and len(heap) > 1:
                heapq.heapreplace(heap, (fresh, number))
                if heap[0][1] != number:
                    continue
            return site
        return None


def _assign(ticket: Ticket, need: Need, site: SiteSnapshot, target: tuple[str, str]) -> Assignment:
    if site.own_queue or site.used_cpus + need.cpus > site.total_cpus:
        site.queued_jobs += 1
    site.used_cpus += need.cpus * need.nodes
    site.used_mem += need.mem * need.nodes
    site.used_gpus += need.gpus * need.nodes
    site.used_jobs += 1
    site.jobs_of[need.user] = site.jobs_of.get(need.user, 0) + 1
    return Assignment(ticket.job, site.name, *target)


def _why(need: Need, room: _Rooms, reserved: set[str]) -> Waiting:
    if not room.fitting:
        return Waiting(Reason.NO_SITE, Reason.NO_SITE.sentence)
    objections = {}
    for site in room.fitting:
        if site.name in reserved:
            objections[site.name] = "a larger job that waited long goes first"
        else:
            objections[site.name] = filters.first(filters.PASSING, need, site)
    reason = Reason.CAPACITY
    if all(filters.healthy(need, site) for site in room.fitting):
        reason = Reason.SITE_UNREACHABLE
    elif all(filters.limits(need, site) or filters.healthy(need, site) for site in room.fitting):
        reason = Reason.LIMIT
    shown = "; ".join(f"{name}: {why}" for name, why in list(objections.items())[:3])
    return Waiting(reason, shown)
