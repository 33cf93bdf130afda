"""Lists: jobs in a fixed order, each with the setup that it likes best, none ever disturbed. The weakest baselines.

Each job gets a node of its own, as the authors of path relinking had it for earliest deadline first, first in first
out and priority. `FairEdf` orders by deadline too, but shares nodes and preempts: the baseline that deserves the name.
"""

from collections.abc import Callable

from isthmus.placement.sizing.greedy import construct
from isthmus.placement.sizing.setups import preferred
from isthmus.placement.sizing.simulate import Active, Decision, Place, View

Order = Callable[[Active], tuple[float, ...]]


def by_deadline(active: Active) -> tuple[float, ...]:
    return (active.job.deadline_s,)


def by_release(active: Active) -> tuple[float, ...]:
    return (active.job.release_s,)


def by_weight(active: Active) -> tuple[float, ...]:
    return (-active.job.weight_per_s,)


class WholeNodes:
    """Each job in its turn gets a whole node, with its preferred setup, until it has ended."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def decide(self, view: View) -> Decision:
        places = {number: one.place for number, one in enumerate(view.active) if one.place is not None}
        taken = {place.node for place in places.values()}
        free = [node for node in range(view.problem.nodes - 1, -1, -1) if node not in taken]
        waiting = [number for number, one in enumerate(view.active) if one.place is None]
        for number in sorted(waiting, key=lambda one: self._order(view.active[one])):
            if not free:
                break
            setup = preferred(view.problem, view.active[number], view.now).best
            places[number] = Place(free.pop(), setup.vm, setup.gpus)
        return Decision(places)


class FairEdf:
    """Earliest deadline first, with shared nodes and preemption: greedy construction in the order of deadlines."""

    def decide(self, view: View) -> Decision:
        order = sorted(range(len(view.active)), key=lambda one: by_deadline(view.active[one]))
        lists = [preferred(view.problem, one, view.now) for one in view.active]
        return Decision(construct(view, order, lists).places())
