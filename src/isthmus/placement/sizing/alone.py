"""One job by itself: the cheapest way to its deadline, restarts counted.

The candidates: one option to the end; or a faster one now and a slower one from a planned switch on, such that the job
ends just at its deadline. On the hull of two corners nothing else is cheaper.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from isthmus.placement.sizing.options import Option
from isthmus.placement.sizing.simulate import Active

LEAST_S = 1.0  # no switch is planned for less
LEAST_PART = 1e-5  # of the time to the deadline, likewise
SPARE_RESTARTS = 4.0  # so many restarts are allowed for, once it runs faster anyway
SPARE_PART = 0.1  # of the time to the deadline, at most


def spare_s(horizon_s: float, restart_s: float) -> float:
    """How much sooner than its deadline a job aims to end: moves that others make necessary cost it time."""
    return min(SPARE_RESTARTS * restart_s, SPARE_PART * max(0.0, horizon_s))


class Choice(NamedTuple):
    """What a job does now: an option, until the planned switch. ``worth``: of its whole work, in money."""

    job: int
    option: Option
    until: float = math.inf
    worth: float = 0.0


def alone(
    row: Sequence[Option], active: Active, number: int, now: float, restart_s: float, held: Option | None
) -> Choice:
    """The cheapest way for one job. ``held``: the option that it runs with now."""
    horizon = active.job.deadline_s - now
    left, weight = active.left, active.job.weight_per_s
    best_cost, best = math.inf, Choice(number, row[0])
    begin = restart_s if active.started else 0.0
    for one in row:
        debt = active.debt_s if one == held else begin
        takes = debt + left / one.speed
        late = max(0.0, takes - horizon - LEAST_S * (restart_s > 0))
        cost = one.price * takes + weight * late
        if cost < best_cost:
            # Who has no time to spare has to make up for a restart by running faster for a while, or is late.
            tight = takes + restart_s > horizon
            worth = _catching_up(row, one, weight) if tight and restart_s else one.price / one.speed
            worth = (one.price + weight) / one.speed if late else worth
            best_cost, best = cost, Choice(number, one, math.inf, worth)
    if active.rigid:
        return best
    spare = spare_s(horizon, restart_s)
    least = max(LEAST_S, LEAST_PART * horizon)
    for fast in row:
        debt = active.debt_s if fast == held else begin
        for slow in row:
            if slow.speed >= fast.speed or slow.price >= fast.price:
                continue
            # debt + first + restart + second = horizon, and first and second get the work done.
            room = horizon - spare - debt - restart_s
            first = (left - room * slow.speed) / (fast.speed - slow.speed)
            if first < least or first > room:
                continue
            cost = fast.price * (debt + first) + slow.price * (horizon - spare - debt - first)
            if cost < best_cost * (1 - 1e-9):
                worth = (fast.price - slow.price) / (fast.speed - slow.speed)
                best_cost, best = cost, Choice(number, fast, now + debt + first, worth)
    return best


def _catching_up(row: Sequence[Option], one: Option, weight: float) -> float:
    """What a second that is lost at this option costs to make up for, for the whole work."""
    slopes = [
        (other.price - one.price) / (other.speed - one.speed)
        for other in row
        if other.speed > one.speed and other.price > one.price
    ]
    return min([*slopes, (one.price + weight) / one.speed])
