"""Graphs in layers: how deep each node stands, and where its box goes in a picture."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Boxes:
    """What all boxes of a picture have in common: their size, the gaps between them, the margin around all."""

    wide: float
    high: float
    across: float
    down: float
    margin: float


@dataclass(frozen=True)
class Layout(Generic[T]):
    """Each node's upper left corner, and the size of the whole picture."""

    boxes: Boxes
    places: Mapping[T, tuple[float, float]]
    width: float
    height: float

    def line(self, maker: T, reader: T) -> tuple[float, float, float, float]:
        """From the middle of one box's lower edge to the middle of another's upper edge."""
        (x1, y1), (x2, y2) = self.places[maker], self.places[reader]
        return x1 + self.boxes.wide / 2, y1 + self.boxes.high, x2 + self.boxes.wide / 2, y2


def layers(names: Sequence[T], edges: Iterable[tuple[T, T]]) -> list[list[T]]:
    """The nodes by depth: each below all that it waits for. ``edges``: pairs of who makes a value and who takes it.

    Two nodes that wait for each other, or one that waits for itself, stand no deeper for that; a longer ring is
    cut where the fewest edges lead into it.
    """
    pairs = set(edges)
    pairs = {(maker, reader) for maker, reader in pairs if maker != reader and (reader, maker) not in pairs}
    readers: dict[T, list[T]] = {name: [] for name in names}
    unmet = dict.fromkeys(names, 0)
    for maker, reader in pairs:
        readers[maker].append(reader)
        unmet[reader] += 1
    depth: dict[T, int] = {}
    deepest = dict.fromkeys(names, 0)
    ready = [name for name in names if not unmet[name]]
    while len(depth) < len(unmet):
        if not ready:
            ready = [min((name for name in names if name not in depth), key=lambda name: unmet[name])]
        name = ready.pop()
        depth[name] = deepest[name]
        for reader in readers[name]:
            if reader in depth:
                continue  # the ring was cut there
            deepest[reader] = max(deepest[reader], depth[name] + 1)
            unmet[reader] -= 1
            if not unmet[reader]:
                ready.append(reader)
    rows: list[list[T]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name in names:
        rows[depth[name]].append(name)
    return rows


def layout(names: Sequence[T], edges: Iterable[tuple[T, T]], boxes: Boxes) -> Layout[T]:
    """Lay out a graph in rows, each in the middle of the picture."""
    rows = layers(names, edges)

    def span(row: Sequence[T]) -> float:
        return len(row) * boxes.wide + max(0, len(row) - 1) * boxes.across

    widest = max((span(row) for row in rows), default=0.0)
    places = {}
    for depth, row in enumerate(rows):
        left = boxes.margin + (widest - span(row)) / 2
        for slot, name in enumerate(row):
            places[name] = (
                left + slot * (boxes.wide + boxes.across),
                boxes.margin + depth * (boxes.high + boxes.down),
            )
    height = len(rows) * boxes.high + max(0, len(rows) - 1) * boxes.down
    return Layout(boxes, places, widest + 2 * boxes.margin, height + 2 * boxes.margin)
