"""A site's GPUs: how many of each type are given away, whole and in parts.

    whole ones by type ─┐
    parts of one       ─┴─► how many GPUs are in use, and whether there is room for more

Parts are packed as the machine's keeper does it (`isthmus.runner.sharing`): where least stays over, else on a GPU that
nobody has, else on one elsewhere that the site declares. A part takes so much of a GPU's time and so much of its
memory; both must be free. Types are compared whatever their case; who names none may have any.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from isthmus.domain.sites import GpuKind
from isthmus.domain.units import show_bytes

ANY = ""
ROUNDING = 1e-6


class Part(NamedTuple):
    """A part of one GPU, as a job asks for it: see `isthmus.domain.jobs.GpuPart`. ``kind``: of that type; "": any."""

    kind: str
    part: float
    mem: int


@dataclass(slots=True)
class _Room:
    """What is left of a GPU that is shared."""

    kind: str
    of: int  # bytes of all its memory; 0: not known
    elsewhere: bool
    part: float
    mem: float

    def takes(self, want: Part) -> bool:
        return self.elsewhere or want.kind in (ANY, self.kind)


@dataclass(slots=True)
class Gpus:
    """What there is, and what is taken of it.

    ``mems``: bytes of a GPU of each type, the least; 0 where that is not known: there, who says memory alone takes a
    whole one. ``remote``: likewise of each GPU elsewhere. ``divides``: False where a part of a GPU takes a whole one.
    """

    totals: Mapping[str, int] = field(default_factory=dict)
    mems: Mapping[str, int] = field(default_factory=dict)
    remote: tuple[int, ...] = ()
    divides: bool = True
    taken: dict[str, int] = field(default_factory=dict)  # whole ones
    parts: dict[Part, int] = field(default_factory=dict)
    _rooms: list[_Room] | None = None  # None: to be packed anew

    @property
    def total(self) -> int:
        return sum(self.totals.values())

    @property
    def used(self) -> int:
        """GPUs here that somebody has, or has a part of."""
        return sum(self.taken.values()) + self._shared(ANY)

    def occupied(self, used: int) -> float:
        """The same as ``used``, of which a GPU that is shared counts as much as is given away of it."""
        if not self.parts:
            return float(used)
        rooms = [room for room in self._packed() if not room.elsewhere]
        return used - len(rooms) + sum(1.0 - room.part for room in rooms)

    def copy(self) -> "Gpus":
        twin = Gpus(self.totals, self.mems, self.remote, self.divides, dict(self.taken), dict(self.parts))
        if self._rooms is not None:
            twin._rooms = [_Room(one.kind, one.of, one.elsewhere, one.part, one.mem) for one in self._rooms]
        return twin

    def take(self, kind: str, count: int) -> None:
        """Whole ones are given away, or with a negative number given back."""
        name = kind.casefold()
        self.taken[name] = self.taken.get(name, 0) + count

    def take_part(self, want: Part) -> None:
        """A part is given away, whether there is room or not."""
        want = _plain(want)
        self.parts[want] = self.parts.get(want, 0) + 1
        if self._rooms is not None:
            self._put(self._rooms, want)

    def give_part_back(self, want: Part) -> None:
        want = _plain(want)
        left = self.parts.pop(want, 0) - 1
        if left > 0:
            self.parts[want] = left
        self._rooms = None

    def lacks(self, kind: str, count: int) -> str:
        """Why so many whole ones are not free now; "" if they are."""
        name, free = kind.casefold(), self.total - self.used
        if name:
            mine = self.totals.get(name, 0)
            free = min(free, mine - self.taken.get(name, 0) - self._shared(name))
            if free < count:
                return f"{max(0, free)} of {mine} GPUs of type {kind} are free, it needs {count}"
        if free < count:
            return f"{max(0, free)} of {self.total} GPUs are free, it needs {count}"
        return ""

    def lacks_part(self, want: Part) -> str:
        """Why there is no room for a part now; "" if there is."""
        rooms, want = self._packed(), _plain(want)
        if self._best(rooms, want) is not None or self._fresh(rooms, want) is not None:
            return ""
        count = sum(count for kind, count in self.totals.items() if want.kind in (ANY, kind)) + len(self.remote)
        asks = [f"{want.part:.0%} of one"] if want.part else []
        asks += [show_bytes(want.mem) + " of its memory"] if want.mem else []
        what = f"none of {count} GPUs{f' of type {want.kind}' if want.kind else ''} is free"
        shared = [room for room in rooms if room.takes(want)]
        if shared:
            most = max(shared, key=lambda room: (room.part, room.mem))
            left = f"{max(0.0, most.part):.0%}" + (f" and {show_bytes(max(0, int(most.mem)))}" if most.of else "")
            what += f"; of {len(shared)} that are shared {left} is the most that is left"
        return f"{what}; it needs {' and '.join(asks)}"

    def opens(self, want: Part) -> int:
        """How many more GPUs are in use with such a part: 0 where one that is shared has room for it."""
        return int(self._best(self._packed(), _plain(want)) is None)

    def share(self, want: Part) -> float:
        """How much of a GPU here a part comes to, from 0 to 1; 0.0 where there are none."""
        want = _plain(want)
        sizes = [self._size(want, self.mems.get(kind, 0))[0] for kind in self.totals if want.kind in (ANY, kind)]
        return min(1.0, *sizes) if sizes else 0.0

    # ---- packing

    def _shared(self, kind: str) -> int:
        if not self.parts:
            return 0
        return sum(not room.elsewhere and kind in (ANY, room.kind) for room in self._packed())

    def _packed(self) -> list[_Room]:
        if self._rooms is None:
            self._rooms = []
            for want in sorted(self.parts, key=lambda one: (-one.part, -one.mem, one.kind)):
                for _ in range(self.parts[want]):
                    self._put(self._rooms, want)
        return self._rooms

    def _put(self, rooms: list[_Room], want: Part) -> None:
        room = self._best(rooms, want)
        if room is None:
            # More may have been given away than was ever seen here: it counts as one more all the same.
            kind, of, elsewhere = self._fresh(rooms, want) or (want.kind or next(iter(self.totals), ANY), 0, False)
            room = _Room(kind, of, elsewhere, 1.0, float(of))
            rooms.append(room)
        part, mem = self._size(want, room.of)
        room.part -= part
        room.mem -= mem

    def _best(self, rooms: Iterable[_Room], want: Part) -> _Room | None:
        """The shared GPU on which least stays over."""
        best: tuple[tuple[bool, float, float], _Room] | None = None
        for room in rooms:
            part, mem = self._size(want, room.of)
            if not room.takes(want) or part > room.part + ROUNDING or (room.of and mem > room.mem + 0.5):
                continue
            key = (room.elsewhere, room.part - part, room.mem - mem)
            if best is None or key < best[0]:
                best = (key, room)
        return None if best is None else best[1]

    def _fresh(self, rooms: Iterable[_Room], want: Part) -> tuple[str, int, bool] | None:
        """A GPU that nobody has and that is large enough: its type, memory, and whether it is elsewhere."""
        shared: dict[str, int] = {}
        remote = sorted(self.remote)
        for room in rooms:
            if room.elsewhere:
                remote.remove(room.of)
            else:
                shared[room.kind] = shared.get(room.kind, 0) + 1
        if sum(self.taken.values()) + sum(shared.values()) < self.total:
            free = [
                (self.mems.get(kind, 0), kind)
                for kind, count in self.totals.items()
                if want.kind in (ANY, kind)
                and self.taken.get(kind, 0) + shared.get(kind, 0) < count
                and self._size(want, self.mems.get(kind, 0))[0] <= 1.0 + ROUNDING
            ]
            if free:
                mem, kind = min(free)
                return kind, mem, False
        for mem in remote:
            if self._size(want, mem)[0] <= 1.0 + ROUNDING:
                return ANY, mem, True
        return None

    def _size(self, want: Part, of: int) -> tuple[float, float]:
        """``(part, bytes)`` that a wish comes to on a GPU with so much memory; a part above 1 does not fit."""
        if not self.divides:
            return 1.0, 0.0
        if not of:
            return want.part or 1.0, 0.0
        part = max(want.part, want.mem / of)
        return part, float(want.mem) or part * of


def of_nodes(
    nodes: Iterable[tuple[Iterable[GpuKind], int]], remote: tuple[int, ...] = (), *, divides: bool = True
) -> Gpus:
    """All GPUs of some nodes, each given as its kinds of GPU and how many such nodes there are."""
    totals: dict[str, int] = {}
    mems: dict[str, int] = {}
    for kinds, count in nodes:
        for one in kinds:
            name = one.type.casefold()
            totals[name] = totals.get(name, 0) + one.count * count
            mems[name] = min(mems.get(name, int(one.mem)), int(one.mem))
    return Gpus(totals, mems, remote, divides)


def _plain(want: Part) -> Part:
    return want if want.kind.islower() or not want.kind else want._replace(kind=want.kind.casefold())
