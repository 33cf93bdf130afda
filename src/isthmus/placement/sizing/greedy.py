"""Greedy construction by pressure, as published (Filippini et al., IEEE TSC 16(3), 2023, section 5.1).

Jobs in the order of their pressure take the first of their preferred setups: on the open node of that GPU type that it
fills best, else on a new node (the largest VM of that type), else whichever of their other setups an open node has
room for. Then nodes shrink to the VM that is just large enough, and GPUs that are still idle go to the one job that
gains most time by them.
"""

import math
from collections.abc import Callable, Sequence
from random import Random

from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.setups import Preferred, Setup, preferred, pressure, slowest_s
from isthmus.placement.sizing.simulate import Decision, Place, View

UNPLACED = 100.0  # how much worse than its worst tardiness leaving a job out counts, as published

Pick = Callable[[int], int]  # which of so many candidates, the best first


def first(_: int) -> int:
    return 0


class Layout:
    """Who has what on which node, for one decision; built job by job."""

    __slots__ = ("free", "node_of", "order", "setup_of", "vm_of")

    def __init__(self) -> None:
        self.vm_of: dict[int, int] = {}  # open nodes
        self.free: dict[int, int] = {}  # their idle GPUs
        self.node_of: dict[int, int] = {}  # by the job's number
        self.setup_of: dict[int, Setup] = {}
        self.order: Sequence[int] = ()

    def copy(self) -> "Layout":
        twin = Layout()
        twin.vm_of, twin.free = dict(self.vm_of), dict(self.free)
        twin.node_of, twin.setup_of, twin.order = dict(self.node_of), dict(self.setup_of), self.order
        return twin

    def used(self, problem: Problem, node: int) -> int:
        return problem.vms[self.vm_of[node]].gpus - self.free[node]

    def places(self) -> dict[int, Place]:
        return {job: Place(node, self.vm_of[node], self.setup_of[job].gpus) for job, node in self.node_of.items()}


class Greedy:
    """One construction for each event."""

    def decide(self, view: View) -> Decision:
        lists = [preferred(view.problem, one, view.now) for one in view.active]
        return Decision(construct(view, by_pressure(view), lists).places())


def by_pressure(view: View) -> list[int]:
    """The jobs' numbers, the one under most pressure first."""
    return sorted(range(len(view.active)), key=lambda one: -pressure(view.active[one], view.now))


def construct(
    view: View,
    order: Sequence[int],
    lists: Sequence[Preferred],
    pick_setup: Pick = first,
    pick_node: Pick = first,
) -> Layout:
    """Place jobs in this order; ``lists`` are their setups in the order of preference."""
    problem, layout = view.problem, Layout()
    layout.order = order
    for job in order:
        if len(layout.vm_of) == problem.nodes and not any(layout.free.values()):
            break
        candidates = lists[job].meets or lists[job].misses
        if not candidates:
            continue
        chosen = pick_setup(len(candidates))
        setup = candidates[chosen]
        node = _fullest(problem, layout, setup, pick_node)
        if node is None and len(layout.vm_of) < problem.nodes:
            node = len(layout.vm_of)
            kind = problem.vms[setup.vm].gpu_type
            largest = _largest(problem, kind)
            layout.vm_of[node], layout.free[node] = largest, problem.vms[largest].gpus
        if node is None:
            others = lists[job].copy()
            others.take(lambda _, chosen=chosen: chosen)  # type: ignore[misc]
            while node is None and (other := others.take(pick_setup)) is not None:
                setup = other
                node = _fullest(problem, layout, setup, pick_node)
        if node is not None:
            layout.free[node] -= setup.gpus
            layout.node_of[job] = node
            layout.setup_of[job] = setup
    finish(view, layout)
    return layout


