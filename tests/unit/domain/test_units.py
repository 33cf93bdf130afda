"""Sizes and times as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.domain.errors import Invalid
from isthmus.domain.units import Bytes, Seconds, show_bytes, show_seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("4GiB", 4 << 30), ("4g", 4 << 30), ("1.5K", 1536), (" 2 MB ", 2 << 20), (7, 7)]
)
def test_sizes(text: object, size: int) -> None:
    assert Bytes.parse(text) == size


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90", 90),
        ("90s", 90),
        ("1h30m", 5400),
        ("2d", 172800),
        ("10:30", 630),
        ("01:00:00", 3600),
        ("1-00:00:00", 86400),
        ("1-02:03", 93780),
        (1.9, 1),
    ],
)
def test_times(text: object, span: int) -> None:
    assert Seconds.parse(text) == span


@pytest.mark.parametrize("kind", [Bytes, Seconds])
@pytest.mark.parametrize("text", ["", "x", "-1", "4 apples", "1:2:3:4", None, True, -5, float("nan"), float("inf")])
def test_what_is_none_is_refused_with_an_example(kind: type[Bytes], text: object) -> None:
    with pytest.raises(Invalid) as caught:
        kind.parse(text)
    assert caught.value.hint


@given(st.integers(0, 2**60))
def test_a_shown_size_is_about_the_size(size: int) -> None:
    assert Bytes.parse(show_bytes(size).replace(" ", "")) == pytest.approx(size, rel=0.06)


def test_shown_times() -> None:
    assert [show_seconds(s) for s in (0.5, 42, 65, 3900, 277200)] == ["0.5s", "42s", "1m05s", "1h05m", "3d05h"]
