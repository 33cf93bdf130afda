"""Packing: who goes on which node. A node is of one GPU type, and the smallest VM that holds its jobs.

Two ways are compared by what they cost while they last, restarts counted: everybody who can stays where they are and
the rest go where they add least; or all is packed anew into the cheapest set of VMs for so many GPUs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from isthmus.placement.sizing.problem import Problem, Vm
from isthmus.placement.sizing.simulate import Place

MANY = 250  # so many are not looked at one by one where staying saves nothing


class Item(NamedTuple):
    """A job to be packed. ``restart`` is what starting it anew costs, ``lasts_s`` for how long it will hold this."""

    job: int
    kind: str
    gpus: int
    place: Place | None = None  # where it runs now
    restart: float = 0.0
    lasts_s: float = 1.0


@dataclass(slots=True)
class _Node:
    number: int
    kind: str
    vm: int = -1  # what it is now; -1: closed
    used: int = 0
    then: int = -1  # the VM for what is on it
    items: list[Item] = field(default_factory=list)

    def put(self, item: Item) -> None:
        self.items.append(item)
        self.used += item.gpus


def nodes_needed(problem: Problem, gpus_of: Mapping[str, int]) -> int:
    """The least number of nodes for so many GPUs of each type, in jobs whose sizes fill nodes."""
    return sum(-(-gpus // problem.most_gpus[kind]) for kind, gpus in gpus_of.items())


def pack(problem: Problem, items: Sequence[Item]) -> dict[int, Place]:
    """A place for each job; for as many as there is room for, where they are too many."""
    anew = _Anew(problem, items).pack()
    if len(items) > MANY and not any(item.restart for item in items):
        return anew
    stay = _Stay(problem, items).pack()
    if len(anew) > len(stay) or (len(anew) == len(stay) and _cost(problem, items, anew) < _cost(problem, items, stay)):
        return anew
    return stay


def _cost(problem: Problem, items: Sequence[Item], places: Mapping[int, Place]) -> float:
    """What these places cost while they last, and the restarts on the way there."""
    lasts: dict[Place, float] = {}
    cost = 0.0
    for item in items:
        place = places.get(item.job)
        if place is None:
            continue
        if item.place is not None and item.place != place:
            cost += item.restart
        node = Place(place.node, place.vm, 0)
        lasts[node] = max(lasts.get(node, 0.0), item.lasts_s)
    return cost + sum(problem.vms[node.vm].price_per_s * seconds for node, seconds in lasts.items())


class _Anew:
    """The cheapest set of VMs; what is there already is matched to them as far as it goes."""

    def __init__(self, problem: Problem, items: Sequence[Item]) -> None:
        self._problem = problem
        self._items = items

    def pack(self) -> dict[int, Place]:
        by_kind: dict[str, list[Item]] = {}
        for item in self._items:
            by_kind.setdefault(item.kind, []).append(item)
        nodes: list[_Node] = []
        for kind, bins in self._bins(by_kind).items():
            nodes.extend(self._fill(kind, bins, by_kind[kind]))
        return self._number(nodes)

    def _bins(self, by_kind: Mapping[str, Sequence[Item]]) -> dict[str, tuple[int, ...]]:
        """VMs for each GPU type: as few nodes as they need, then nodes that are left go where they save most."""
        gpus_of = {kind: sum(item.gpus for item in items) for kind, items in by_kind.items()}
        count = {kind: nodes_needed(self._problem, {kind: gpus}) for kind, gpus in gpus_of.items()}
        bins = {kind: self._cover(kind, gpus_of[kind], count[kind]) for kind in by_kind}
        spare = self._problem.nodes - sum(count.values())
        while spare > 0 and by_kind:
            gains = []
            for kind in by_kind:
                more = self._cover(kind, gpus_of[kind], count[kind] + 1)
                gains.append((self._price(bins[kind]) - self._price(more), kind, more))
            gain, kind, more = max(gains, key=lambda one: one[0])
            if gain <= 1e-12:
                break
            bins[kind], count[kind], spare = more, count[kind] + 1, spare - 1
        return bins

    def _cover(self, kind: str, gpus: int, nodes: int) -> tuple[int, ...]:
        most = self._problem.most_gpus[kind]
        largest = self._problem.smallest[kind, most]
        full, rest = divmod(gpus, most)
        return (largest,) * full + _cheapest(self._problem.vms, kind, rest, max(1, nodes - full))

    def _price(self, bins: Iterable[int]) -> float:
        return sum(self._problem.vms[vm].price_per_s for vm in bins)

    def _fill(self, kind: str, bins: Sequence[int], items: Sequence[Item]) -> list[_Node]:
        vms = self._problem.vms
        nodes = [_Node(-1, kind, vm) for vm in sorted(bins, key=lambda one: -vms[one].gpus)]
        for item in sorted(items, key=_together):
            for node in nodes:
                if node.used + item.gpus <= vms[node.vm].gpus:
                    node.put(item)
                    break
        return [node for node in nodes if node.items]

    def _number(self, nodes: Sequence[_Node]) -> dict[int, Place]:
        """Give each the node's number on which most would otherwise be restarted."""
        matches: list[tuple[float, int, int]] = []
        for place, node in enumerate(nodes):
            worth: dict[int, float] = {}
            for item in node.items:
                if item.place is not None and item.place.vm == node.vm and item.place.gpus == item.gpus:
                    worth[item.place.node] = worth.get(item.place.node, 0.0) + item.restart + 1e-9
            matches.extend((-value, place, number) for number, value in worth.items())
        taken: set[int] = set()
        for _, place, number in sorted(matches):
            if nodes[place].number < 0 and number not in taken:
                nodes[place].number = number
                taken.add(number)
        free = iter(number for number in range(self._problem.nodes) if number not in taken)
        places: dict[int, Place] = {}
        for node in nodes:
            number = node.number if node.number >= 0 else next(free, -1)
            if number >= 0:
                places.update({item.job: Place(number, node.vm, item.gpus) for item in node.items})
        return places


