"""Graphs in layers."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus.layers import Boxes, layers, layout

BOXES = Boxes(wide=10, high=4, across=2, down=6, margin=1)


def test_each_stands_below_all_that_it_waits_for() -> None:
    assert layers(["d", "a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]) == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]
    assert layers([], []) == []


def test_rings_are_drawn_too() -> None:
    assert layers(["a", "b"], [("a", "b"), ("b", "a"), ("a", "a")]) == [["a", "b"]]
    assert layers(["a", "b", "c", "d"], [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
    ]


def test_a_row_stands_in_the_middle() -> None:
    placed = layout(["a", "b", "c"], [("a", "c"), ("b", "c")], BOXES)
    assert placed.places == {"a": (1, 1), "b": (13, 1), "c": (7, 11)}
    assert (placed.width, placed.height) == (24, 16)
    assert placed.line("a", "c") == (6, 5, 12, 11)


@given(st.integers(1, 12), st.data())
def test_every_graph_has_a_layout(count: int, data: st.DataObject) -> None:
    names = list(range(count))
    edges = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=30))
    rows = layers(names, edges)
    assert sorted(name for row in rows for name in row) == names and all(rows)
    forward = [(a, b) for a, b in edges if a < b]
    depth = {name: number for number, row in enumerate(layers(names, forward)) for name in row}
    assert all(depth[a] < depth[b] for a, b in forward)
