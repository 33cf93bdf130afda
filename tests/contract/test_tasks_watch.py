"""Traces, graphs and the progress bar say what has run."""

import itertools
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import COMMUTATIVE, start, stop, task, wait_on
from isthmus.tasks.watch.trace import Trace

ENGINES = ("threads", "processes")


@task(returns=1)
def load(x):
    return x


@task(returns=1)
def merge(a, b):
    return a + b


@task(into=COMMUTATIVE)
def gather(into, x):
    into.append(x)


@task(returns=1, on_failure="IGNORE")
def fails():
    raise ValueError("x")


def work(**settings):
    start(workers=2, **settings)
    try:
        loaded = [load(number) for number in range(6)]
        merged = [merge(loaded[i], loaded[i + 1]) for i in range(0, 6, 2)]
        into = []
        for one in merged:
            gather(into, one)
        fails()
        assert sorted(wait_on(into)) == [1, 5, 9]
    finally:
        stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trace_for_perfetto(tmp_path, engine):
    work(engine=engine, trace=str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tasks = [event for event in events if event["ph"] == "X"]
    names = sorted(event["name"] for event in tasks if event["name"] != "fails")
    assert names == ["gather"] * 3 + ["load"] * 6 + ["merge"] * 3
    assert {event["tid"] for event in tasks} <= {0, 1}
    for worker in (0, 1):
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in tasks if e["tid"] == worker)
        assert all(end <= begin + 0.01 for (_, end), (begin, _) in itertools.pairwise(spans))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trace_for_paraver(tmp_path, engine):
    work(engine=engine, trace=str(tmp_path / "trace.prv"))
    head, *records = (tmp_path / "trace.prv").read_text().splitlines()
    total = int(re.match(r"#Paraver \(.*\):(\d+)_ns:1\(\d\):1:1\(\d:1\)$", head)[1])
    states = [record.split(":") for record in records if record.startswith("1:")]
    assert len(states) >= 12
    assert all(0 <= int(state[5]) <= int(state[6]) <= total for state in states)
    times = [int(record.split(":")[5]) for record in records]
    assert times == sorted(times)  # as Paraver wants them
    running = {}
    for kind, cpu, *_, value in (record.split(":") for record in records):
        if kind == "2":  # begin and end take turns on each worker
            assert (value == "0") == running.get(cpu, False)
            running[cpu] = value != "0"
    assert not any(running.values())
    assert "load" in (tmp_path / "trace.pcf").read_text()
    assert "LEVEL THREAD SIZE" in (tmp_path / "trace.row").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_graph_as_a_picture(tmp_path, engine):
    work(engine=engine, graph=str(tmp_path / "graph.svg"))
    root = xml.parse(tmp_path / "graph.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}g")) == 13
    assert len(root.findall(f"{space}line")) >= 9


def test_the_graph_for_graphviz(tmp_path):
    work(engine="threads", graph=str(tmp_path / "graph.dot"))
    text = (tmp_path / "graph.dot").read_text()
    assert text.count("->") >= 9 and 'tooltip="merge"' in text


def test_the_progress_bar_ends_with_the_count(tmp_path):
    code = "from isthmus.tasks import task, barrier\n@task\ndef f(i): pass\nfor i in range(50): f(i)\nbarrier()"
    program = tmp_path / "program.py"
    program.write_text(code)
    env = {**os.environ, "ISTHMUS_TASKS_PROGRESS": "1", "ISTHMUS_TASKS_WORKERS": "2"}
    done = subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=60)
    assert "50/50 tasks" in done.stderr


def test_a_name_that_is_no_trace_is_refused(tmp_path):
    with pytest.raises(Invalid, match=r"\.json"):
        Trace(str(Path(tmp_path) / "trace.txt"))
