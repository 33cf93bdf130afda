"""Packing: who goes on which node. Nodes are of one GPU type each, as small a VM as holds their jobs.

Jobs that need not move stay, as far as that leaves room; each other goes where it adds least to the price, restarts
that it causes counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.simulate import Place


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
    items: list[Item] = field(default_factory=list)


def nodes_needed(problem: Problem, gpus_of: Mapping[str, int]) -> int:
    """The least number of nodes for so many GPUs of each type, in jobs whose sizes fill nodes."""
    return sum(-(-gpus // problem.most_gpus[kind]) for kind, gpus in gpus_of.items())


def pack(problem: Problem, items: Sequence[Item]) -> dict[int, Place]:
    """A place for each job that one was found for; in the order given, where not all fit."""
    packer = _Packer(problem, items)
    return packer.pack()


class _Packer:
    def __init__(self, problem: Problem, items: Sequence[Item]) -> None:
        self._problem = problem
        self._items = items
        self._nodes: dict[int, _Node] = {}
        self._waiting: dict[str, int] = {}  # GPUs of jobs that are still to be placed, by type
        self._spare: dict[str, int] = {}  # idle GPUs of open nodes, by type
        for item in items:
            self._waiting[item.kind] = self._waiting.get(item.kind, 0) + item.gpus

    def pack(self) -> dict[int, Place]:
        movers = self._keep()
        for item in sorted(movers, key=lambda one: -one.gpus):
            self._waiting[item.kind] -= item.gpus
            node = self._cheapest(item)
            if node is not None:
                self._put(item, node)
        places: dict[int, Place] = {}
        for node in self._nodes.values():
            vm = self._vm(node)
            for item in node.items:
                places[item.job] = Place(node.number, vm, item.gpus)
        return places

    def _keep(self) -> list[Item]:
        """Leave where they are those that need not move, while the nodes suffice for the rest."""
        kept: dict[int, list[Item]] = {}
        movers: list[Item] = []
        for item in self._items:
            place = item.place
            if place is not None and place.gpus == item.gpus and self._problem.vms[place.vm].gpu_type == item.kind:
                kept.setdefault(place.node, []).append(item)
            else:
                movers.append(item)
        # The emptiest nodes are given up first, where all of them together are too many.
        for number, items in sorted(kept.items(), key=lambda pair: (-sum(one.gpus for one in pair[1]), pair[0])):
            kind = items[0].kind
            gpus = sum(item.gpus for item in items)
            if self._fits_with(kind, gpus):
                assert items[0].place is not None
                self._nodes[number] = _Node(number, kind, items[0].place.vm, gpus, list(items))
                self._waiting[kind] -= gpus
            else:
                movers.extend(items)
        return movers

    def _fits_with(self, kind: str, gpus: int) -> bool:
        """Whether all others would still fit if one more node held just these."""
        open_room: dict[str, int] = {}
        for node in self._nodes.values():
            open_room[node.kind] = open_room.get(node.kind, 0) + self._problem.most_gpus[node.kind] - node.used
        open_room[kind] = open_room.get(kind, 0) + self._problem.most_gpus[kind] - gpus
        need = 0
        for other, waiting in self._waiting.items():
            left = waiting - (gpus if other == kind else 0) - open_room.get(other, 0)
            if left > 0:
                need += -(-left // self._problem.most_gpus[other])
        return len(self._nodes) + 1 + need <= self._problem.nodes

    def _cheapest(self, item: Item) -> _Node | None:
        best: tuple[float, int, int] | None = None
        best_node: _Node | None = None
        for node in self._nodes.values():
            if node.kind != item.kind or node.used + item.gpus > self._problem.most_gpus[node.kind]:
                continue
            key = (self._added(node, item), node.used, node.number)
            if best is None or key < best:
                best, best_node = key, node
        fresh = self._fresh(item)
        if fresh is not None:
            price = self._problem.vms[self._problem.smallest[item.kind, item.gpus]].price_per_s * item.lasts_s
            if best is None or price <= best[0] + 1e-12:
                self._nodes[fresh.number] = fresh
                return fresh
        return best_node

    def _fresh(self, item: Item) -> _Node | None:
        """A new node, if the nodes that are left suffice for the others without it."""
        if len(self._nodes) >= self._problem.nodes:
            return None
        if not self._fits_with(item.kind, item.gpus) and any(
            node.kind == item.kind and node.used + item.gpus <= self._problem.most_gpus[item.kind]
            for node in self._nodes.values()
        ):
            return None
        own = item.place.node if item.place is not None and item.place.node not in self._nodes else None
        number = own if own is not None else next(n for n in range(self._problem.nodes) if n not in self._nodes)
        return _Node(number, item.kind)

    def _added(self, node: _Node, item: Item) -> float:
        """What putting it there adds: to the price while it lasts, and restarts of the others if the VM changes."""
        now, then = self._vm(node), self._problem.smallest[node.kind, node.used + item.gpus]
        vms = self._problem.vms
        cost = max(0.0, vms[then].price_per_s - vms[now].price_per_s) * item.lasts_s
        if then != now:
            cost += sum(other.restart for other in node.items if other.place is not None and other.place.vm == now)
        return cost

    def _put(self, item: Item, node: _Node) -> None:
        node.items.append(item)
        node.used += item.gpus

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
