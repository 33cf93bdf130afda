"""Policies: in which order the jobs of some sites or queues are placed, and by which weights.

A policy is nearly pure data. Built-in ones are here; others are entry points of the group ``isthmus.policies`` that
name a `Policy`. See docs/placement.md.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from isthmus.domain.errors import Invalid, nearest
from isthmus.placement.needs import Need
from isthmus.placement.scores import missing_bytes, move_s
from isthmus.placement.snapshot import SiteSnapshot

GROUP = "isthmus.policies"
PRIORITY = "priority"
DEADLINE_COST = "deadline-cost"
USUAL_S = 3600.0  # what a job without a time limit counts for in its user's share


class Ticket(NamedTuple):
    """A job's place in the queue: higher priority first, then the older."""

    rank: int  # minus the priority
    job: int
    submitted_at: float = 0.0
    deadline: float = math.inf  # seconds since the epoch


class Usage(NamedTuple):
    """What somebody used lately, older use counting less."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0


class Shares:
    """Who had how much of the sites, for policies that weigh it: grows while a plan is made.

    What counts is the resource of which a user has the larger part (dominant resource fairness, Ghodsi et al., NSDI
    2011), divided by the part that the user is to have.
    """

    def __init__(self, used: Mapping[str, Usage], parts: Mapping[str, float], sites: Sequence[SiteSnapshot]) -> None:
        self._parts = parts
        self._cpus = max(1, sum(site.total_cpus for site in sites))
        self._gpus = max(1, sum(site.total_gpus for site in sites))
        self._used = dict(used)

    def of(self, user: str) -> float:
        """Seconds of the whole that the user had, by the share that is theirs."""
        cpu_s, gpu_s = self._used.get(user, (0.0, 0.0))
        return max(cpu_s / self._cpus, gpu_s / self._gpus) / self._parts.get(user, 1.0)

    def add(self, need: Need) -> None:
        """A job starts: its time limit counts at once, so that one plan is fair in itself."""
        cpu_s, gpu_s = self._used.get(need.user, (0.0, 0.0))
        span = (need.time or USUAL_S) * need.nodes
        gpus = need.gpus or need.gpu_part or float(bool(need.gpu_part_mem))
        self._used[need.user] = Usage(cpu_s + need.cpus * span, gpu_s + gpus * span)


Order = Callable[[Ticket, Need, Shares], tuple[float, ...]]
Hold = Callable[[Need, SiteSnapshot, Sequence[SiteSnapshot]], float]


def by_priority(ticket: Ticket, need: Need, shares: Shares) -> tuple[float, ...]:
    """Higher priority first, then the older."""
    return (ticket.rank, ticket.job)


def by_share(ticket: Ticket, need: Need, shares: Shares) -> tuple[float, ...]:
    """The user who had least of their share first; among one user's jobs by priority."""
    return (shares.of(need.user), ticket.rank, ticket.job)


def at_once(need: Need, site: SiteSnapshot, fitting: Sequence[SiteSnapshot]) -> float:
    return 0.0


def for_data(need: Need, site: SiteSnapshot, fitting: Sequence[SiteSnapshot]) -> float:
    """As long as bringing the data would take, a job waits for a place where it lies already.

    Whoever waits until moving would have been done loses twice the better choice at most (the ski-rental rule).
    """
    if not need.digests or not missing_bytes(need, site):
        return 0.0
    best = min(move_s(need, one) for one in fitting)
    return max(0.0, move_s(need, site) - best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """In which order jobs are placed at the sites or queues that chose it.

    ``order`` gives a key, smaller first. It may depend on what the plan has assigned so far (`Shares`), but only grow
    with it. ``sorts``: it orders the jobs of one need otherwise than by priority and age. ``weights``: of scores, over
    what is said for all. ``hold``: for how many seconds after it was submitted a job keeps away from a free site,
    given all those where it fits.
    """

    name: str
    summary: str
    order: Order = by_priority
    sorts: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    hold: Hold = at_once


BUILT_IN: Mapping[str, Policy] = {
    one.name: one
    for one in (
        Policy(name=PRIORITY, summary="higher priority first, then the older; smaller jobs fill gaps behind the head"),
        Policy(name="fair-share", summary="who had least of their share lately goes first", order=by_share),
        Policy(
            name="locality",
            summary="by priority, to where the data is; waits for it as long as moving would take",
            weights={"locality": 20.0},
            hold=for_data,
        ),
        Policy(name=DEADLINE_COST, summary="chooses the number of GPUs of jobs with `sizing`; others by priority"),
    )
}


def policy_names() -> tuple[str, ...]:
    """Every policy that there is, built-in or from a plug-in."""
    return (*BUILT_IN, *sorted(_points().keys() - BUILT_IN.keys()))


@functools.cache
def find_policy(name: str) -> Policy:
    """The policy of that name, ``priority`` for an empty one. Raises Invalid with the nearest right word."""
    if not name or name in BUILT_IN:
        return BUILT_IN[name or PRIORITY]
    point = _points().get(name)
    if point is None:
        raise Invalid(f"There is no policy {name!r}.", place="policy", hint=nearest(name, policy_names()))
    try:
        found = point.load()
    except ImportError as error:
        raise Invalid(
            f"The policy {name!r} can't be loaded: {error}.",
            place="policy",
            hint="The package that brings it is broken, or made for another version of Isthmus.",
        ) from error
    if not isinstance(found, Policy):
        raise Invalid(
            f"The policy {name!r} is broken: its entry point names {found!r}.",
            place="policy",
            hint="An entry point of the group isthmus.policies names an isthmus.placement.policies.Policy.",
        )
    return found


@functools.cache
def _points() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