def _together(item: Item) -> tuple[int, int, int]:
    """The large first; those that are on one node now next to each other."""
    return -item.gpus, -1 if item.place is None else item.place.node, item.job


@lru_cache(maxsize=65536)
def _cheapest(vms: tuple[Vm, ...], kind: str, gpus: int, nodes: int) -> tuple[int, ...]:
    """The cheapest VMs, at most so many, that together have at least so many GPUs; () where none do."""
    if gpus <= 0:
        return ()
    best: tuple[float, tuple[int, ...]] = (float("inf"), ())
    for number, vm in enumerate(vms):
        if vm.gpu_type != kind or (nodes == 1 and vm.gpus < gpus):
            continue
        rest = _cheapest(vms, kind, gpus - vm.gpus, nodes - 1) if vm.gpus < gpus else ()
        if vm.gpus < gpus and not rest:
            continue
        price = vm.price_per_h + sum(vms[one].price_per_h for one in rest)
        if (price, len(rest)) < (best[0] - 1e-9, len(best[1])) or price < best[0] - 1e-9:
            best = (price, (number, *rest))
    return best[1]


class _Stay:
    """Those that need not move stay, while the nodes suffice for the rest; each other goes where it adds least."""

    def __init__(self, problem: Problem, items: Sequence[Item]) -> None:
        self._problem = problem
        self._items = items
        self._nodes: dict[int, _Node] = {}
        self._waiting: dict[str, int] = {}  # GPUs of jobs that are still to be placed, by type
        for item in items:
            self._waiting[item.kind] = self._waiting.get(item.kind, 0) + item.gpus

    def pack(self) -> dict[int, Place]:
        movers = self._keep()
        for item in sorted(movers, key=lambda one: -one.gpus):
            node = self._cheapest(item)
            self._waiting[item.kind] -= item.gpus
            if node is not None:
                node.put(item)
                node.then = self._vm(node)
        return {
            item.job: Place(node.number, node.then, item.gpus) for node in self._nodes.values() for item in node.items
        }

    def _keep(self) -> list[Item]:
        """Leave where they are those that need not move. The emptiest nodes are given up, if all are too many."""
        kept: dict[int, list[Item]] = {}
        movers: list[Item] = []
        for item in self._items:
            place = item.place
            if place is not None and place.gpus == item.gpus and self._problem.vms[place.vm].gpu_type == item.kind:
                kept.setdefault(place.node, []).append(item)
            else:
                movers.append(item)
        for number, items in sorted(kept.items(), key=lambda pair: (-sum(one.gpus for one in pair[1]), pair[0])):
            kind = items[0].kind
            if self._suffice(kind):
                assert items[0].place is not None
                self._nodes[number] = _Node(number, kind, items[0].place.vm)
                for item in items:
                    self._nodes[number].put(item)
                    self._waiting[kind] -= item.gpus
                self._nodes[number].then = self._vm(self._nodes[number])
            else:
                movers.extend(items)
        return movers

    def _suffice(self, kind: str) -> bool:
        """Whether the nodes would suffice for all that wait if one more were opened for this type."""
        most = self._problem.most_gpus
        room: dict[str, int] = {kind: most[kind]}
        for node in self._nodes.values():
            room[node.kind] = room.get(node.kind, 0) + most[node.kind] - node.used
        need = sum(-(-max(0, waiting - room.get(other, 0)) // most[other]) for other, waiting in self._waiting.items())
        return len(self._nodes) + 1 + need <= self._problem.nodes

    def _cheapest(self, item: Item) -> _Node | None:
        best: tuple[float, int, int] | None = None
        found: _Node | None = None
        for node in self._nodes.values():
            if node.kind != item.kind or node.used + item.gpus > self._problem.most_gpus[node.kind]:
                continue
            key = (self._added(node, item), node.used, node.number)
            if best is None or key < best:
                best, found = key, node
        if len(self._nodes) < self._problem.nodes and (found is None or self._suffice(item.kind)):
            price = self._problem.vms[self._problem.smallest[item.kind, item.gpus]].price_per_s * item.lasts_s
            if best is None or price <= best[0] + 1e-12:
                return self._fresh(item)
        return found

    def _fresh(self, item: Item) -> _Node:
        own = item.place.node if item.place is not None else -1
        if own < 0 or own in self._nodes:
            own = next(number for number in range(self._problem.nodes) if number not in self._nodes)
        self._nodes[own] = _Node(own, item.kind)
        return self._nodes[own]

    def _added(self, node: _Node, item: Item) -> float:
        """What putting it there adds: to the price while it lasts, and restarts of the others if the VM changes."""
        vms, now = self._problem.vms, node.then
        if vms[now].gpus >= node.used + item.gpus:
            return 0.0
        then = self._problem.smallest[node.kind, node.used + item.gpus]
        cost = max(0.0, vms[then].price_per_s - vms[now].price_per_s) * item.lasts_s
        return cost + sum(one.restart for one in node.items if one.place is not None and one.place.vm == now)

    def _vm(self, node: _Node) -> int:
        """The VM for what is on the node: the smallest, unless changing it costs more than it saves."""
        vms = self._problem.vms
        best = self._problem.smallest[node.kind, node.used]
        if node.vm >= 0 and node.vm != best and vms[node.vm].gpus >= node.used:
            stay = [one for one in node.items if one.place is not None and one.place[:2] == (node.number, node.vm)]
            lasts_s = max((one.lasts_s for one in node.items), default=0.0)
            saved = (vms[node.vm].price_per_s - vms[best].price_per_s) * lasts_s
            if stay and saved <= sum(one.restart for one in stay):
                return node.vm
        return best
