"""What a run tells of its steps, and what is read from that again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.workflows import told
from isthmus.workflows.dataflow.graph import Feed, Graph, Source, Step
from isthmus.workflows.driver.book import Book, Entry
from isthmus.workflows.driver.drive import Told
from isthmus.workflows.told import StepTold, Telling

TOOL = Step(inputs={}, outputs=("out",), body="tool")
INNER = Graph(inputs=(), steps={"fit": TOOL}, outputs={})
TRAIN = Step(inputs={"data": Feed(sources=(Source("prepare", "out"),))}, outputs=(), body=INNER)
GRAPH = Graph(inputs=(), steps={"prepare": TOOL, "train": TRAIN}, outputs={})


def test_what_is_told_is_read_again() -> None:
    steps = [
        StepTold(step="prepare", started=3, done=2, places={"here": 2, "cluster": 1}, wall_s=1.5, peak_mem=1 << 30),
        StepTold(step="train", order=1, after=("prepare",)),
        StepTold(step="train/fit", order=2, started=4, failed=1, reused=2, begin_s=2.0, end_s=9.5),
    ]
    assert told.steps(told.values(steps)) == steps
    assert [one.step for one in told.leaves(steps)] == ["prepare", "train/fit"]
    assert told.steps({"loss": 0.5, "workflow/step/x/done": 1.0, "workflow/edge/7/9": 1.0}) == []


def test_a_step_has_the_state_of_its_tasks() -> None:
    def state(**counts: int) -> str:
        return StepTold(step="x", **counts).state

    assert state() == "waits"
    assert state(started=1) == "running"
    assert state(started=2, done=2) == "done"
    assert state(started=2, done=1, failed=1) == "failed"
    assert state(reused=2) == "reused"
    assert state(skipped=1) == "skipped"
    assert state(started=1, done=1, reused=1, skipped=1) == "done"


def test_a_run_tells_once_a_second_and_what_comes_last_too(tmp_path: Path) -> None:
    book = Book.made(tmp_path / "run", {"run": "r", "started": 100.0})
    now, said, timers = [0.0], [], []

    def later(seconds: float, call: Callable[[], None]) -> None:
        timers.append((seconds, call))

    telling = Telling(GRAPH, book, said.append, clock=lambda: now[0], later=later)
    telling.tell()
    assert [one.step for one in told.steps(said[0])] == ["prepare", "train", "train/fit"]
    telling(Told("started", "prepare[0]", 0.0))
    telling(Told("started", "prepare[1]", 0.0))
    assert len(said) == 1 and len(timers) == 1, "a second has not passed"
    now[0] = 1.0
    book.put(Entry(task="prepare[0]", state="done", place="here", queued=101.0, started=102.0, ended=104.0, wall_s=2.0))
    timers[0][1]()
    assert said[1]["workflow/step/prepare/started"] == 2
    assert said[1]["workflow/step/prepare/begin_s"] == 2.0
    assert said[1]["workflow/site/here/prepare"] == 1
    assert "workflow/step/train/order" not in said[1], "what has not changed is not told again"
    book.close()
