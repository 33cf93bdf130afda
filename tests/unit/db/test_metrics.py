"""Thinning of series."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from isthmus.db.metrics import Value, thin

numbers = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=300)


@given(numbers, st.integers(min_value=4, max_value=40))
def test_thin_keeps_ends_extremes_and_order(values: list[float | None], points: int) -> None:
    rows = [Value(number, float(number), None, value) for number, value in enumerate(values)]
    kept = list(thin(rows, points))
    assert len(kept) <= points
    assert (kept[0], kept[-1]) == (rows[0], rows[-1])
    assert [row.id for row in kept] == sorted({row.id for row in kept})
    assert set(kept) <= set(rows)
    finite = [value for value in values if value is not None]
    if finite:
        found = [row.value for row in kept if row.value is not None]
        assert (min(found), max(found)) == (min(finite), max(finite))


@given(st.integers(min_value=50, max_value=300))
def test_thin_leaves_no_long_gap(size: int) -> None:
    rows = [Value(number, float(number), None, 1.0) for number in range(size)]
    kept = [row.id for row in thin(rows, 22)]
    assert max(after - before for before, after in itertools.pairwise(kept)) <= 2 * size / 10 + 1