def finish(view: View, layout: Layout) -> None:
    """Shrink nodes to what is used; give idle GPUs to the job that gains most time by them."""
    problem = view.problem
    for node, vm in list(layout.vm_of.items()):
        if not layout.free[node]:
            continue
        used, kind = layout.used(problem, node), problem.vms[vm].gpu_type
        cheaper = [
            (other.price_per_h, number)
            for number, other in enumerate(problem.vms)
            if other.gpu_type == kind
            and other.gpus in (used, used + 1)
            and other.price_per_h < problem.vms[vm].price_per_h
        ]
        if cheaper:
            layout.vm_of[node] = min(cheaper)[1]
            layout.free[node] = problem.vms[layout.vm_of[node]].gpus - used
    gain, best = 0.0, -1
    for job, node in layout.node_of.items():
        if layout.free[node]:
            delta = layout.setup_of[job].time_s - _time(view, layout, job, layout.free[node])
            if delta > gain:
                gain, best = delta, job
    if best >= 0:
        node = layout.node_of[best]
        time_s = _time(view, layout, best, layout.free[node])
        gpus = layout.setup_of[best].gpus + layout.free[node]
        layout.setup_of[best], layout.free[node] = Setup(layout.vm_of[node], gpus, time_s), 0


def _time(view: View, layout: Layout, job: int, more: int) -> float:
    kind = view.problem.vms[layout.vm_of[layout.node_of[job]]].gpu_type
    return view.active[job].job.time(kind, layout.setup_of[job].gpus + more) * view.active[job].left


def _fullest(problem: Problem, layout: Layout, setup: Setup, pick: Pick) -> int | None:
    """The open node of the setup's GPU type on which fewest GPUs stay idle."""
    vms, vm_of, gpus = problem.vms, layout.vm_of, setup.gpus
    kind = vms[setup.vm].gpu_type
    fitting = [(free, node) for node, free in layout.free.items() if free >= gpus and vms[vm_of[node]].gpu_type == kind]
    if not fitting:
        return None
    if pick is first:
        return min(fitting)[1]
    fitting.sort()
    return fitting[pick(len(fitting))][1]


def _largest(problem: Problem, kind: str) -> int:
    sizes = [(vm.gpus, -number) for number, vm in enumerate(problem.vms) if vm.gpu_type == kind]
    return -max(sizes)[1]


class RandomGreedy:
    """Many constructions for each event, each with chance in the order and the choices; the cheapest is taken.

    ``alpha`` and ``beta`` are the shares of setups and of nodes, the best first, among which chance decides; two
    neighbours in the order change places with probability 0.5, and ``pi`` more where that brings the heavier forward.
    """

    def __init__(
        self, seed: int = 0, iterations: int = 100, *, alpha: float = 0.05, beta: float = 0.2, pi: float = 0.05
    ) -> None:
        self._dice = Random(seed)
        self._iterations = iterations
        self._alpha, self._beta, self._pi = alpha, beta, pi

    def decide(self, view: View) -> Decision:
        return Decision(min(self.constructions(view), key=lambda one: until_first_end(view, one)).places())

    def constructions(self, view: View) -> list[Layout]:
        """The greedy one, then the random ones."""
        lists = [preferred(view.problem, one, view.now) for one in view.active]
        order = by_pressure(view)
        found = [construct(view, order, lists)]
        for _ in range(1, self._iterations):
            found.append(construct(view, self._swapped(view, order), lists, self._setup, self._node))
        return found

    def _setup(self, count: int) -> int:
        return self._among(count, self._alpha)

    def _node(self, count: int) -> int:
        return self._among(count, self._beta)

    def _among(self, count: int, share: float) -> int:
        best = round(count * share)
        return int(self._dice.random() * best) if best > 1 else 0

    def _swapped(self, view: View, order: Sequence[int]) -> list[int]:
        swapped = list(order)
        for place in range(len(swapped) - 1):
            here, after = view.active[swapped[place]].job, view.active[swapped[place + 1]].job
            chance = 0.5 + (self._pi if here.weight_per_s > after.weight_per_s else -self._pi)
            if self._dice.random() < chance:
                swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        return swapped


def until_first_end(view: View, layout: Layout) -> float:
    """The published objective: what it costs until the first job ends, and a high price for each that is left out."""
    problem = view.problem
    first_end = min((setup.time_s for setup in layout.setup_of.values()), default=math.inf)
    cost = 0.0
    for node, vm in layout.vm_of.items():
        if layout.used(problem, node):
            cost += problem.vms[vm].price_per_s * first_end
    for number, one in enumerate(view.active):
        if number in layout.node_of:
            cost += one.job.weight_per_s * max(0.0, view.now + first_end - one.job.deadline_s)
        else:
            worst = max(0.0, view.now + slowest_s(one) - one.job.deadline_s)
            cost += UNPLACED * worst * one.job.weight_per_s
    return cost
