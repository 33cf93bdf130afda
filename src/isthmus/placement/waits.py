"""How long jobs wait in a site's own queue: learned from the last ones there, held towards what is usual elsewhere.

Waits spread over orders of magnitude, so their logarithms are averaged. With few cases the mean of a queue is drawn
towards that of its site, and this one towards that of all sites, as if ``HELD`` cases had been seen there (shrinkage,
as in empirical Bayes). A case counts half after ``HALF_LIFE_S``. Jobs that wait still, longer than is expected, count
as cases too: else a queue that stands still would look as it did when it last moved.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from isthmus.placement.snapshot import Expected

HELD = 4.0
HALF_LIFE_S = 6 * 3600.0
USUAL_S = 30.0  # where nothing at all was seen
USUAL_CASES = 1.0


class Case(NamedTuple):
    """One attempt: where it waited, how long, and how long ago that was. ``over``: it does not wait any more."""

    site: str
    queue: str
    wait_s: float
    age_s: float = 0.0
    over: bool = True


def learn(cases: Iterable[Case]) -> dict[str, dict[str, Expected]]:
    """For each site of which there are cases, what to expect by queue; "" stands for queues not seen."""
    every = list(cases)
    first = _means([case for case in every if case.over])
    late = [case for case in every if not case.over and case.wait_s > _of(first, case)]
    return _means([*(case for case in every if case.over), *late]) if late else first


def _of(found: Mapping[str, Mapping[str, Expected]], case: Case) -> float:
    here = found.get(case.site, {})
    expected = here.get(case.queue) or here.get("")
    return expected.seconds if expected else USUAL_S


def _means(cases: Iterable[Case]) -> dict[str, dict[str, Expected]]:
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for case in cases:
        weight = 0.5 ** (max(0.0, case.age_s) / HALF_LIFE_S)
        value, count = sums.get((case.site, case.queue), (0.0, 0.0))
        sums[case.site, case.queue] = (value + weight * math.log1p(max(0.0, case.wait_s)), count + weight)
    total, count = _added(sums.values())
    everywhere = (total + USUAL_CASES * math.log1p(USUAL_S)) / (count + USUAL_CASES)
    found: dict[str, dict[str, Expected]] = {}
    for site in sorted({site for site, _ in sums}):
        mine = {queue: value for (name, queue), value in sums.items() if name == site}
        value, count = _added(mine.values())
        mean = (value + HELD * everywhere) / (count + HELD)
        found[site] = {"": Expected(math.expm1(mean), count)}
        for queue, (own, seen) in mine.items():
            found[site][queue] = Expected(math.expm1((own + HELD * mean) / (seen + HELD)), seen)
    return found


def _added(sums: Iterable[tuple[float, float]]) -> tuple[float, float]:
    value = count = 0.0
    for one, many in sums:
        value, count = value + one, count + many
    return value, count
