"""Driving a program: what happens when something of ours fails in the middle."""

import subprocess
from pathlib import Path

import pytest

from isthmus.workflows.cwl.opening import opened
from isthmus.workflows.driver.drive import Told
from isthmus.workflows.running import HereSettings, drive

TWO = """
cwlVersion: v1.2
class: Workflow
inputs: {}
outputs: []
steps:
  long:
    in: {}
    out: []
    run: {class: CommandLineTool, baseCommand: [sleep, "%(long)s"], inputs: {}, outputs: []}
  short:
    in: {}
    out: []
    run: {class: CommandLineTool, baseCommand: ["true"], inputs: {}, outputs: []}
"""
LONG = "86423"


def test_a_fault_of_ours_ends_the_run_and_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "two.cwl").write_text(TWO % {"long": LONG})
    found = opened(str(tmp_path / "two.cwl"))

    def watcher(told: Told) -> None:
        if told.kind == "done":
            raise BrokenPipeError("nobody reads this any more")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        drive(found.program, found.given, str(tmp_path / "steps"), HereSettings(cpus=2), watcher)
    assert subprocess.run(["pgrep", "-f", f"^sleep {LONG}"], capture_output=True).stdout == b""
