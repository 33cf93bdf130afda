"""The tasks of a job that runs a program with tasks: its graph by function, and when which worker was busy.

Drawn from the metrics that `isthmus.tasks.watch.reporting` tells; their names are its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from isthmus.domain.views import Series
from isthmus.layers import layout
from isthmus.panel.rendering import BOXES
from isthmus.panel.visitor import Pages, Visitor
from isthmus.workflows import told

pages = Pages()

PREFIX = "tasks/"
DRAWN = (PREFIX, told.PREFIX)  # what is drawn otherwise: tasks here, steps by `isthmus.panel.workflows`
CURVES = ("tasks/per_s", "tasks/waiting")  # of them, those that are curves
_STRETCHES = 120  # of the time line
_MOST = 100  # of names that one question takes


def curves(names: Sequence[str]) -> list[str]:
    """The names that are drawn as curves: what tasks say of themselves is drawn otherwise."""
    return [name for name in names if name in CURVES or not name.startswith(DRAWN)]


@dataclass(frozen=True)
class Box:
    """A function in the graph."""

    name: str
    x: float
    y: float
    calls: int
    done: int
    mean_s: float


@dataclass(frozen=True)
class Arrow:
    """How many values went from one function to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    count: int
    to_itself: bool


@dataclass(frozen=True)
class Picture:
    """The graph by function, laid out in layers."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    width: float
    height: float


@pages.get("/jobs/{job:int}/tasks")
async def tasks(visitor: Visitor) -> Response:
    """The part of the job's page that shows its tasks."""
    number, attempt = visitor.path["job"], visitor.number("attempt")
    measured, caller = visitor.services.measurements, visitor.caller
    own, _ = await measured.names(caller, number, attempt=attempt)
    names = [name for name in own if name.startswith(PREFIX)]
    workers = [name for name in names if name.startswith("tasks/worker/")]
    last: dict[str, float] = {}
    counts = [name for name in names if name not in workers]
    for begin in range(0, len(counts), _MOST):
        for one in await measured.series(
            caller, number, names=counts[begin : begin + _MOST], points=4, attempt=attempt, by_time=True
        ):
            if one.points:
                last[one.name] = one.points[-1].value or 0.0
    lines = await measured.series(
        caller, number, names=workers[:_MOST], points=2 * _STRETCHES, attempt=attempt, by_time=True
    )
    return visitor.page("tasks.html", job=number, last=last, picture=picture(last), lines=time_line(lines))


def picture(values: Mapping[str, float]) -> Picture:
    """The graph that the metrics' last values tell of. Each layer holds what takes values of the layers above."""
    calls = {
        name.removeprefix("tasks/of/").removesuffix("/calls"): count
        for name, count in values.items()
        if name.startswith("tasks/of/") and name.endswith("/calls")
    }
    edges: dict[tuple[str, str], int] = {}
    for name, count in values.items():
        maker, separator, reader = name.removeprefix("tasks/from/").partition("/to/")
        if name.startswith("tasks/from/") and separator and maker in calls and reader in calls:
            edges[maker, reader] = int(count)
    placed = layout(list(calls), edges, BOXES)
    boxes = []
    for name, count in calls.items():
        done = values.get(f"tasks/of/{name}/done", 0.0)
        seconds = values.get(f"tasks/of/{name}/seconds", 0.0)
        x, y = placed.places[name]
        boxes.append(Box(name, x, y, int(count), int(done), seconds / done if done else 0.0))
    arrows = [Arrow(*placed.line(maker, reader), count, maker == reader) for (maker, reader), count in edges.items()]
    return Picture(tuple(boxes), tuple(arrows), placed.width, placed.height)


def time_line(lines: Sequence[Series]) -> list[dict[str, Any]]:
    """For each worker the share of each stretch in which it was busy; the stretches are the same for all."""
    times = [point.at.timestamp() for one in lines for point in one.points]
    if not times:
        return []
    first, last = min(times), max(times)
    stretch = max((last - first) / _STRETCHES, 1e-9)
    found = []
    for one in sorted(lines, key=lambda series: int(series.name.rpartition("/")[2] or 0)):
        shares = [0.0] * _STRETCHES
        before = 0
        for point in one.points:
            place = min(_STRETCHES - 1, int((point.at.timestamp() - first) / stretch))
            # A report stands for the time since the one before it.
            for between in range(before if point.value else place, place + 1):
                shares[between] = max(shares[between], point.value or 0.0)
            before = min(_STRETCHES - 1, place + 1)
        found.append({"worker": one.name.rpartition("/")[2], "shares": shares, "seconds": last - first})
    return found
