"""The hull, the packing, and what is learned."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.placement.sizing.generate import generate
from isthmus.placement.sizing.hull import corners
from isthmus.placement.sizing.learning import falling
from isthmus.placement.sizing.packing import Item, nodes_needed, pack
from isthmus.placement.sizing.simulate import Place


def test_what_lies_above_the_line_is_no_corner() -> None:
    assert corners([(1.0, 1.0), (2.0, 3.0), (3.0, 4.0)]) == [0, 2]
    assert corners([(1.0, 2.0), (2.0, 3.0), (3.0, 9.0)]) == [1, 2]
    assert corners([(1.0, 1.0), (1.0, 2.0)]) == [0]


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=1, max_size=8))
def test_no_point_lies_below_the_hull(points: list[tuple[float, float]]) -> None:
    hull = [(0.0, 0.0), *(points[number] for number in corners(points))]
    assert len(hull) > 1
    for speed, price in points:
        for (s1, p1), (s2, p2) in pairwise(hull):
            if s1 <= speed <= s2:
                assert price >= p1 + (p2 - p1) * (speed - s1) / (s2 - s1) - 1e-9


@given(st.lists(st.sampled_from([1, 2, 4, 8]), max_size=20), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_all_are_packed_where_the_nodes_suffice(sizes: list[int], homes: list[int]) -> None:
    problem = generate(nodes=4, jobs=1, gap_s=0.0, seed=1)
    room = dict.fromkeys(range(4), 8)
    vm = problem.smallest["small", 8]
    items = []
    for number, size in enumerate(sizes):
        home = homes[number]
        stays = room[home] >= size
        room[home] -= size if stays else 0
        items.append(Item(number, "small", size, Place(home, vm, size) if stays else None, 1.0, 100.0))
    places = pack(problem, items)
    if nodes_needed(problem, {"small": sum(sizes)}) <= 4:
        assert set(places) == set(range(len(sizes)))
    used: dict[tuple[int, int], int] = {}
    for place in places.values():
        used[place.node, place.vm] = used.get((place.node, place.vm), 0) + place.gpus
    assert len({node for node, _ in used}) == len(used)
    assert all(gpus <= problem.vms[vm].gpus for (_, vm), gpus in used.items())


def test_who_need_not_move_stays() -> None:
    problem = generate(nodes=4, jobs=1, gap_s=0.0, seed=1)
    one, two = problem.smallest["small", 1], problem.smallest["small", 2]
    items = [Item(0, "small", 1, Place(3, one, 1), 5.0, 10.0), Item(1, "small", 2, Place(1, two, 2), 5.0, 10.0)]
    assert pack(problem, items) == {0: Place(3, one, 1), 1: Place(1, two, 2)}


def test_more_gpus_are_never_slower_once_predictions_are_doubted() -> None:
    assert falling([10.0, 8.0, 9.0, 4.0], [False] * 4) == pytest.approx([10.0, (8 * 9) ** 0.5, (8 * 9) ** 0.5, 4.0])
    assert falling([10.0, 12.0], [True, False])[0] == 10.0
