"""Our method: two configurations for each job, prices while nodes are short, and as few moves as can be.

1. Each job by itself (``alone``): the cheapest way to its deadline is a while at one corner of its hull (fast, while
   the deadline presses), then at the next (cheap). It begins with the faster; a planned switch wakes the method.
2. If all of them together fit on the nodes, that is the answer. If not, ``prices`` says what the nodes' time is worth
   slot by slot, hence what each job's work is worth; the jobs to which a share of a node is worth most get it, and
   among those that could as well wait, the ones that have least time to lose.
3. ``packing`` puts them on nodes, as far as can be where they are.

Speeds are learned: what a job was seen to get done with an option replaces what was predicted of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from isthmus.placement.sizing.alone import LEAST_S, Choice, alone, spare_s
from isthmus.placement.sizing.learning import Learning
from isthmus.placement.sizing.options import Array, Option, table
from isthmus.placement.sizing.packing import Item, nodes_needed, pack
from isthmus.placement.sizing.prices import Work, clear
from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.search import FEW, Memory, search
from isthmus.placement.sizing.simulate import Active, Decision, View

KEEPS = 10.0  # so many restarts sooner must another have to run before it takes the place of one that runs
LAST = 5.0  # who has no more than so many restarts to run is left to end
MANY = 250
LINEAR = 1.6  # node-seconds that a job takes at its fastest, to the least that it can take
DEAR = 0.03  # a restart that is this part of a job's time or more


@dataclass(frozen=True, slots=True)
class Tuning:
    """How finely the prices are found, and how much is done to avoid moves. Found by `bench/placement.py`."""

    slots: int = 24
    steps: int = 20  # of the prices, from nothing
    warm_steps: int = 4  # from the last decision's
    worths: int = 10
    tie: float = 0.03  # prices are known no better than this
    looks: int = 60  # while nodes are short, decisions in the time that it takes to work off what is there
    dwell: float = 0.05  # of that time: for how long an assignment is taken to last, when a restart is weighed
    stay: float = 1.0  # how much more than its own price a restart counts in packing
    least_part: float = 0.0  # of its work that a job must have done before its speed is believed
    checks: float = 0.5  # a plan that just meets its deadline is looked at again after this part of the time to it

    def sized(self, jobs: int) -> "Tuning":
        """Coarser for very many jobs, so that a decision takes less than a second."""
        if jobs <= MANY:
            return self
        return replace(self, slots=16, steps=max(4, self.steps * MANY // jobs), warm_steps=2, worths=8)


class Mixing:
    """Decides for all jobs at once. Remembers what it saw of each job, and the prices."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self._tuning = tuning or Tuning()
        self._learning = Learning(self._tuning.least_part)
        self._prices: tuple[Array, Array] | None = None  # moments, prices
        self._plan: Memory | None = None  # of the last search

    def decide(self, view: View) -> Decision:
        self._learning.look(view)
        both = [self._learning.options(view.problem, one, view.restart_s) for one in view.active]
        rows = [_only_held(view.problem, row, one) for (row, _), one in zip(both, view.active, strict=True)]
        held = [_held(view.problem, row, one) for row, one in zip(rows, view.active, strict=True)]
        choices = self._alone(view, rows, held)
        tried = [_only_held(view.problem, row, one) for (_, row), one in zip(both, view.active, strict=True)]
        if tried != rows:
            hopes = self._alone(
                view, tried, [_held(view.problem, row, one) for row, one in zip(tried, view.active, strict=True)]
            )
            if _fit(view.problem, hopes):  # nobody is in the way of others: who has room may try
                choices = hopes
        wake = math.inf
        if _fit(view.problem, choices):
            self._prices = None
        elif len(view.active) <= FEW and (_moves_are_dear(view, rows) or _little_to_mix(rows)):
            self._prices = None
            choices, self._plan = search(view, rows, held, choices, self._plan)
        else:
            choices, wake = self._share(view, rows, held)
        places = pack(view.problem, self._items(view, choices))
        wake = min([wake, *(self._look_again(view, choice) for choice in choices)])
        self._learning.remember(view, places)
        return Decision(places, wake)

    def _alone(self, view: View, rows: Sequence[tuple[Option, ...]], held: Sequence[Option | None]) -> list[Choice]:
        return [
            alone(row, one, number, view.now, view.restart_s, held[number])
            for number, (row, one) in enumerate(zip(rows, view.active, strict=True))
        ]

    def _look_again(self, view: View, choice: Choice) -> float:
        """When a job's plan is to be looked at: at its switch, and on the way to a deadline that it just meets."""
        one = view.active[choice.job]
        horizon = one.job.deadline_s - view.now
        unseen = not self._learning.was_seen(one.job, choice.option.kind, choice.option.gpus)
        if unseen and self._learning.doubts(one.job):
            return min(choice.until, view.now + max(0.01 * horizon, LEAST_S) + 2 * view.restart_s)
        tight = one.left / choice.option.speed > 0.9 * horizon
        if tight and horizon > 0 and horizon * self._tuning.checks > 10 * (view.restart_s + LEAST_S):
            return min(choice.until, view.now + horizon * self._tuning.checks)
        return choice.until

    def _items(self, view: View, choices: Sequence[Choice]) -> list[Item]:
        lasts = [view.active[choice.job].left / choice.option.speed for choice in choices]
        last_s = float(np.percentile(lasts, 25)) if lasts else 1.0
        return [
            Item(
                job=choice.job,
                kind=choice.option.kind,
                gpus=choice.option.gpus,
                place=view.active[choice.job].place,
                restart=view.restart_s * choice.option.speed * choice.worth * self._tuning.stay,
                lasts_s=max(last_s, LEAST_S),
            )
            for choice in choices
        ]

    # ---- while nodes are short

    def _share(
        self, view: View, rows: Sequence[tuple[Option, ...]], held: Sequence[Option | None]
    ) -> tuple[list[Choice], float]:
        """Who gets how much of the nodes now, and when to look again."""
        tuning, active = self._tuning.sized(len(view.active)), view.active
        grid = table(rows)
        left = np.array([one.left for one in active])
        due = np.array([self._aim(one, view) for one in active])
        weight = np.array([one.job.weight_per_s for one in active])
        work = Work(grid, left, np.zeros(len(active)), due, weight)
        takes = left / grid.speed[:, 0]
        all_done = float((takes * grid.share[:, 0]).sum()) / view.problem.nodes
        horizon = 1.05 * max(1.3 * all_done, float(takes.max()), float(due.max()))
        edges = np.concatenate([[0.0], np.geomspace(horizon / 400, horizon, tuning.slots)])
        moments = (edges[1:] + edges[:-1]) / 2 + view.now
        start = np.interp(moments, *self._prices) if self._prices is not None else np.zeros(tuning.slots)
        steps = tuning.warm_steps if start.any() else tuning.steps
        prices, response = clear(work, view.problem.nodes, edges, start, steps=steps, worths=tuning.worths)
        self._prices = (moments, prices)
        dwell_s = max(horizon * tuning.dwell, 1.0)
        chosen = self._fill(view, rows, held, response.worth, float(prices[0]), dwell_s)
        look = max(horizon / tuning.looks, 3 * view.restart_s, LEAST_S)
        # Who was left out, and has time to spare, is looked at again before that is used up.
        placed = {choice.job for choice in chosen}
        spare = due - left / grid.speed.max(axis=1)
        latest = [float(spare[job]) for job in range(len(active)) if job not in placed and spare[job] > 0]
        return chosen, view.now + max(min([look, *latest]), LEAST_S)

    def _aim(self, one: Active, view: View) -> float:
        """By when, from now, a job should be done: where restarts cost time, a while before its deadline."""
        horizon = one.job.deadline_s - view.now
        return horizon - (spare_s(horizon, view.restart_s) + view.restart_s if one.place is None else 0.0)

    def _fill(
        self,
        view: View,
        rows: Sequence[tuple[Option, ...]],
        held: Sequence[Option | None],
        worths: Array,
        price: float,
        dwell_s: float,
    ) -> list[Choice]:
        """From idling, step by step along each job's options, while there is room: what is worth most first."""
        steps: list[_Step] = []
        for job, row in enumerate(rows):
            one, worth = view.active[job], float(worths[job])
            horizon = one.job.deadline_s - view.now
            at, share, value, speed = -1, 0.0, 0.0, 0.0
            if one.fixed and held[job] is not None:
                steps.append(_Step(-2, 0.0, job, 0, math.inf))
                continue
            while (up := _steepest(row, worth, share, value)) >= 0:
                target = row[up]
                gained = worth * target.speed - target.price
                # Who has it keeps it, unless taking it away gains more than the restart costs.
                keeps = view.restart_s / dwell_s if held[job] is not None and held[job] == target else 0.0
                ratio = (gained - value) / (target.share - share)
                # What it must run with this, and not with the one before, to be done in time.
                spare = spare_s(horizon, view.restart_s)
                need_s = (one.left - (horizon - view.restart_s - spare) * speed) / (target.speed - speed)
                must_s = need_s if held[job] == target else need_s - spare * speed / (target.speed - speed)
                if at >= 0 and _not_worth(must_s, row[at], target, one, view.restart_s, price, held[job] == target):
                    break
                if held[job] == target and one.debt_s + one.left / target.speed <= LAST * view.restart_s:
                    steps.append(_Step(-1, need_s, job, up, math.inf))
                elif ratio > price * (1 + self._tuning.tie) + 1e-3 * target.price:
                    bonus = keeps * worth * target.speed / target.share
                    steps.append(_Step(0, -ratio - bonus, job, up, need_s))
                else:
                    steps.append(_Step(1, horizon - need_s - KEEPS * keeps * dwell_s, job, up, need_s))
                at, share, value, speed = up, target.share, gained, target.speed
        steps.sort()
        return _take(view, rows, steps, worths)


