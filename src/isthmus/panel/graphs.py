"""Where the boxes of a graph stand in a picture: in layers, each below those whose values it takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WIDE, HIGH = 168, 44  # of a box
_ACROSS, _DOWN, _EDGE = 196, 84, 14  # from one box to the next, and around all


@dataclass(frozen=True)
class Layout:
    """Each box's left upper corner, and the size of the whole picture."""

    places: Mapping[str, tuple[float, float]]
    width: float
    height: float

    def line(self, maker: str, reader: str) -> tuple[float, float, float, float]:
        """From the lower edge of one box to the upper edge of another."""
        (x1, y1), (x2, y2) = self.places[maker], self.places[reader]
        return x1 + WIDE / 2, y1 + HIGH, x2 + WIDE / 2, y2


def layout(names: Sequence[str], edges: Iterable[tuple[str, str]]) -> Layout:
    """Lay out a graph. ``edges``: pairs of who makes a value and who takes it, both among the names."""
    layer = _layers(names, set(edges))
    rows: dict[int, list[str]] = {}
    for name in names:
        rows.setdefault(layer[name], []).append(name)
    widest = max((len(row) for row in rows.values()), default=1)
    places = {}
    for depth, row in rows.items():
        for slot, name in enumerate(row):
            places[name] = ((widest - len(row)) * _ACROSS / 2 + slot * _ACROSS + _EDGE, depth * _DOWN + _EDGE)
    return Layout(places, widest * _ACROSS, (max(rows, default=0) + 1) * _DOWN - (_DOWN - HIGH) + 2 * _EDGE)


def _layers(names: Sequence[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """How deep each stands. What takes its own values, or stands in a ring, stands no deeper for that."""
    layer = dict.fromkeys(names, 0)
    for _ in range(min(len(names), 60)):
        moved = False
        for maker, reader in edges:
            if maker != reader and (reader, maker) not in edges and layer[reader] <= layer[maker] < len(names):
                layer[reader] = layer[maker] + 1
                moved = True
        if not moved:
            break
    return layer
