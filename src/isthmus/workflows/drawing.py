"""A workflow as a picture: SVG with the steps in layers, each below what it waits for."""

from collections.abc import Mapping
from html import escape

from isthmus.workflows.dataflow.graph import Graph, Step

WIDE, HIGH, GAP_X, GAP_Y, MARGIN = 150, 34, 30, 46, 20
LABEL = 20


def layers(graph: Graph) -> list[list[str]]:
    """The steps by how far they are from the inputs. Steps that wait for each other in a circle come last."""
    depth: dict[str, int] = {}
    waiting = dict(graph.steps)
    while waiting:
        ready = [name for name, step in waiting.items() if all(each in depth for each in _needs(step))]
        if not ready:
            ready = list(waiting)
        for name in ready:
            depth[name] = 1 + max([depth.get(each, -1) for each in _needs(waiting[name])], default=-1)
        for name in ready:
            del waiting[name]
    found: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for name, at in depth.items():
        found[at].append(name)
    return found


def waits(graph: Graph) -> list[dict[str, object]]:
    """The steps in the order of their layers, each with those that it waits for."""
    return [
        {"step": name, "after": sorted(_needs(graph.steps[name])), "scatter": bool(graph.steps[name].scatter)}
        for row in layers(graph)
        for name in row
    ]


def svg(graph: Graph, places: Mapping[str, str] | None = None) -> str:
    """The picture. ``places``: where steps go, written into their boxes."""
    rows = layers(graph)
    wide = max([len(row) for row in rows], default=1)
    width = 2 * MARGIN + wide * WIDE + (wide - 1) * GAP_X
    height = 2 * MARGIN + len(rows) * HIGH + max(0, len(rows) - 1) * GAP_Y
    at: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * WIDE - (len(row) - 1) * GAP_X) / 2
        for index, name in enumerate(row):
            at[name] = (left + index * (WIDE + GAP_X), MARGIN + number * (HIGH + GAP_Y))
    lines, boxes = [], []
    for name, step in graph.steps.items():
        x, y = at[name]
        for other in _needs(step):
            ox, oy = at[other]
            lines.append(
                f'<path d="M{ox + WIDE / 2:.0f},{oy + HIGH:.0f} C{ox + WIDE / 2:.0f},{oy + HIGH + GAP_Y / 2:.0f} '
                f'{x + WIDE / 2:.0f},{y - GAP_Y / 2:.0f} {x + WIDE / 2:.0f},{y:.0f}"/>'
            )
        boxes.append(_box(name, step, x, y, (places or {}).get(name, "")))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n<g fill="none" stroke="#888">\n'
        + "\n".join(lines)
        + "\n</g>\n"
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _needs(step: Step) -> set[str]:
    return {source.step for feed in step.inputs.values() for source in feed.sources if source.step}


def _box(name: str, step: Step, x: float, y: float, place: str) -> str:
    marks = []
    if step.scatter:
        marks.append("scatter")
    if step.loop:
        marks.append("loop")
    if isinstance(step.body, Graph):
        count = len(step.body.steps)
        marks.append("1 step" if count == 1 else f"{count} steps")
    if place:
        marks.append(place)
    label = name if len(name) <= LABEL else name[: LABEL - 1] + "…"
    text = (
        f'<text x="{x + WIDE / 2:.0f}" y="{y + (15 if marks else 21):.0f}" text-anchor="middle">{escape(label)}</text>'
    )
    if marks:
        text += (
            f'<text x="{x + WIDE / 2:.0f}" y="{y + 28:.0f}" text-anchor="middle" font-size="9" fill="#555">'
            f"{escape(', '.join(marks))}</text>"
        )
    dashes = ' stroke-dasharray="4 2"' if step.scatter else ""
    title = f"<title>{escape(name)} {escape(step.place)}</title>"
    return (
        f'<g>{title}<rect x="{x:.0f}" y="{y:.0f}" width="{WIDE}" height="{HIGH}" rx="5" fill="#eef4fb" '
        f'stroke="#4477aa"{dashes}/>{text}</g>'
    )
