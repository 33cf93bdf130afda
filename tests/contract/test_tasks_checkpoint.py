"""A program that is killed goes on where it was, and ends with what the sequential program gives."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from isthmus.tasks import INOUT, FILE_INOUT, FILE_OUT, task, wait_on, wait_on_file

@task(returns=1)
def step(x, number):
    time.sleep(0.01)
    return (x * 31 + number) % 1000003

@task(total=INOUT)
def add(total, x):
    total[0] += x
    total[1] ^= x

@task(log=FILE_OUT)
def begin(log):
    open(log, "w").write("begin\\n")

@task(log=FILE_INOUT)
def note(log, x):
    with open(log, "a") as file:
        file.write(f"{x}\\n")

if __name__ == "__main__":
    log, total, chains = sys.argv[1], [0, 0], [1, 2, 3]
    begin(log)
    for number in range(40):
        for place, x in enumerate(chains):
            chains[place] = step(x, number)
        add(total, chains[number % 3])
        if number % 8 == 0:
            note(log, chains[0])
    print(wait_on(chains), wait_on(total))
    wait_on_file(log)
    print(open(log).read().split())
"""


def run(folder: Path, engine: str, kept: str = "") -> subprocess.Popen:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    env = {**os.environ, "ISTHMUS_TASKS": engine, "ISTHMUS_TASKS_WORKERS": "2", "ISTHMUS_TASKS_CHECKPOINT": kept}
    log = folder / f"log-{engine}-{os.path.basename(kept)}"
    return subprocess.Popen(
        [sys.executable, str(program), str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


@pytest.mark.timeout(900)  # fifty programs, each killed: half a minute where nothing else runs
@pytest.mark.parametrize(("engine", "times"), [("processes", 50), ("threads", 3)])
def test_a_program_killed_many_times_ends_with_the_sequential_result(tmp_path, engine, times):
    expected, _ = run(tmp_path, "sequential").communicate(timeout=300)
    rng = random.Random(times)
    killed = finished = saved = 0
    kept = tmp_path / "kept-0"
    end = time.monotonic() + 800
    while killed < times:
        assert time.monotonic() < end, f"killed {killed} times so far"
        process = run(tmp_path, engine, str(kept))
        # Somewhere between its start and its end: when a few more results are there, or none yet.
        target = saved + rng.randrange(6)
        while process.poll() is None and count(kept) < target:
            assert time.monotonic() < end, f"{count(kept)} results, and no more come"
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        found, trouble = process.communicate(timeout=300)
        if process.returncode == -signal.SIGKILL:
            killed += 1
            before, saved = saved, count(kept)
            assert saved >= before
            continue
        # It came to its end before it could be killed, from what those before it had left: the next begins anew.
        assert found == expected, trouble
        finished += 1
        kept, saved = tmp_path / f"kept-{finished}", 0
    found, trouble = run(tmp_path, engine, str(kept)).communicate(timeout=300)
    assert found == expected, trouble
    assert saved or finished


def count(folder: Path) -> int:
    return sum(1 for name in os.listdir(folder) if len(name) == 64) if folder.exists() else 0


def test_what_has_ended_is_not_run_again_and_changed_code_is(tmp_path):
    program = tmp_path / "program.py"
    code = """
import os, sys
from isthmus.tasks import task, wait_on
@task(returns=1)
def first(x):
    open(sys.argv[1] + "/first", "a").write(".")
    return x + 1
@task(returns=1)
def second(x):
    open(sys.argv[1] + "/second", "a").write(".")
    return x * FACTOR
if __name__ == "__main__":
    print(wait_on([second(first(1)), second(first(1))]))
"""
    env = {**os.environ, "ISTHMUS_TASKS_CHECKPOINT": str(tmp_path / "kept"), "ISTHMUS_TASKS_WORKERS": "2"}

    def result(factor: str) -> str:
        program.write_text(code.replace("FACTOR", factor))
        return subprocess.check_output([sys.executable, str(program), str(tmp_path)], text=True, env=env, timeout=60)

    assert result("10") == result("10") == "[20, 20]\n"
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text() == ".."
    assert result("100") == "[200, 200]\n"
    assert (tmp_path / "first").read_text() == ".."
    assert (tmp_path / "second").read_text() == "...."
