"""What somebody else handed in is read within its folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.workflows.cwl.opening import check_types, opened

TOOL = """cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs:
  file: {type: File, inputBinding: {}%s}
  times: {type: int, default: 2}
outputs: {}
"""


RUNS = """cwlVersion: v1.2
class: Workflow
inputs: {}
outputs: {}
steps: {a: {in: {}, out: [], run: "%s"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside.cwl").write_text(TOOL % "")
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "tool.cwl").write_text(TOOL % "")
    (inside / "reads.txt").write_text("x")
    return inside


def _open(folder: Path, inputs: str, process: str = "tool.cwl") -> None:
    (folder / "inputs.yml").write_text(inputs)
    check_types(opened(str(folder / process), str(folder / "inputs.yml"), within=str(folder)))


@pytest.mark.parametrize("where", ["reads.txt", "dataset:reads@1", "https://data.example.org/x"])
def test_what_is_inside_or_far_is_taken(folder: Path, where: str) -> None:
    _open(folder, f'file: {{class: File, location: "{where}"}}')


@pytest.mark.parametrize("where", ["/etc/passwd", "file:///etc/passwd", "../outside.cwl", "a/../../gone", "%2e%2e/x"])
def test_inputs_outside_are_refused_whether_or_not_they_are_there(folder: Path, where: str) -> None:
    with pytest.raises(Invalid, match="not among the files") as refused:
        _open(folder, f'file: {{class: File, path: "{where}"}}')
    assert refused.value.place == "inputs.file"


@pytest.mark.parametrize(
    "document",
    [
        RUNS % "../outside.cwl",
        RUNS % "http://x.example/y.cwl",
        "$import: ../outside.cwl",
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: {$include: /etc/hostname}\ninputs: {}\noutputs: {}",
        TOOL % ", default: {class: File, location: /etc/passwd}",
        TOOL % "" + "$schemas: [/etc/passwd]\n",
    ],
)
def test_documents_outside_are_refused(folder: Path, document: str) -> None:
    (folder / "other.cwl").write_text(document)
    with pytest.raises(Invalid, match="not among the files"):
        _open(folder, "{}", "other.cwl")


def test_types_are_checked_with_the_input_named(folder: Path) -> None:
    for inputs, place in (("{}", "inputs.file"), ("file: 3", "inputs.file")):
        with pytest.raises(Invalid) as wrong:
            _open(folder, inputs)
        assert wrong.value.place == place
    with pytest.raises(Invalid, match="must be int"):
        _open(folder, "file: {class: File, path: reads.txt}\ntimes: much")
