"""Backfill: smaller jobs may use what a blocked job leaves free, as long as they don't delay it.

    who runs, until when at most ─► the head's earliest start ─► behind it: what ends before, or fits beside it

EASY backfill (Lifka, JSSPP 1995): the first job that is blocked reserves its earliest start at one site. Times are
upper bounds; where a job without a time limit holds what the head needs, its start isn't known, and nothing passes.
Parts of GPUs are added up for the head's start, and count as whole ones for those behind it: which GPU they will be
parts of is not known yet.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from isthmus.placement.gpus import ROUNDING
from isthmus.placement.needs import Need
from isthmus.placement.snapshot import SiteSnapshot

_PLENTY = 1 << 62  # of memory, where a site doesn't say how much it has


class Release(NamedTuple):
    """What becomes free at a site, and when at the latest; ``at`` inf: nobody knows."""

    at: float
    cpus: int
    mem: int
    gpus: float


@dataclass(slots=True)
class Reservation:
    """A blocked job's claim on a site: from ``at`` on it has what it needs, and the rest is free."""

    at: float
    cpus: int  # that are left beside it then
    mem: int
    gpus: float

    def admits(self, need: Need, now: float) -> bool:
        """Whether a job may start now without delaying the one that waits."""
        if not math.isfinite(self.at):
            return False
        if need.time and now + need.time <= self.at:
            return True
        return need.cpus <= self.cpus and need.mem <= self.mem and _whole(need) <= self.gpus + ROUNDING

    def admit(self, need: Need, now: float) -> None:
        """It starts: what it holds beyond ``at`` is no longer left."""
        if not (need.time and now + need.time <= self.at):
            self.cpus -= need.cpus
            self.mem -= need.mem
            self.gpus -= _whole(need)


def reserve(need: Need, site: SiteSnapshot, releases: Iterable[Release]) -> Reservation:
    """The earliest start of a job that is blocked at a site without a queue of its own."""
    cpus = site.total_cpus - site.used_cpus - need.cpus
    mem = site.total_mem - site.used_mem - need.mem if site.total_mem else _PLENTY
    gpus = site.total_gpus - site.gpus.occupied(site.used_gpus) - need.gpus_of(site.gpus)
    at = -math.inf
    for release in sorted(releases):
        if cpus >= 0 and mem >= 0 and gpus >= -ROUNDING and release.at > at:
            break
        at = max(at, release.at)
        cpus, mem, gpus = cpus + release.cpus, mem + release.mem, gpus + release.gpus
    if cpus < 0 or mem < 0 or gpus < -ROUNDING:
        return Reservation(math.inf, 0, 0, 0)
    return Reservation(at, cpus, mem, gpus)


def _whole(need: Need) -> int:
    return need.gpus if need.part is None else 1
