"""The charts: small ones, compared letter by letter."""

import math

import pytest

from examples.forecast.chart import Line, draw


def plot(*lines: Line, width: int = 12, height: int = 2, colour: bool = True, **more: object) -> list[str]:
    """The rows of the plot without the margin."""
    text = draw(lines, width=width, height=height, colour=colour, **more).plain  # type: ignore[arg-type]
    return [row.split("│" if colour else "|")[-1] for row in text.split("\n")[:height]]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    assert plot(Line("up", [(0, 0), (7, 7)])) == ["  ⡠⠊", "⡠⠊  "]
    assert plot(Line("down", [(0, 7), (7, 0)])) == ["⠑⢄  ", "  ⠑⢄"]


def test_a_level_line_lies_in_the_middle() -> None:
    assert plot(Line("level", [(0, 5), (1, 5)])) in (["    ", "⠉⠉⠉⠉"], ["⣀⣀⣀⣀", "    "])


def test_without_colour_each_line_has_its_letter() -> None:
    rows = plot(Line("a", [(0, 0), (3, 0)]), Line("b", [(0, 2), (3, 2)]), height=3, colour=False)
    assert rows == ["oooo", "    ", "****"]
    assert all(ord(char) < 128 for char in draw([Line("a", [(0, 0)])], width=20, height=3, colour=False).plain)


def test_a_later_line_takes_the_cells_that_it_shares() -> None:
    text = draw(
        [Line("a", [(0, 0), (1, 1)], "red"), Line("b", [(0, 0), (1, 1)], "blue")], width=12, height=2, colour=True
    )
    styles = {str(span.style) for span in text.spans if text.plain[span.start] >= "\u2800"}
    assert styles == {"blue"}


def test_the_range_of_x_can_be_held_while_the_line_grows() -> None:
    rows = plot(Line("half", [(0, 1), (5, 2)]), width=18, x=(0, 10))
    assert all(row[6:].strip() == "" for row in rows)
    assert any(row[:5].strip() for row in rows)


def test_points_that_are_no_numbers_are_left_out() -> None:
    with_holes = Line("up", [(0, 0), (1, math.nan), (2, math.inf), (7, 7)])
    assert plot(with_holes) == plot(Line("up", [(0, 0), (7, 7)]))


def test_labels_and_legend() -> None:
    line = Line("loss", [(2004, 0), (2018, 3)])
    rows = draw([line], width=28, height=4, colour=True, y_label="{:.0f}%".format, x_label="{:.0f}".format).plain.split(
        "\n"
    )
    assert rows[0].startswith("    3% │")
    assert rows[3].startswith("    0% │")
    assert rows[4] == " " * 8 + "2004    2011    2018"
    assert rows[5].strip() == "── loss"
    assert max(map(len, rows[:5])) == 28


def test_no_points_are_an_empty_chart() -> None:
    assert "no points yet" in draw([Line("a", [])], width=20, height=3, colour=True).plain


def test_a_size_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        draw([Line("a", [(0, 0)])], width=10, height=3, colour=True)
