"""The plan: from the queue and the sites to assignments, in the order of each site's policy.

Jobs of one Need are judged together. A need stands in the line of the policy that rules where it fits best just now;
when the best place becomes another, it changes lines. Who is blocked first in a line reserves its earliest start at a
site, and so does whoever waited longer than ``PATIENCE_S``: what stands behind may only fill gaps there.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from isthmus.domain.reasons import Reason
from isthmus.domain.units import show_seconds
from isthmus.placement import filters
from isthmus.placement.backfill import Release, Reservation, reserve
from isthmus.placement.needs import Need
from isthmus.placement.policies import Policy, Shares, Ticket, Usage, at_once, by_priority, find_policy
from isthmus.placement.scores import WEIGHTS, Part, parts, score, standing
from isthmus.placement.snapshot import SiteSnapshot

__all__ = ["PATIENCE_S", "Assignment", "Check", "Plan", "Terms", "Ticket", "Verdict", "Waiting", "explain", "plan"]

PATIENCE_S = 600.0
# Sites whose scores differ by less are equally good: so that not all are judged anew for each job.
EQUAL = 0.005


class Assignment(NamedTuple):
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


class Target(NamedTuple):
    """What of an assignment all jobs of a need share that go to the same site."""

    site: str
    queue: str
    node: str


@dataclass(slots=True)
class Plan:
    """What can start, and why the rest waits."""

    # By job, in the order in which they are to start. Not a list of assignments: an object for each of 100,000 jobs
    # makes the interpreter look for garbage among all that it holds.
    targets: dict[int, Target] = field(default_factory=dict)
    waiting: dict[Need, Waiting] = field(default_factory=dict)
    wake_s: float = math.inf  # when another plan may come out otherwise, though nothing happens

    @property
    def assignments(self) -> list[Assignment]:
        """The same as a list, made anew each time."""
        return [Assignment(job, *target) for job, target in self.targets.items()]


@dataclass(frozen=True, slots=True)
class Terms:
    """By what is planned, beside the queue and the sites."""

    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    usage: Mapping[str, Usage] = field(default_factory=dict)  # user -> what they used lately
    parts: Mapping[str, float] = field(default_factory=dict)  # user -> part for fair-share
    # What becomes free at a site, its live attempts' ends: asked for only where somebody is blocked there.
    releases: Callable[[str], Sequence[Release]] = lambda site: ()

    def weights_of(self, policy: Policy) -> Mapping[str, float]:
        return {**self.weights, **policy.weights} if policy.weights else self.weights


@dataclass(frozen=True, slots=True)
class Check:
    """One filter as `explain` shows it; ``why`` is empty where it lets the job through."""

    name: str
    why: str
    lasting: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What placement says of one site for one job."""

    site: str
    fits: bool  # it can run there, some day
    free: bool  # it could start there now
    why: tuple[str, ...] = ()
    score: float = 0.0
    scores: tuple[Part, ...] = ()
    checks: tuple[Check, ...] = ()
    policy: str = ""


def plan(
    queue: Mapping[Need, Sequence[Ticket]],
    sites: Iterable[SiteSnapshot],
    now: float,
    *,
    fits: dict[Need, tuple[str, ...]] | None = None,
    terms: Terms | None = None,
) -> Plan:
    """Assign what can start. ``queue`` holds each need's tickets in order. No argument but ``fits`` is changed.

    ``fits`` remembers from one call to the next where each need can run at all; whoever passes it clears it when a site
    is another than it was, not merely fuller.
    """
    return _Planner(queue, sites, now, {} if fits is None else fits, terms or Terms()).run()


