"""A local search over plans without stops, for where stopping jobs, or running many of them slowly, gains nothing:
where a restart costs a good part of what is left of a job, or speed grows nearly in proportion to GPUs.

A plan is an order of the jobs and an option for each. Whatever fits starts at once, in that order; the next start when
something has ended; nobody is stopped later on. What a plan costs is known to the second: prices, restarts, tardiness.
From a few plans that are good guesses (the last decision's; what runs goes on; earliest deadline first; the dearest
tardiness first), the search moves one job in the order, or gives it another option, or both, as long as that saves
anything: of few jobs each to every place, of many some to some, by chance. What a plan starts now is the decision; the
next event goes on from the plan.

Prices (``prices``) plan for work that flows from one job to another at any time; where moves are dear, they thrash.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from isthmus.placement.sizing.alone import Choice
from isthmus.placement.sizing.options import Option
from isthmus.placement.sizing.simulate import View

FEW = 100  # so many jobs at most
ALL = 4000  # so many plans to look at for one round of all moves, at most; of more, chance chooses
NEAR = 0.5  # of the moves, to a place that is near the job's
VAIN = 150  # moves that save nothing, after which no better ones are hoped for
LOOKS = 100_000  # tries to place a job, in all plans that are looked at: a decision takes milliseconds, never a second
SAVES = 1e-4  # a plan must save this part of the cost to take the place of another


@dataclass(frozen=True, slots=True)
class Memory:
    """The plan of a decision: the jobs' ids in order, and the option of each."""

    order: tuple[int | str, ...] = ()
    options: Mapping[int | str, Option] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    order: list[int]
    option: list[int]  # by job
    cost: float = math.inf


def search(
    view: View,
    rows: Sequence[Sequence[Option]],
    held: Sequence[Option | None],
    alone: Sequence[Choice],
    before: Memory | None = None,
) -> tuple[list[Choice], Memory]:
    """Who runs now with what, and the plan. ``alone``: what each would choose by itself, to begin from."""
    return _Search(view, rows, held, alone).choices(before or Memory())


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
        self._dice = Random(len(rows))

    def choices(self, before: Memory) -> tuple[list[Choice], Memory]:
        plans = sorted([*self._guesses(), *self._recalled(before)], key=lambda one: one.cost)
        best = plans[0]
        ids = [one.job.id for one in self._view.active]
        if len(ids) ** 2 * max(len(row) for row in self._rows) <= ALL:
            for plan in plans[:2]:
                self._climb(plan)
                if plan.cost < best.cost * (1 - SAVES):
                    best = plan
        else:
            self._wander(best)
        now, ends = self._begin(best)
        kept = Memory(
            tuple(ids[job] for job in best.order),
            {ids[job]: self._rows[job][option] for job, option in enumerate(best.option)},
        )
        return [self._choice(job, best.option[job], ends[job]) for job in now], kept

    def _recalled(self, before: Memory) -> list[_Plan]:
        """The last decision's plan, with those that came since at the end by their deadlines."""
        numbers = {one.job.id: number for number, one in enumerate(self._view.active)}
        known = [numbers[job] for job in before.order if job in numbers]
        if not known:
            return []
        fresh = sorted(set(numbers.values()) - set(known), key=lambda job: (self._due[job], job))
        option = list(self._alone)
        for job in known:
            was = before.options[self._view.active[job].job.id]
            same = [n for n, way in enumerate(self._rows[job]) if (way.kind, way.gpus) == (was.kind, was.gpus)]
            option[job] = same[0] if same else option[job]
        for job in range(len(option)):
            option[job] = self._held[job] if self._held[job] >= 0 else option[job]
        order = [job for job in (*known, *fresh) if job not in self._fixed]
        # What runs goes on: a plan without stops.
        order.sort(key=lambda job: self._held[job] < 0)
        plan = _Plan([*self._fixed, *order], option)
        plan.cost = self._cost(plan.order, plan.option, math.inf)
        return [plan]

    def _wander(self, plan: _Plan) -> None:
        """Make the plan cheaper by moves that chance proposes."""
        first, count, dice, vain = len(self._fixed), len(plan.order), self._dice, 0
        while self._left > 0 and count > first and vain < VAIN:
            vain += 1
            place = dice.randrange(first, count)
            job = plan.order[place]
            was = plan.option[job]
            option = dice.randrange(len(self._ways[job])) if dice.random() < 0.5 else was
            spread = max(2, count // 10) if dice.random() < NEAR else count
            target = min(count - 1, max(first, place + dice.randint(-spread, spread)))
            if option == was and target == place:
                continue
            order = [*plan.order[:place], *plan.order[place + 1 :]]
            order.insert(target, job)
            plan.option[job] = option
            cost = self._cost(order, plan.option, plan.cost)
            if cost < plan.cost:
                plan.cost, plan.order, vain = cost, order, 0
            else:
                plan.option[job] = was

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
            for place, job in enumerate(waiting):
                anew, on, price, kind, gpus = self._ways[job][option[job]]
                used[kind] += gpus
                opened = sum(-(-count // size) for count, size in zip(used, sizes, strict=True))
                if opened > nodes:
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
                if opened == nodes and not any(count % size for count, size in zip(used, sizes, strict=True)):
                    still.extend(waiting[place + 1 :])  # nothing is left
                    break
            self._left -= place + 1
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
