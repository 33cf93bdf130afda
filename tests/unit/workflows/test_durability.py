"""Runs that are cut, go on, and do nothing twice that was done."""

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from isthmus.workflows.driver import guardian
from tests.testbed.drivers import workflow
from tests.testbed.waiting import wait_for

CHAIN = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, MultipleInputFeatureRequirement: {}}
inputs: {names: "string[]", journal: string, gate: string}
outputs: {all: {type: File, outputSource: join/all}}
steps:
  make:
    scatter: name
    in: {name: names, journal: journal}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "make $0" >> "$1"; sleep 0.05; echo "$0"']
      inputs: {name: {type: string, inputBinding: {position: 1}}, journal: {type: string, inputBinding: {position: 2}}}
      outputs: {made: stdout}
      stdout: made.txt
  join:
    in: {files: make/made, journal: journal, gate: gate}
    out: [all]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo join >> "$0"; test -e "$1" || exit 9; shift; cat "$@"']
      inputs:
        journal: {type: string, inputBinding: {position: 1}}
        gate: {type: string, inputBinding: {position: 2}}
        files: {type: "File[]", inputBinding: {position: 3}}
      outputs: {all: stdout}
      stdout: all.txt
"""


class Bench:
    """A workflow in a folder of its own, and how it is run."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.gate = folder / "gate"
        (folder / "chain.cwl").write_text(CHAIN)
        names = [f"n{number}" for number in range(count)]
        self.expected = "".join(f"{name}\n" for name in names)
        given = {"names": names, "journal": str(self.journal), "gate": str(self.gate)}
        (folder / "in.json").write_text(json.dumps(given))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return workflow(self.folder, *words)

    def call(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    @property
    def runs(self) -> list[str]:
        folder = self.folder / "data/workflows/runs"
        return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def has(self, lines: int, process: "subprocess.Popen[str]") -> bool:
        return len(self.lines()) >= lines or process.poll() is not None

    def tasks(self, run: str) -> dict[str, Any]:
        _, out, _ = self.call("show", run, "-o", "json")
        return {task["task"]: task for task in json.loads(out)["tasks"]}


def test_a_failed_run_goes_on_where_it_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3)
    code, _, said = bench.call("run", "chain.cwl", "in.json", "--outdir", "out")
    assert code == 1 and "join failed: It ended with exit code 9." in said
    (run,) = bench.runs
    assert f"isthmus workflow resume {run}" in said
    bench.gate.touch()
    code, _, _ = bench.call("resume", run)
    assert code == 0
    assert (tmp_path / "out/all.txt").read_text() == bench.expected
    assert sorted(bench.lines()) == ["join", "join", "make n0", "make n1", "make n2"]


def test_another_run_takes_what_is_the_same_and_explain_says_what_is_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 2)
    bench.gate.touch()
    assert bench.call("run", "chain.cwl", "in.json", "--outdir", "out")[0] == 0
    given = json.loads((tmp_path / "in.json").read_text())
    (tmp_path / "in.json").write_text(json.dumps({**given, "names": ["n0", "other"]}))
    assert bench.call("run", "chain.cwl", "in.json", "--outdir", "out")[0] == 0
    assert (tmp_path / "out/all.txt").read_text() == "n0\nother\n"
    assert sorted(bench.lines()) == ["join", "join", "make n0", "make n1", "make other"]
    second = bench.runs[-1]
    tasks = bench.tasks(second)
    assert [tasks[name]["state"] for name in ("make[0]", "make[1]", "join")] == ["reused", "done", "done"]
    assert 'The input \'name\' has changed: "n1" is now "other".' in bench.call("explain", second, "make[1]")[1]
    assert "had done the same" in bench.call("explain", second, "make[0]")[1]
    assert bench.call("run", "chain.cwl", "in.json", "--no-reuse", "--outdir", "out")[0] == 0
    assert len(bench.lines()) == 8


def test_a_file_between_steps_that_has_gone_is_made_again_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 3)
    assert bench.call("run", "chain.cwl", "in.json", "--outdir", "out")[0] == 1
    (run,) = bench.runs
    (gone,) = (tmp_path / "data/workflows/runs" / run / "steps").glob("make.1/work/made.txt")
    gone.unlink()
    bench.gate.touch()
    code, _, said = bench.call("resume", run)
    assert code == 0, said
    assert (tmp_path / "out/all.txt").read_text() == bench.expected
    assert sorted(bench.lines()) == ["join", "join", "make n0", "make n1", "make n1", "make n2"]


def test_an_interrupt_ends_what_runs(tmp_path: Path) -> None:
    (tmp_path / "slow.cwl").write_text(
        "{cwlVersion: v1.2, class: CommandLineTool, inputs: {f: string}, outputs: [],"
        " baseCommand: [sh, -c, 'echo $$ > \"$0\"; sleep 100'], arguments: [$(inputs.f)]}"
    )
    bench = Bench(tmp_path, 1)
    process = bench.start("run", "slow.cwl", "--f", str(tmp_path / "pid"))
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the step to start")
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the step to end")


def test_a_killed_driver_leaves_no_step_behind(tmp_path: Path) -> None:
    (tmp_path / "slow.cwl").write_text(
        "{cwlVersion: v1.2, class: CommandLineTool, inputs: {f: string}, outputs: [],"
        " baseCommand: [sh, -c, 'echo $$ > \"$0\"; sleep 100'], arguments: [$(inputs.f)]}"
    )
    bench = Bench(tmp_path, 1)
    process = bench.start("run", "slow.cwl", "--f", str(tmp_path / "pid"))
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), "the step to start")
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the step to end")


@pytest.mark.parametrize("seed", range(3))
def test_a_run_whose_driver_is_killed_again_and_again_comes_to_its_end(tmp_path: Path, seed: int) -> None:
    """Killed after so many steps; what was written down as done is not done again."""
    bench = Bench(tmp_path, 24)
    bench.gate.touch()
    process = bench.start("run", "chain.cwl", "in.json", "--outdir", "out")
    kills = 0
    for after in (2 + seed, 7, 12 + seed, 18):
        wait_for(partial(bench.has, after, process), "steps to run")
        process.kill()
        process.communicate(timeout=30)
        kills += 1
        (run,) = bench.runs
        process = bench.start("resume", run)
    _out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert (tmp_path / "out/all.txt").read_text() == bench.expected
    states = {task["state"] for task in bench.tasks(run).values()}
    assert states == {"done"}
    made = [line for line in bench.lines() if line.startswith("make")]
    assert len(set(made)) == 24
    # At a kill some steps run and some are done but not yet written down: those are done again, no others.
    assert len(made) <= 24 + kills * 12


def test_a_step_that_its_guardian_never_heard_of_is_known_by_where_it_works(tmp_path: Path) -> None:
    began = guardian._start_ticks(os.getpid())
    steps = tmp_path / "steps"
    inner = steps / "make" / "work"
    inner.mkdir(parents=True)
    step, other, seen = (
        subprocess.Popen(["sleep", "100"], cwd=cwd, start_new_session=alone)
        for cwd, alone in ((inner, True), (tmp_path, True), (inner, False))
    )
    try:
        assert guardian._orphans(str(steps), began, os.getpid()) == [step.pid]
        # What another driver has begun since then is that driver's.
        assert guardian._orphans(str(steps), began, 1) == []
    finally:
        for each in (step, other, seen):
            each.kill()
            each.wait()
