"""A workflow as a picture: SVG with the steps in layers, each below what it waits for."""

from collections.abc import Mapping
from html import escape

from isthmus.layers import Boxes, layers, layout
from isthmus.workflows.dataflow.graph import Graph, Step

BOXES = Boxes(wide=150, high=34, across=30, down=46, margin=20)
LABEL = 20


def waits(graph: Graph) -> list[dict[str, object]]:
    """The steps in the order of their layers, each with those that it waits for."""
    return [
        {"step": name, "after": sorted(_needs(graph.steps[name])), "scatter": bool(graph.steps[name].scatter)}
        for row in layers(list(graph.steps), _edges(graph))
        for name in row
    ]


def svg(graph: Graph, places: Mapping[str, str] | None = None) -> str:
    """The picture. ``places``: where steps go, written into their boxes."""
    placed = layout(list(graph.steps), _edges(graph), BOXES)
    lines = []
    for maker, reader in _edges(graph):
        x1, y1, x2, y2 = placed.line(maker, reader)
        bend = BOXES.down / 2
        lines.append(
            f'<path d="M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f} {x2:.0f},{y2:.0f}"/>'
        )
    boxes = [_box(name, step, *placed.places[name], (places or {}).get(name, "")) for name, step in graph.steps.items()]
    width, height = f"{placed.width:.0f}", f"{placed.height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">\n<g fill="none" stroke="#888">\n'
        + "\n".join(lines)
        + "\n</g>\n"
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


def _edges(graph: Graph) -> list[tuple[str, str]]:
    """Who makes a value and who takes it, in the order of the steps."""
    return [(maker, name) for name, step in graph.steps.items() for maker in sorted(_needs(step))]


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
    middle = f'x="{x + BOXES.wide / 2:.0f}" text-anchor="middle"'
    text = f'<text {middle} y="{y + (15 if marks else 21):.0f}">{escape(label)}</text>'
    if marks:
        text += f'<text {middle} y="{y + 28:.0f}" font-size="9" fill="#555">{escape(", ".join(marks))}</text>'
    dashes = ' stroke-dasharray="4 2"' if step.scatter else ""
    title = f"<title>{escape(name)} {escape(step.place)}</title>"
    return (
        f'<g>{title}<rect x="{x:.0f}" y="{y:.0f}" width="{BOXES.wide}" height="{BOXES.high}" rx="5" fill="#eef4fb" '
        f'stroke="#4477aa"{dashes}/>{text}</g>'
    )