def explain(need: Need, sites: Iterable[SiteSnapshot], terms: Terms | None = None) -> list[Verdict]:
    """For each site, what each filter says, and each score."""
    terms = terms or Terms()
    verdicts = []
    for site in sorted(sites, key=lambda one: one.name):
        checks = tuple(
            Check(filters.name_of(judge), judge(need, site), lasting)
            for lasting, judges in ((True, filters.LASTING), (False, filters.PASSING))
            for judge in judges
        )
        lasting = tuple(check.why for check in checks if check.why and check.lasting)
        passing = tuple(check.why for check in checks if check.why and not check.lasting)
        queue = filters.choose_queue(need, site)
        policy = find_policy(site.policy_of(queue.name if queue else ""))
        weights = terms.weights_of(policy)
        verdicts.append(
            Verdict(
                site=site.name,
                fits=not lasting,
                free=not lasting and not passing,
                why=lasting or passing,
                score=score(need, site, weights) if not lasting else 0.0,
                scores=parts(need, site, weights),
                checks=checks,
                policy=policy.name,
            )
        )
    return verdicts


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        queue: Mapping[Need, Sequence[Ticket]],
        sites: Iterable[SiteSnapshot],
        now: float,
        fits: dict[Need, tuple[str, ...]],
        terms: Terms,
    ) -> None:
        self.now = now
        self.terms = terms
        self.fits = fits
        self.places = [site.copy() for site in sorted(sites, key=lambda site: site.name)]
        self.shares = Shares(terms.usage, terms.parts, self.places)
        self.result = Plan()
        self.reserved: dict[str, Reservation] = {}
        self.ends: dict[str, list[Release]] = {}  # of what runs at a site, where that was asked for
        self.begun: dict[str, list[Need]] = {}  # by this plan
        self.lines: dict[str, _Line] = {}
        names = {name for site in self.places for name in (site.policy, *site.queue_policies.values())}
        self.lonely = len(names) < 2  # one policy rules everywhere
        self.fair = any(find_policy(name).order is not by_priority for name in names)
        self.parties = [_Party(number, *item) for number, item in enumerate(queue.items()) if item[1]]

    def run(self) -> Plan:
        for party in self.parties:
            # Where all sites have one policy, where each need fits is looked at when its turn comes.
            spot = None if self.lonely else self._open(party).take(self)
            self._line(spot.policy if spot else self._usual(party)).join(party, self.shares)
        # Needs may change lines while others fill sites, and back where a site never fills.
        while any(line.heads for line in self.lines.values()):
            for name in sorted(self.lines):
                self._serve(self.lines[name])
        return self.result

    def _serve(self, line: "_Line") -> None:
        """Place jobs of one line until none is left that belongs to it."""
        while line.heads:
            party = line.first(self.shares)
            if not party.is_open:
                party.open(self)
            spot = party.take(self)
            if spot is None:
                line.drop()
                self._blocked(line, party)  # the rest of this need can't start either
            elif spot.policy is not line.policy:
                line.drop()
                self._line(spot.policy).join(party, self.shares)
            else:
                self._assign(party, spot)
                line.advance(party, self.shares)

    def _assign(self, party: "_Party", spot: "_Spot") -> None:
        need, site = party.need, spot.site
        if self.reserved:
            reservation = self.reserved.get(site.name)
            if reservation is not None:
                reservation.admit(need, self.now)
        if self.fair:
            self.shares.add(need)
        if not spot.endless:
            self._count(need, site)
        standing = spot.standing
        site.used_cpus += standing.cpus
        if standing.gpus or spot.part is not None:
            site.hold_gpus(need.gpu_type, need.gpus * need.nodes, spot.part)
        self.result.targets[party.tickets[party.cursor].job] = spot.target

    def _count(self, need: Need, site: SiteSnapshot) -> None:
        """Note of a job what only `limits`, `capacity` and reservations ask for."""
        if site.own_queue:
            site.queued_jobs += 1
        else:
            self.begun.setdefault(site.name, []).append(need)
            if filters.shortage(need, site):
                site.queued_jobs += 1
        site.used_mem += need.mem * need.nodes
        site.used_jobs += 1
        site.jobs_of[need.user] = site.jobs_of.get(need.user, 0) + 1

    def _blocked(self, line: "_Line", party: "_Party") -> None:
        """Note why, and keep what stands behind from delaying it where its turn had come."""
        need = party.need
        self.result.waiting[need] = self._why(party)
        if line.headed and self.now - party.ticket.submitted_at <= PATIENCE_S:
            return
        best: tuple[float, float, str] | None = None
        found: Reservation | None = None
        for spot in party.spots:
            site = spot.site
            if site.own_queue or site.name in self.reserved or not filters.capacity(need, site):
                continue
            if spot.steady or filters.limits(need, site):
                continue
            claim = reserve(need, site, self._releases(site))
            rank = (claim.at, -spot.standing.mean(), site.name)
            if best is None or rank < best:
                best, found = rank, claim
        if best is not None and found is not None:
            self.reserved[best[2]] = found
            line.headed = True

    def _releases(self, site: SiteSnapshot) -> list[Release]:
        ends = self.ends.get(site.name)
        if ends is None:
            ends = self.ends[site.name] = list(self.terms.releases(site.name))
        return [*ends, *(_release(need, site, self.now) for need in self.begun.get(site.name, ()))]

    def _why(self, party: "_Party") -> Waiting:
        need = party.need
        if not party.spots:
            return Waiting(Reason.NO_SITE, Reason.NO_SITE.sentence)
        objections = {}
        for spot in party.spots:
            why = spot.steady or filters.first(filters.FILLING, need, spot.site)
            if not why and spot.site.name in self.reserved:
                why = "a job that is to start there first would be delayed"
            if not why:
                why = f"it waits {show_seconds(party.held(spot, self))} more for a place where its data is"
            objections[spot.site.name] = why
        fitting = [spot.site for spot in party.spots]
        reason = Reason.CAPACITY
        if all(filters.healthy(need, site) for site in fitting):
            reason = Reason.SITE_UNREACHABLE
        elif all(filters.healthy(need, site) or filters.blind(need, site) for site in fitting):
            reason = Reason.METRIC
        elif all(filters.limits(need, site) or filters.healthy(need, site) for site in fitting):
            reason = Reason.LIMIT
        shown = "; ".join(f"{name}: {why}" for name, why in list(objections.items())[:3])
        return Waiting(reason, shown)

    def _open(self, party: "_Party") -> "_Party":
        if not party.is_open:
            party.open(self)
        return party

    def _line(self, policy: Policy) -> "_Line":
        line = self.lines.get(policy.name)
        if line is None:
            line = self.lines[policy.name] = _Line(policy)
        return line

    def _usual(self, party: "_Party") -> Policy:
        """The policy of a need that can start nowhere now, or where there is only one."""
        if self.lonely:
            return find_policy(self.places[0].policy if self.places else "")
        return party.spots[0].policy if party.spots else find_policy("")


