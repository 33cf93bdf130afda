"""What a program with tasks tells of itself: in a job, on a terminal."""

import json
import os
import pty
import subprocess
import sys

import pytest

from isthmus.tasks import INOUT, start, stop, task, wait_on


@task(returns=1)
def load(x):
    return x


@task(returns=1)
def merge(a, b):
    return a + b


@task(into=INOUT)
def gather(into, x):
    into.append(x)


@task(returns=1, on_failure="IGNORE")
def fails():
    raise ValueError("x")


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_in_a_job_its_tasks_are_its_metrics(engine, tmp_path, monkeypatch):
    report = tmp_path / "report"
    monkeypatch.setenv("ISTHMUS_REPORT", str(report))
    start(engine=engine, workers=2)
    loaded = [load(x) for x in range(6)]
    into = []
    for i in range(0, 6, 2):
        gather(into, merge(loaded[i], loaded[i + 1]))
    fails()
    assert sorted(wait_on(into)) == [1, 5, 9]
    stop()
    last = json.loads(report.read_text().splitlines()[-1])
    assert last["progress"] == [13, 13]
    assert (last["tasks/done"], last["tasks/waiting"]) == (13, 0)
    assert (last["tasks/of/load/calls"], last["tasks/of/merge/done"]) == (6, 3)
    assert (last["tasks/from/load/to/merge"], last["tasks/from/merge/to/gather"]) == (6, 3)
    assert last["tasks/from/gather/to/gather"] == 2
    assert any(name.startswith("tasks/worker/") for name in last)


def test_on_a_terminal_the_tasks_are_seen_while_they_run(tmp_path):
    program = tmp_path / "app.py"
    program.write_text(
        "import time\nfrom isthmus.tasks import task, wait_on\n"
        "@task(returns=1)\ndef slow(x):\n    time.sleep(0.2)\n    return x\n"
        "if __name__ == '__main__':\n    wait_on([slow(x) for x in range(8)])\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, program],
        stderr=theirs,
        env={**os.environ, "ISTHMUS_TASKS_PROGRESS": "1", "ISTHMUS_TASKS_WORKERS": "2", "TERM": "xterm"},
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:
        pass  # the terminal's other end is closed
    assert child.wait(60) == 0
    assert b"slow" in said
    assert b"/8 tasks" in said
    assert b"8/8 tasks" in said.splitlines()[-1]
