"""Forecasts: what becomes of the queue, if nothing comes in and each job takes the time that it may.

Plans are made one after another, time going from one end to the next. Batch systems' own queues are taken for first
come first served on the nodes that they have.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from isthmus.placement.backfill import Release
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms, plan
from isthmus.placement.policies import USUAL_S, Ticket
from isthmus.placement.scores import hourly
from isthmus.placement.snapshot import SiteSnapshot

MAX_STEPS = 100_000


class Running(NamedTuple):
    """A job that is at a site already, and when it ends at the latest."""

    job: int
    site: str
    need: Need
    end: float


class Booked(NamedTuple):
    """What is held of a site for a while by a job that another mechanism places."""

    start: float
    end: float
    job: int
    site: str
    need: Need


@dataclass(frozen=True, slots=True)
class Told:
    """When and where a job starts, and what it costs there. ``site`` empty: never."""

    job: int
    site: str = ""
    start: float = math.inf
    end: float = math.inf
    cost: float = 0.0


def forecast(
    queue: Mapping[Need, Sequence[Ticket]],
    sites: Sequence[SiteSnapshot],
    running: Sequence[Running],
    now: float,
    terms: Terms,
    *,
    booked: Sequence[Booked] = (),
    usual_s: float = USUAL_S,
    on_progress: Callable[[int], None] | None = None,
) -> dict[int, Told]:
    """What becomes of each queued job. ``sites`` must count what runs; jobs without a time limit take ``usual_s``."""
    places = {site.name: _bare(site) for site in sites}
    left = {need: list(tickets) for need, tickets in queue.items() if tickets}
    needs = {ticket.job: need for need, tickets in left.items() for ticket in tickets}
    ends: list[tuple[float, int, str, Need]] = [(max(now, one.end), one.job, one.site, one.need) for one in running]
    heapq.heapify(ends)
    coming = sorted(booked, reverse=True)
    told: dict[int, Told] = {}
    fits: dict[Need, tuple[str, ...]] = {}
    terms = replace(terms, releases=lambda site: [_release(one, places[site]) for one in ends if one[2] == site])
    for _ in range(MAX_STEPS):
        if not left:
            break
        while coming and coming[-1].start <= now:
            begun = coming.pop()
            hold(places[begun.site], begun.need, 1)
            heapq.heappush(ends, (begun.end, begun.job, begun.site, begun.need))
        result = plan(left, places.values(), now, fits=fits, terms=terms)
        for job, target in result.targets.items():
            need, site = needs[job], places[target.site]
            span = need.time or usual_s
            hold(site, need, 1)
            heapq.heappush(ends, (now + span, job, site.name, need))
            told[job] = Told(job, site.name, now, now + span, hourly(need, site) * span / 3600.0)
        if result.targets:
            gone = result.targets
            left = {need: rest for need, line in left.items() if (rest := [one for one in line if one.job not in gone])}
            if on_progress is not None:
                on_progress(len(told))
        soonest = ends[0][0] if ends else math.inf
        moment = min(soonest, now + result.wake_s, coming[-1].start if coming else math.inf)
        if not math.isfinite(moment):
            break  # nothing will ever become free
        now = moment
        while ends and ends[0][0] <= now:
            _, _, name, need = heapq.heappop(ends)
            if name in places:
                hold(places[name], need, -1)
    for job in needs:
        told.setdefault(job, Told(job))
    return told


def _bare(site: SiteSnapshot) -> SiteSnapshot:
    """A site that holds what its nodes hold, and no more."""
    bare = site.copy()
    bare.own_queue, bare.backlog, bare.queued_jobs, bare.max_queued = False, 0, 0, 0
    return bare


def hold(site: SiteSnapshot, need: Need, sign: int) -> None:
    """Count a job as running there, or with ``sign`` -1 no more."""
    nodes = need.nodes * sign
    site.used_cpus += need.cpus * nodes
    site.used_mem += need.mem * nodes
    if sign > 0 or need.part is None:
        site.hold_gpus(need.gpu_type, need.gpus * nodes, need.part)
    else:
        site.free_part(need.part)
    site.used_jobs += sign
    site.jobs_of[need.user] = max(0, site.jobs_of.get(need.user, 0) + sign)


def _release(one: tuple[float, int, str, Need], site: SiteSnapshot) -> Release:
    end, _, _, need = one
    return Release(end, need.cpus * need.nodes, need.mem * need.nodes, need.gpus_of(site.gpus) * need.nodes)
