"""Lines that a command writes about itself, and files that grow while they are read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.runner import metrics
from isthmus.runner.metrics import Tail, parse_json, parse_text


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"isthmus: loss=0.12 step=3", {"metrics": {"values": {"loss": 0.12}, "step": 3}}),
        (b"  isthmus: a=1 b=2e3", {"metrics": {"values": {"a": 1, "b": 2000.0}, "step": None}}),
        (b"isthmus: progress=30/100", {"progress": {"done": 30, "total": 100}}),
        (b"isthmus: progress=0.5 half way", {"progress": {"done": 0.5, "total": 1, "message": "half way"}}),
        (b"isthmus: message=all is well", {"progress": {"message": "all is well"}}),
        (b"isthmus: loss=nan", {"metrics": {"values": {"loss": "nan"}, "step": None}}),
        (b"isthmus: name=bob", {}),
        (b"isthmus:", {}),
        (b"isthmus said loss=1", {}),
        (b"loss=0.12", {}),
        (b"isthmus: \xff\xfe=1 x=2", {"metrics": {"values": {"\ufffd\ufffd": 1, "x": 2}, "step": None}}),
        (b"isthmus: progress=a/b", {}),
        (b"isthmus: progress=1/nan", {}),
        (b"isthmus: step=7", {}),
    ],
)
def test_a_line_of_stdout(line: bytes, found: dict[str, Any]) -> None:
    assert parse_text(line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"loss": 0.5, "step": 3, "t": 12.5}', {"metrics": {"values": {"loss": 0.5}, "step": 3, "t": 12.5}}),
        (b'{"progress": [3, 10], "message": "m"}', {"progress": {"done": 3, "total": 10, "message": "m"}}),
        (b'{"progress": 0.25}', {"progress": {"done": 0.25, "total": 1}}),
        (
            b'{"loss": "inf", "ok": true, "name": "x", "deep": {}}',
            {"metrics": {"values": {"loss": "inf", "ok": 1}, "step": None}},
        ),
        (b'{"loss": 0.5', {}),
        (b"[1, 2]", {}),
        (b"\xff", {}),
    ],
)
def test_a_line_of_the_metrics_file(line: bytes, found: dict[str, Any]) -> None:
    assert parse_json(line) == found


@given(st.binary(max_size=300))
def test_nothing_that_a_command_says_breaks_the_runner(line: bytes) -> None:
    parse_text(b"isthmus: " + line)
    parse_json(line)


@pytest.mark.parametrize("mark", [b"", b"isthmus:"])
def test_a_growing_file_is_read_once_in_whole_lines(
    tmp_path: Path, mark: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "PIECE", 7)
    path = tmp_path / "log"
    path.touch()
    text = b"".join(b"isthmus: n=%d\nnoise %d\n" % (n, n) for n in range(50)) + b"isthmus: n=50"
    dice = random.Random(7)
    tail, seen, begin = Tail(str(path), mark), [], 0
    while begin < len(text):
        end = begin + dice.randrange(1, 40)
        with path.open("ab") as log:
            log.write(text[begin:end])
        seen += list(tail.lines())
        begin = end
    seen += list(tail.lines(last=True))
    assert [line for line in seen if line.startswith(b"isthmus:")] == [b"isthmus: n=%d" % n for n in range(51)]


def test_endless_lines_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PIECE", 1000)
    path = tmp_path / "log"
    path.write_bytes(b"x" * (metrics.LONGEST_LINE + 5000) + b"\nisthmus: n=1\n")
    assert list(Tail(str(path)).lines()) == [b"isthmus: n=1"]


def test_a_file_that_is_not_there_yet_and_one_that_was_truncated(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(str(path))
    assert list(tail.lines()) == []
    path.write_bytes(b"one\ntwo\n")
    assert list(tail.lines()) == [b"one", b"two"]
    path.write_bytes(b"new\n")
    assert list(tail.lines()) == [b"new"]