def _not_worth(
    need_s: float, slow: Option, fast: Option, one: Active, restart_s: float, price: float, held: bool
) -> bool:
    """Whether a job had better be a little late than run faster for so short a while."""
    late = max(0.0, need_s) * (fast.speed - slow.speed) / slow.speed * one.job.weight_per_s
    restarts = restart_s * (slow.price + (0.0 if held else fast.price + fast.share * price))
    return late <= restarts or need_s < 1.0


class _Step(NamedTuple):
    """From what a job has to its option ``up``, in the order in which they are granted."""

    # -2: it can't be taken away; -1: it has it, and is about to end; 0: worth its price now; 1: it could as well wait
    rank: int
    key: float
    job: int
    up: int
    need_s: float  # how long it must have this to be done in time


def _take(view: View, rows: Sequence[tuple[Option, ...]], steps: Sequence[_Step], worths: Array) -> list[Choice]:
    problem = view.problem
    gpus: dict[str, int] = {}
    taken: dict[int, _Step] = {}
    for step in steps:
        option = rows[step.job][step.up]
        trial = dict(gpus)
        if step.job in taken:
            before = rows[step.job][taken[step.job].up]
            trial[before.kind] -= before.gpus
        trial[option.kind] = trial.get(option.kind, 0) + option.gpus
        if nodes_needed(problem, trial) <= problem.nodes:
            gpus, taken[step.job] = trial, step
    choices = []
    for job, step in taken.items():
        one = rows[job][step.up]
        slower = any(other.speed < one.speed for other in rows[job])
        until = (
            view.now + max(step.need_s, 1.0) if slower and step.need_s < view.active[job].left / one.speed else math.inf
        )
        choices.append(Choice(job, rows[job][step.up], until, float(worths[job])))
    return choices


