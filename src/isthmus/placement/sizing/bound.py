"""What no schedule can beat: two lower bounds of a problem's cost.

``by_hull`` lets every job have its nodes for itself: the sum of the cheapest ways to each deadline on the lower convex
hull, with all numbers of GPUs, at the least price of a GPU, VMs of any size. ``with_capacity`` knows how many nodes
there are: the best value found of the Lagrangian dual of ``prices``, which is a bound whatever the prices.
"""

import math
from collections.abc import Callable

import numpy as np

from isthmus.placement.sizing.options import Array, options, table
from isthmus.placement.sizing.prices import Work, candidates, respond
from isthmus.placement.sizing.problem import Problem, SizedJob


def by_hull(problem: Problem) -> float:
    """The bound that ignores capacity."""
    return sum(_alone(problem, job) for job in problem.jobs)


def with_capacity(
    problem: Problem,
    *,
    slots: int = 240,
    steps: int = 150,
    on_progress: Callable[[int, int], None] | None = None,
) -> float:
    """The bound that knows the number of nodes; never below ``by_hull``."""
    work, edges = _work(problem, slots)
    lengths = np.diff(edges)
    prices = np.zeros(slots)
    best = by_hull(problem)
    scale = float(np.max(work.weight)) if len(work) else 0.0
    for step in range(steps if scale > 0 else 0):
        response = respond(work, prices, edges, candidates(work, float(prices.max()), 48))
        value = float(response.cost.sum()) - float((prices * lengths).sum()) * problem.nodes
        best = max(best, value)
        excess = response.usage / lengths - problem.nodes
        if on_progress is not None:
            on_progress(step + 1, steps)
        if not np.any(excess > 0) and not np.any(prices > 0):
            break  # all fits at no price: nothing above ``by_hull`` is to be found
        eta = 0.6 / (1.0 + 0.1 * step)
        floor = scale * 2e-3
        prices = np.maximum(0.0, (prices + floor) * np.exp(eta * np.clip(excess / problem.nodes, -1, 2)) - floor)
    return best


def _work(problem: Problem, slots: int) -> tuple[Work, Array]:
    rows = [options(problem, job, any_count=True) for job in problem.jobs]
    tab = table(rows)
    ready = np.array([job.release_s for job in problem.jobs])
    due = np.array([job.deadline_s for job in problem.jobs])
    weight = np.array([job.weight_per_s for job in problem.jobs])
    slowest = np.array([1.0 / row[0].speed for row in rows])
    # By then all are done, whoever waits for whom; most end long before.
    horizon = float(np.max(np.maximum(ready + slowest, due))) + float((slowest * tab.share[:, 0]).sum()) / problem.nodes
    dense = min(horizon, float(np.max(due)) * 1.2)
    edges = np.append(np.linspace(0.0, dense, slots), horizon * 1.001)
    return Work(tab, np.ones(len(rows)), ready, due, weight), edges


def _alone(problem: Problem, job: SizedJob) -> float:
    """The least that a job costs if it has whatever it wants: on the hull at its deadline, or later and late."""
    found = options(problem, job, any_count=True)
    window = job.deadline_s - job.release_s
    best = math.inf
    for one in found:
        tardy = max(0.0, 1.0 / one.speed - window)
        best = min(best, one.price / one.speed + job.weight_per_s * tardy)
        for other in found:
            if window > 0 and one.speed < 1.0 / window < other.speed:
                share = (1.0 / window - one.speed) / (other.speed - one.speed)
                best = min(best, window * (share * other.price + (1 - share) * one.price))
    return best
