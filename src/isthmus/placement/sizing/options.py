"""Options: the ways to run a job that could ever be worth it, as arrays for all jobs at once.

An option is a GPU type and a number of GPUs. It has a speed (of the whole job, per second), a price (per second) and
a share of a node. Of each type only the corners of the lower convex hull of (speed, price) are kept: whatever lies
above it is beaten by running a while at one corner and a while at the next (``hull``). Options that another beats in
speed, price and share go too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.placement.sizing.hull import corners
from isthmus.placement.sizing.problem import Problem, SizedJob

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run one job."""

    kind: str  # GPU type
    gpus: int
    speed: float  # of the whole job, per second
    price: float  # per second
    share: float  # of a node


@dataclass(frozen=True, slots=True)
class Table:
    """Options of many jobs, [job, option], slowest first; rows are filled up with idling: no speed, no price."""

    speed: Array
    price: Array
    share: Array


def options(problem: Problem, job: SizedJob, *, any_count: bool = False) -> tuple[Option, ...]:
    """The options of a job, slowest first. Only numbers of GPUs that a VM has, and powers of two (they fit together
    without waste), unless ``any_count``."""
    found: list[Option] = []
    for kind, most in problem.most_gpus.items():
        row = job.times.get(kind, ())
        sizes = {vm.gpus for vm in problem.vms if vm.gpu_type == kind} | {
            1 << power for power in range(most.bit_length())
        }
        counts = [n for n in range(1, min(most, len(row)) + 1) if any_count or n in sizes]
        points = [(1.0 / row[n - 1], problem.prices_per_s[kind, n]) for n in counts]
        found.extend(
            Option(kind, counts[number], points[number][0], points[number][1], counts[number] / most)
            for number in corners(points)
        )
    kept = [one for one in found if not any(_beats(other, one) for other in found)]
    return tuple(sorted(kept, key=lambda one: (one.speed, one.price)))


def table(rows: Sequence[Sequence[Option]]) -> Table:
    """The options of many jobs as arrays."""
    width = max((len(row) for row in rows), default=1)
    filled = np.zeros((3, len(rows), width))
    for number, row in enumerate(rows):
        for place, one in enumerate(row):
            filled[:, number, place] = one.speed, one.price, one.share
    return Table(*filled)


def _beats(one: Option, other: Option) -> bool:
    no_worse = one.speed >= other.speed and one.price <= other.price and one.share <= other.share
    return no_worse and (one.speed, one.price, one.share) != (other.speed, other.price, other.share)
