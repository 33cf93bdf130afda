"""Pieces of a log as text: whole characters, no escapes, the offsets of what is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.domain.views import LogSlice
from isthmus.panel.logs import piece_of, readable


def part(data: bytes, offset: int = 0, size: int = 10**6, ended: bool = False) -> LogSlice:
    return LogSlice(attempt=1, offset=offset, data=data, size=size, ended=ended)


@given(
    st.text(alphabet="aé€😀\n", min_size=1, max_size=40), st.lists(st.integers(min_value=4, max_value=9), min_size=40)
)
def test_pieces_put_together_are_the_whole(text: str, lengths: list[int]) -> None:
    data = text.encode()
    offset, found = 0, ""
    for length in lengths:
        piece = piece_of(part(data[offset : offset + length], offset, ended=offset + length >= len(data)))
        assert piece.begin == offset
        found += piece.text
        offset = piece.end
        if offset >= len(data):
            break
    assert found == text


def test_a_piece_that_begins_within_a_line_begins_with_the_next() -> None:
    piece = piece_of(part(b"the end\nwhole line\nrest", 100), from_line=True)
    assert (piece.begin, piece.text) == (108, "whole line\nrest")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        (" 10%\r 50%\r100%\ndone", "100%\ndone"),
        ("kept\r\nlines\r\n", "kept\nlines\n"),
        ("bell\x07", "bell\ufffd"),
        ("tab\there", "tab\there"),
    ],
)
def test_what_a_terminal_would_leave(raw: str, shown: str) -> None:
    assert readable(raw) == shown