class _Line:
    """The needs that one policy orders, by their first jobs. Keys only grow, so stale ones are looked at again."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.lasting = policy.order is by_priority  # keys stay as they are
        self.headed = False  # somebody was blocked, and has a reservation
        self.heads: list[tuple[float, ...]] = []  # the policy's key, and the need's number
        self._parties: dict[float, _Party] = {}

    def join(self, party: "_Party", shares: Shares) -> None:
        """What is left of a need stands in this line from now on, as its policy orders it."""
        if self.policy.sorts:
            nobody = Shares({}, {}, ())
            party.sort(lambda one: self.policy.order(one, party.need, nobody))
        elif party.is_sorted:
            party.sort(None)
        self._parties[party.number] = party
        heapq.heappush(self.heads, self._key(party, shares))

    def first(self, shares: Shares) -> "_Party":
        """The need whose first job is next; it stays in the line."""
        while True:
            key = self.heads[0]
            party = self._parties[key[-1]]
            if self.lasting or len(self.heads) == 1:
                return party
            fresh = self._key(party, shares)
            if fresh <= key:
                return party
            heapq.heapreplace(self.heads, fresh)

    def drop(self) -> None:
        """The need that is first leaves the line."""
        heapq.heappop(self.heads)

    def advance(self, party: "_Party", shares: Shares) -> None:
        """The first job of the need that is first is placed: it stands where its next one belongs."""
        party.cursor += 1
        if party.cursor == len(party.tickets):
            heapq.heappop(self.heads)
        else:
            heapq.heapreplace(self.heads, self._key(party, shares))

    def _key(self, party: "_Party", shares: Shares) -> tuple[float, ...]:
        ticket = party.tickets[party.cursor]
        if self.lasting:
            return (ticket.rank, ticket.job, party.number)
        return (*self.policy.order(ticket, party.need, shares), party.number)


class _Spot:
    """One need at one site where it fits: its score, of which only the load changes while a plan is made."""

    __slots__ = ("endless", "part", "policy", "site", "standing", "steady", "target", "waits_for_data")

    def __init__(self, need: Need, site: SiteSnapshot, terms: Terms) -> None:
        queue = filters.choose_queue(need, site)
        node = filters.choose_node(need, queue) if queue else None
        self.site = site
        self.part = need.part
        self.target = Target(site.name, queue.name if queue else "", node.name if node else "")
        self.policy = find_policy(site.policy_of(self.target.queue))
        self.standing = standing(need, site, terms.weights_of(self.policy))
        self.steady = filters.first(filters.STEADY, need, site)
        self.endless = site.own_queue and not filters.limited(site)  # it takes whatever comes
        self.waits_for_data = self.policy.hold is not at_once


class _Party:
    """The jobs of one need, those that are left from the cursor on, and where they fit, the best free place first.

    Scores go stale as sites fill: they are checked when a place is taken.
    """

    def __init__(self, number: int, need: Need, tickets: Sequence[Ticket]) -> None:
        self.number = number
        self.need = need
        self.tickets = tickets
        self.cursor = 0
        self.is_sorted = False  # otherwise than by priority and age
        self.is_open = False
        self.spots: list[_Spot] = []
        self._heap: list[tuple[float, int]] = []

    @property
    def ticket(self) -> Ticket:
        """Of the first job that is left."""
        return self.tickets[self.cursor]

    def sort(self, key: Callable[[Ticket], tuple[float, ...]] | None) -> None:
        """Put what is left in another order; None: by priority and age."""
        left = self.tickets[self.cursor :]
        self.tickets = sorted(left) if key is None else sorted(left, key=key)
        self.cursor = 0
        self.is_sorted = key is not None

    def open(self, planner: _Planner) -> None:
        """Find out where it fits."""
        names = planner.fits.get(self.need)
        if names is None:
            fitting = [one for one in planner.places if not filters.first(filters.LASTING, self.need, one)]
            planner.fits[self.need] = tuple(site.name for site in fitting)
        else:
            fitting = [site for site in planner.places if site.name in names]
        self.spots = [_Spot(self.need, site, planner.terms) for site in fitting]
        self._heap = [(-spot.standing.mean(), number) for number, spot in enumerate(self.spots) if not spot.steady]
        heapq.heapify(self._heap)
        self.is_open = True

    def held(self, spot: _Spot, planner: _Planner) -> float:
        """For how many more seconds the site's policy keeps its first job away from there."""
        hold = spot.policy.hold(self.need, spot.site, [one.site for one in self.spots])
        return max(0.0, self.ticket.submitted_at + hold - planner.now) if hold else 0.0

    def take(self, planner: _Planner) -> _Spot | None:
        """The best place where the first job can start now. In one plan a site only fills: what can't be now won't."""
        heap, spots, need = self._heap, self.spots, self.need
        while heap:
            stale, number = heap[0]
            spot = spots[number]
            fresh = -spot.standing.mean()
            if fresh > stale + EQUAL and len(heap) > 1:
                heapq.heapreplace(heap, (fresh, number))
                if heap[0][1] != number:
                    continue
            site = spot.site
            if (not spot.endless and (filters.limits(need, site) or filters.capacity(need, site))) or (
                planner.reserved and self._would_delay(planner, site)
            ):
                heapq.heappop(heap)
                continue
            if spot.waits_for_data:
                held_s = self.held(spot, planner)
                if held_s:
                    planner.result.wake_s = min(planner.result.wake_s, held_s)
                    heapq.heappop(heap)
                    continue
            return spot
        return None

    def _would_delay(self, planner: _Planner, site: SiteSnapshot) -> bool:
        reservation = planner.reserved.get(site.name)
        return reservation is not None and not reservation.admits(self.need, planner.now)


def _release(need: Need, site: SiteSnapshot, now: float) -> Release:
    return Release(now + need.time if need.time else math.inf, need.cpus, need.mem, need.gpus_of(site.gpus))