def _steepest(row: Sequence[Option], worth: float, share: float, value: float) -> int:
    """The option that adds most value for each share of a node that it adds; -1: none adds any."""
    best, steepest = -1, 0.0
    for number, one in enumerate(row):
        gained = worth * one.speed - one.price - value
        if one.share > share and gained > 0 and gained / (one.share - share) > steepest:
            best, steepest = number, gained / (one.share - share)
    return best


def _only_held(problem: Problem, row: tuple[Option, ...], active: Active) -> tuple[Option, ...]:
    """The options of a job that can't be moved: what it has."""
    if not active.fixed or active.place is None:
        return row
    known = _held(problem, row, active)
    if known is None:  # it has a number of GPUs that nobody would choose
        kind, gpus = problem.vms[active.place.vm].gpu_type, active.place.gpus
        speed = 1.0 / active.job.time(kind, gpus)
        known = Option(kind, gpus, speed, problem.prices_per_s[kind, gpus], gpus / problem.most_gpus[kind])
    return (known,)


def _held(problem: Problem, row: Sequence[Option], active: Active) -> Option | None:
    if active.place is None:
        return None
    kind = problem.vms[active.place.vm].gpu_type
    return next((one for one in row if one.kind == kind and one.gpus == active.place.gpus), None)


def _moves_are_dear(view: View, rows: Sequence[Sequence[Option]]) -> bool:
    """Whether a restart is a good part of what is left of a job: then plans without stops are the better ones."""
    takes = [one.left / row[-1].speed for one, row in zip(view.active, rows, strict=True)]
    return view.restart_s > DEAR * float(np.median(takes))


def _little_to_mix(rows: Sequence[Sequence[Option]]) -> bool:
    """Whether jobs use nodes about as well fast as slowly: then running many at once, each slowly, only delays all."""
    wasted = [row[-1].share / row[-1].speed / min(one.share / one.speed for one in row) for row in rows]
    return float(np.median(wasted)) < LINEAR


def _fit(problem: Problem, choices: Sequence[Choice]) -> bool:
    gpus: dict[str, int] = {}
    for choice in choices:
        gpus[choice.option.kind] = gpus.get(choice.option.kind, 0) + choice.option.gpus
    return nodes_needed(problem, gpus) <= problem.nodes
