"""A local search over plans without stops, for where stopping jobs, or running many of them slowly, gains nothing:
where a restart costs a good part of what is left of a job, or speed grows nearly in proportion to GPUs.

A plan is an order of the jobs and an option for each. Whatever fits starts at once, in that order; the next start when
something has ended; nobody is stopped later on. What a plan costs is known to the second: prices, restarts, tardiness.
From a few plans that are good guesses (what runs goes on; earliest deadline first; the dearest tardiness first), the
search moves one job in the order, or gives it another option, or both, as long as that saves anything. What a plan
starts now is the decision; the next event makes another one.

Prices (``prices``) plan for work that flows from one job to another at any time; where moves are dear, they thrash.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.placement.sizing.alone import Choice
from isthmus.placement.sizing.options import Option
from isthmus.placement.sizing.simulate import View

FEW = 100  # so many jobs at most
LOOKS = 100_000  # tries to place a job, in all plans that are looked at: a decision takes milliseconds, never a second
SAVES = 1e-4  # a plan must save this part of the cost to take the place of another


@dataclass(slots=True)
class _Plan:
    order: list[int]
    option: list[int]  # by job
    cost: float = math.inf


def search(
    view: View, rows: Sequence[Sequence[Option]], held: Sequence[Option | None], alone: Sequence[Choice]
) -> list[Choice]:
    """Who runs now with what. ``alone``: what each would choose by itself, to begin from."""
    return _Search(view, rows, held, alone).choices()


class _Search:
    def __init__(
        self,
        view: View,
        rows: Sequence[Sequence[Option]],
        held: Sequence[Option | None],
        alone: Sequence[Choice],
    ) -> None:
        self._view, self._rows = view, rows
        kinds = view.problem.gpu_types
        self._most = [view.problem.most_gpus[kind] for kind in kinds]
        # By job and option: seconds if started anew, if it goes on, price, kind, GPUs
        self._ways: list[list[tuple[float, float, float, int, int]]] = []
        self._held: list[int] = []
        for row, has, one in zip(rows, held, view.active, strict=True):
            self._held.append(next((number for number, other in enumerate(row) if other == has), -1))
            begin = view.restart_s if one.started else 0.0
            self._ways.append(
                [
                    (
                        begin + one.left / way.speed,
                        (one.debt_s if number == self._held[-1] else begin) + one.left / way.speed,
                        way.price,
                        kinds.index(way.kind),
                        way.gpus,
                    )
                    for number, way in enumerate(row)
                ]
            )
        self._due = [one.job.deadline_s - view.now for one in view.active]
        self._weight = [one.job.weight_per_s for one in view.active]
        self._fixed = [number for number, one in enumerate(view.active) if one.fixed]
        self._alone = [next(n for n, way in enumerate(rows[one.job]) if way == one.option) for one in alone]
        self._left = LOOKS

    def choices(self) -> list[Choice]:
        plans = sorted(self._guesses(), key=lambda one: one.cost)
        best = plans[0]
        for plan in plans[:2]:
            self._climb(plan)
            if plan.cost < best.cost * (1 - SAVES):
                best = plan
        now, ends = self._begin(best)
        return [self._choice(job, best.option[job], ends[job]) for job in now]

    def _choice(self, job: int, option: int, end_s: float) -> Choice:
        way = self._rows[job][option]
        late = end_s > self._due[job]
        worth = (way.price + (self._weight[job] if late else 0.0)) / way.speed
        return Choice(job, way, math.inf, worth)

    def _guesses(self) -> list[_Plan]:
        jobs = range(len(self._rows))
        fastest = [len(row) - 1 for row in self._rows]
        kept = [self._held[job] if self._held[job] >= 0 else self._alone[job] for job in jobs]

        def dear(job: int) -> float:
            """Tardiness first that costs most for the GPU-seconds that avoiding it takes."""
            seconds, _, _, _, gpus = self._ways[job][self._alone[job]]
            return -self._weight[job] / (seconds * gpus)

        due = sorted(jobs, key=lambda job: (self._due[job], job))
        plans = [
            _Plan(sorted(due, key=lambda job: self._held[job] < 0), kept),
            _Plan(due, list(self._alone)),
            _Plan(due, fastest),
            _Plan(sorted(jobs, key=dear), list(self._alone)),
            _Plan(sorted(jobs, key=dear), fastest),
        ]
        for plan in plans:
            plan.order = [*self._fixed, *(job for job in plan.order if job not in self._fixed)]
            plan.cost = self._cost(plan.order, plan.option, math.inf)
        return plans

    def _climb(self, plan: _Plan) -> None:
        """Make the plan cheaper, one job at a time, until nothing does."""
        first = len(self._fixed)
        improved = True
        while improved and self._left > 0:
            improved = False
            for job in list(plan.order[first:]):
                if self._left <= 0:
                    break
                improved |= self._move(plan, job, first)

    def _move(self, plan: _Plan, job: int, first: int) -> bool:
        """The best other place in the order and option of one job, if any is better."""
        rest = [other for other in plan.order if other != job]
        was = plan.option[job]
        best = (plan.cost * (1 - SAVES), plan.order, was)
        for option in range(len(self._ways[job])):
            plan.option[job] = option
            for place in range(first, len(rest) + 1):
                if self._left <= 0:
                    break
                order = [*rest[:place], job, *rest[place:]]
                cost = self._cost(order, plan.option, best[0])
                if cost < best[0]:
                    best = (cost, order, option)
        plan.option[job] = best[2]
        if best[1] is plan.order:
            return False
        plan.cost, plan.order = best[0], best[1]
        return True

    def _begin(self, plan: _Plan) -> tuple[list[int], dict[int, float]]:
        """Who starts now, and when who ends."""
        ends: dict[int, float] = {}
        now: list[int] = []
        self._cost(plan.order, plan.option, math.inf, now, ends)
        return now, ends

    def _cost(
        self,
        order: Sequence[int],
        option: Sequence[int],
        most: float,
        now: list[int] | None = None,
        ends: dict[int, float] | None = None,
    ) -> float:
        """What the plan costs; infinite as soon as it is more than ``most``, or can't be."""
        nodes, sizes = self._view.problem.nodes, self._most
        used = [0] * len(sizes)
        running: list[tuple[float, int, int]] = []
        waiting: Sequence[int] = order
        at, total = 0.0, 0.0
        while True:
            still: list[int] = []
            self._left -= len(waiting)
            for job in waiting:
                anew, on, price, kind, gpus = self._ways[job][option[job]]
                used[kind] += gpus
                if sum(-(-count // size) for count, size in zip(used, sizes, strict=True)) > nodes:
                    used[kind] -= gpus
                    still.append(job)
                    continue
                takes = on if not at else anew
                end = at + takes
                total += price * takes
                late = end - self._due[job]
                if late > 0:
                    total += self._weight[job] * late
                if total >= most:
                    return math.inf
                heapq.heappush(running, (end, kind, gpus))
                if ends is not None:
                    ends[job] = end
                if now is not None and not at:
                    now.append(job)
            if not still:
                break
            if not running:
                return math.inf
            waiting = still
            at, kind, gpus = heapq.heappop(running)
            used[kind] -= gpus
            while running and running[0][0] <= at:
                _, kind, gpus = heapq.heappop(running)
                used[kind] -= gpus
        return total
