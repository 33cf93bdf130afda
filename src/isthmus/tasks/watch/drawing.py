"""The task graph as a picture: SVG, laid out in layers here, or DOT for Graphviz."""

import html
import os
from pathlib import Path

from isthmus.domain.errors import Invalid
from isthmus.layers import Boxes, layout
from isthmus.tasks.graph import FAILED, Node

_MOST = 3000  # more nodes than these are no picture
_RADIUS = 17
_CIRCLES = Boxes(wide=2 * _RADIUS, high=2 * _RADIUS, across=22, down=36, margin=14)
_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7", "#bab0ac")


class Drawing:
    """Keeps names and edges, and draws them at the end. May be asked for the picture before."""

    def __init__(self, path: str = "") -> None:
        self.path = Path(os.path.abspath(path)) if path else None
        if self.path is not None and self.path.suffix not in (".svg", ".dot"):
            raise Invalid(f"{path} is no drawing.", place="graph", hint="Its name ends in .svg or .dot.")
        self.names: dict[int, str] = {}
        self.edges: list[tuple[int, int]] = []
        self.failed: set[int] = set()
        self.left_out = 0
        self._makers: dict[int, list[int]] = {}

    def submitted(self, node: Node) -> None:
        if len(self.names) >= _MOST:
            self.left_out += 1
            return
        self.names[node.id] = node.function.function.__name__
        made = {maker for version in node.inputs or () for maker in self._makers.get(version.id, ())}
        self.edges += [(maker, node.id) for maker in sorted(made) if maker != node.id]
        for version in node.outputs or ():
            self._makers[version.id] = [node.id]
        for group, _, _ in node.commutes or ():
            self._makers.setdefault(group.final.id, []).append(node.id)

    def retried(self, node: Node) -> None:
        """It is one node."""

    def ended(self, node: Node, seconds: float, where: int) -> None:
        if node.state == FAILED:
            self.failed.add(node.id)

    def close(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.svg() if self.path.suffix == ".svg" else self.dot())

    def dot(self) -> str:
        """The graph for Graphviz."""
        colours = self._colours()
        lines = ["digraph tasks {", "  node [shape=circle, style=filled];"]
        for number, name in self.names.items():
            border = ', color="#d62728", penwidth=3' if number in self.failed else ""
            lines.append(f'  {number} [label="{number}", tooltip="{name}", fillcolor="{colours[name]}"{border}];')
        lines += [f"  {a} -> {b};" for a, b in self.edges]
        return "\n".join([*lines, "}", ""])

    def svg(self) -> str:
        """The picture: each layer holds what waits for the layer above."""
        placed = layout(list(self.names), self.edges, _CIRCLES)
        colours = self._colours()
        legend = 24 * (len(colours) + bool(self.left_out))
        width, height = max(placed.width, 240), placed.height
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + legend + 12}" '
            f'width="{width}" height="{height + legend + 12}" font-family="sans-serif" font-size="11">',
            '<defs><marker id="to" markerWidth="7" markerHeight="6" refX="6" refY="3" orient="auto">'
            '<path d="M0,0 L7,3 L0,6 z" fill="#888"/></marker></defs>',
        ]
        for a, b in self.edges:
            x1, y1, x2, y2 = placed.line(a, b)
            out.append(
                f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="#888" marker-end="url(#to)"/>'
            )
        for number, name in self.names.items():
            x, y = (corner + _RADIUS for corner in placed.places[number])
            border = ' stroke="#d62728" stroke-width="3"' if number in self.failed else ""
            title = html.escape(f"{name} ({number})")
            out.append(
                f'<g><title>{title}</title><circle cx="{x:.0f}" cy="{y:.0f}" r="{_RADIUS}" fill="{colours[name]}"'
                f'{border}/><text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" fill="#fff">{number}</text></g>'
            )
        y = height + 16
        for name, colour in colours.items():
            out.append(f'<circle cx="14" cy="{y}" r="7" fill="{colour}"/>')
            out.append(f'<text x="28" y="{y + 4}">{html.escape(name)}</text>')
            y += 24
        if self.left_out:
            out.append(f'<text x="8" y="{y + 4}">and {self.left_out} tasks more</text>')
        return "\n".join([*out, "</svg>", ""])

    def _colours(self) -> dict[str, str]:
        names = dict.fromkeys(self.names.values())
        return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
