"""Line charts for a terminal: in braille dots where there is colour, in letters where there is none.

A braille character holds 2 by 4 dots, so a chart of 80 by 12 characters shows 160 by 48. Colour tells the lines
apart; without it (a pipe, a log, NO_COLOR) each line is drawn with a letter of its own instead.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

# Dots of a braille cell by (row, column): the bit that each sets beyond U+2800.
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
MARKS = "*o+x"
MARGIN = 8  # characters to the left of the plot: the values of y and the axis


@dataclass(frozen=True)
class Line:
    """One line of a chart: its points from left to right. Those that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = ""


@dataclass(frozen=True)
class _Frame:
    """From values to cells: the ranges of both axes and the size in dots."""

    x: tuple[float, float]
    y: tuple[float, float]
    columns: int
    rows: int

    def place(self, x: float, y: float) -> tuple[int, int]:
        """The dot (row from the top, column) of a point."""
        return (
            self.rows - 1 - _scale(y, self.y, self.rows),
            _scale(x, self.x, self.columns),
        )


def draw(
    lines: Sequence[Line],
    *,
    width: int,
    height: int,
    colour: bool,
    x: tuple[float, float] | None = None,
    y_label: Callable[[float], str] = "{:g}".format,
    x_label: Callable[[float], str] = "{:g}".format,
) -> Text:
    """The chart as lines of text: ``height`` of plot, one of x labels, one of the legend.

    ``x`` fixes the range of the x axis, for a chart that fills while it is watched. Later lines lie above
    earlier ones. Raises ValueError where the size leaves no room.
    """
    plot = width - MARGIN
    if plot < 4 or height < 2:
        raise ValueError(f"a chart of {width} by {height} characters leaves no room for its lines")
    shown = [_finite(line) for line in lines]
    points = [point for line in shown for point in line.points]
    if not points:
        return Text("\n".join([" " * (MARGIN - 1) + "│"] * height + ["", "(no points yet)"]))
    fine = (2, 4) if colour else (1, 1)
    frame = _Frame(
        x or _range([px for px, _ in points]),
        _range([py for _, py in points]),
        columns=plot * fine[0],
        rows=height * fine[1],
    )
    cells = _braille(shown, frame) if colour else _letters(shown, frame)
    axis = "│" if colour else "|"
    out = Text()
    for row in range(height):
        # The middle of the cell's height, so that the label says what the line beside it means.
        value = frame.y[1] - (frame.y[1] - frame.y[0]) * row / (height - 1)
        label = y_label(value) if row % 3 == 0 or row == height - 1 else ""
        out.append(f"{label[: MARGIN - 2]:>{MARGIN - 2}} {axis}")
        filled = [cells.get((row, column), (" ", "")) for column in range(plot)]
        for style, run in itertools.groupby(filled, key=lambda cell: cell[1]):
            out.append("".join(char for char, _ in run), style)
        out.append("\n")
    out.append(" " * MARGIN + _ruler(frame.x, plot, x_label) + "\n" + " " * MARGIN)
    for number, line in enumerate(lines):
        mark = "──" if colour else MARKS[number % len(MARKS)]
        out.append(mark, line.style).append(f" {line.name}   ")
    return out


def _finite(line: Line) -> Line:
    kept = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    return Line(line.name, kept, line.style)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:  # a level line lies in the middle
        half = abs(low) / 2 or 1.0
        return low - half, high + half
    return low, high


def _scale(value: float, bounds: tuple[float, float], steps: int) -> int:
    low, high = bounds
    share = (value - low) / (high - low) if high > low else 0.5
    return min(steps - 1, max(0, round(share * (steps - 1))))


def _dots(line: Line, frame: _Frame) -> Iterator[tuple[int, int]]:
    """The dots of a line: its points, and what joins each to the next (a digital differential analyser)."""
    placed = [frame.place(x, y) for x, y in line.points]
    yield from placed[:1]
    for (row, column), (to_row, to_column) in itertools.pairwise(placed):
        steps = max(abs(to_row - row), abs(to_column - column))
        for i in range(1, steps + 1):
            yield row + round((to_row - row) * i / steps), column + round((to_column - column) * i / steps)


def _braille(lines: Sequence[Line], frame: _Frame) -> dict[tuple[int, int], tuple[str, str]]:
    bits: dict[tuple[int, int], int] = {}
    styles: dict[tuple[int, int], str] = {}
    for line in lines:
        for row, column in _dots(line, frame):
            cell = (row // 4, column // 2)
            if styles.get(cell) != line.style:  # one colour a cell: the line above takes it whole
                bits[cell], styles[cell] = 0, line.style
            bits[cell] |= BITS[row % 4][column % 2]
    return {cell: (chr(0x2800 + bits[cell]), styles[cell]) for cell in bits}


def _letters(lines: Sequence[Line], frame: _Frame) -> dict[tuple[int, int], tuple[str, str]]:
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for number, line in enumerate(lines):
        for cell in _dots(line, frame):
            cells[cell] = (MARKS[number % len(MARKS)], "")
    return cells


def _ruler(bounds: tuple[float, float], plot: int, x_label: Callable[[float], str]) -> str:
    """The x labels: both ends, and the middle where there is room."""
    left, right = x_label(bounds[0]), x_label(bounds[1])
    middle = x_label((bounds[0] + bounds[1]) / 2)
    room = plot - len(left) - len(right)
    if room < 1:
        return left[:plot]
    if room < len(middle) + 2:
        return left + " " * room + right
    before = (plot - len(middle)) // 2 - len(left)
    return left + " " * before + middle + " " * (room - before - len(middle)) + right
