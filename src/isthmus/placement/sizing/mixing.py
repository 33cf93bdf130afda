"""Our method: two configurations for each job, prices while nodes are short, and as few moves as can be.

1. Each job by itself: the cheapest way to its deadline is a while at one corner of its hull (fast, while the deadline
   presses), then at the next (cheap). It begins with the faster; a planned switch wakes the method.
2. If all of them together fit on the nodes, that is the answer. If not, ``prices`` says what the nodes' time is worth,
   hence what each job's work is worth, and the jobs that make most of a node get it.
3. ``packing`` puts them on nodes, as far as can be where they are.
"""

import math
from dataclasses import dataclass

import numpy as np

from isthmus.placement.sizing.options import Option, options, table
from isthmus.placement.sizing.packing import Item, pack
from isthmus.placement.sizing.prices import Work, clear
from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.simulate import Active, Decision, View

SLOTS = 40
STEPS = 30


@dataclass(slots=True)
class Choice:
    """What a job does now: an option, until the planned switch."""

    job: int
    option: Option
    until: float = math.inf
    value: float = 0.0


class Mixing:
    def __init__(self) -> None:
        self._rows: dict[int | str, tuple[Option, ...]] = {}
        self._prices: tuple[np.ndarray, np.ndarray] | None = None  # mid times, prices

    def decide(self, view: View) -> Decision:
        rows = [self._row(view.problem, one) for one in view.active]
        choices = [alone(row, one, number, view) for number, (row, one) in enumerate(zip(rows, view.active, strict=True))]
        wake = math.inf
        if not fits(view.problem, choices):
            choices, wake = self._share(view, rows)
        else:
            self._prices = None
        items = [item(view, choice) for choice in choices]
        places = pack(view.problem, items)
        wake = min([wake, *(choice.until for choice in choices)])
        return Decision(places, wake)

    def _row(self, problem: Problem, active: Active) -> tuple[Option, ...]:
        row = self._rows.get(active.job.id)
        if row is None:
            row = self._rows[active.job.id] = options(problem, active.job)
        return row

    def _share(self, view: View, rows: list[tuple[Option, ...]]) -> tuple[list[Choice], float]:
        active = view.active
        tab = table(rows)
        left = np.array([one.left for one in active])
        due = np.array([one.job.deadline_s - view.now for one in active])
        weight = np.array([one.job.weight_per_s for one in active])
        work = Work(tab, left, np.zeros(len(active)), due, weight)
        cheapest = left / tab.speed[:, 0]
        horizon = max(float((cheapest * tab.share[:, 0]).sum()) / view.problem.nodes * 1.3, float(cheapest.max()), float(due.max()))*1.05
        first = max(horizon / 400, 60.0)
        edges = np.concatenate([[0.0], np.geomspace(first, horizon, SLOTS)])
        mids = (edges[1:] + edges[:-1]) / 2 + view.now
        start = np.interp(mids, *self._prices) if self._prices is not None else np.zeros(SLOTS)
        prices, response = clear(work, view.problem.nodes, edges, start, steps=STEPS)
        self._prices = (mids, prices)
        chosen = self._fill(view, rows, response.worth, prices[0])
        return chosen, view.now + max(horizon / 60, 300.0)

    def _fill(self, view: View, rows: list[tuple[Option, ...]], worth: np.ndarray, price: float) -> list[Choice]:
        """Steps up from idle along each job's options, the most worth for a node's share first, while there is room."""
        steps: list[tuple[float, int, int]] = []
        for job, row in enumerate(rows):
            value, share, at = 0.0, 0.0, -1
            points = [(one.share, worth[job] * one.speed - one.price) for one in row]
            while True:
                best, best_ratio = -1, 0.0
                for k in range(len(row)):
                    if points[k][0] > share and points[k][1] > value:
                        ratio = (points[k][1] - value) / (points[k][0] - share)
                        if ratio > best_ratio:
                            best, best_ratio = k, ratio
                if best < 0:
                    break
                steps.append((-best_ratio, job, best))
                share, value = points[best]
        steps.sort()
        problem = view.problem
        used: dict[str, int] = {}
        option_of: dict[int, int] = {}
        for ratio, job, k in steps:
            new = rows[job][k]
            old = rows[job][option_of[job]] if job in option_of else None
            trial = dict(used)
            if old:
                trial[old.kind] -= old.gpus
            trial[new.kind] = trial.get(new.kind, 0) + new.gpus
            if sum(-(-g // problem.most_gpus[t]) for t, g in trial.items()) <= problem.nodes:
                used = trial
                option_of[job] = k
        return [Choice(job, rows[job][k]) for job, k in option_of.items()]


def alone(row: tuple[Option, ...], active: Active, number: int, view: View) -> Choice:
    """The cheapest way for one job by itself."""
    horizon = active.job.deadline_s - view.now
    left, weight = active.left, active.job.weight_per_s
    hull = list(row)
    fastest = max(hull, key=lambda one: one.speed)
    cheap = min(hull, key=lambda one: one.price / one.speed)
    if horizon <= 0 or left / fastest.speed > horizon:
        best = min(hull, key=lambda one: (one.price + weight) / one.speed)
        return Choice(number, best)
    needed = left / horizon
    if needed <= cheap.speed * (1 + 1e-9):
        return Choice(number, cheap)
    slow = max((one for one in hull if one.speed < needed), key=lambda one: one.speed)
    best_cost, best_choice = math.inf, None
    for fast in hull:
        if fast.speed < needed:
            continue
        for slow in hull:
            if slow.speed >= needed or slow.speed < cheap.speed:
                continue
            t = horizon * (needed - slow.speed) / (fast.speed - slow.speed)
            cost = t * fast.price + (horizon - t) * slow.price
            if cost < best_cost:
                best_cost, best_choice = cost, Choice(number, fast, view.now + t)
    assert best_choice is not None
    return best_choice


def fits(problem: Problem, choices: list[Choice]) -> bool:
    gpus: dict[str, int] = {}
    for choice in choices:
        gpus[choice.option.kind] = gpus.get(choice.option.kind, 0) + choice.option.gpus
    return sum(-(-g // problem.most_gpus[t]) for t, g in gpus.items()) <= problem.nodes


def item(view: View, choice: Choice) -> Item:
    one = view.active[choice.job]
    return Item(choice.job, choice.option.kind, choice.option.gpus, one.place if view.restart_s else None, 0.0, 1.0)
