"""CWL documents run on this machine, through the command that callers of CWL runners use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.domain.errors import Invalid
from isthmus.workflows.cwl import reading

WORDCOUNT = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}, StepInputExpressionRequirement: {}}
inputs:
  texts: string[]
  least: {type: int, default: 0}
outputs:
  counts: {type: "int?[]", outputSource: count/n}
  total: {type: int, outputSource: sum/total}
steps:
  write:
    scatter: text
    in: {text: texts}
    out: [file]
    run:
      class: CommandLineTool
      baseCommand: echo
      inputs: {text: {type: string, inputBinding: {}}}
      outputs: {file: stdout}
      stdout: words.txt
  count:
    scatter: file
    when: $(inputs.file.size > inputs.least)
    in: {file: write/file, least: least}
    out: [n]
    run:
      class: CommandLineTool
      baseCommand: [wc, -w]
      stdin: $(inputs.file.path)
      inputs: {file: File}
      outputs:
        n: {type: int, outputBinding: {glob: n.txt, loadContents: true, outputEval: "$(parseInt(self[0].contents))"}}
      stdout: n.txt
  sum:
    in: {numbers: {source: count/n, pickValue: all_non_null}}
    out: [total]
    run:
      class: ExpressionTool
      inputs: {numbers: "int[]"}
      outputs: {total: int}
      expression: "${ return {total: inputs.numbers.reduce(function(a, b) { return a + b; }, 0)}; }"
"""


def run(folder: Path, document: str, inputs: dict[str, Any] | None = None, *words: str) -> tuple[int, Any, str]:
    """Exit code, output object and what it said."""
    (folder / "doc.cwl").write_text(document)
    (folder / "inputs.json").write_text(json.dumps(inputs or {}))
    done = subprocess.run(
        [sys.executable, "-m", "isthmus.cli.cwl_runner", "--outdir", "out", *words, "doc.cwl", "inputs.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr


def test_a_workflow_with_scatter_conditions_and_javascript(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, WORDCOUNT, {"texts": ["a b c", "d", "e f"], "least": 3})
    assert code == 0 and out == {"counts": [3, None, 2], "total": 5}


def test_files_are_delivered_under_names_of_their_own(tmp_path: Path) -> None:
    document = WORDCOUNT.replace(
        "outputs:\n  counts", 'outputs:\n  files: {type: "File[]", outputSource: write/file}\n  counts', 1
    )
    code, out, _ = run(tmp_path, document, {"texts": ["a", "b"]})
    assert code == 0
    assert [each["basename"] for each in out["files"]] == ["words.txt", "words_2.txt"]
    assert [(tmp_path / "out" / each["basename"]).read_text() for each in out["files"]] == ["a\n", "b\n"]
    assert out["files"][0]["checksum"] == "sha1$3f786850e387550fdab836ed7e6dc881de23001b"


def test_a_failing_step_is_told_once_with_its_last_words(tmp_path: Path) -> None:
    tool = """
        {cwlVersion: v1.2, class: CommandLineTool, inputs: [], outputs: [], id: fails,
         baseCommand: [sh, -c, "echo some words >&2; exit 7"]}"""
    code, _, said = run(tmp_path, tool)
    assert code == 1
    assert "fails failed: It ended with exit code 7." in said and said.count("some words") == 1


def test_secondary_files_and_a_work_folder_with_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.txt.idx").write_text("index")
    tool = """
cwlVersion: v1.2
class: CommandLineTool
requirements:
  InitialWorkDirRequirement:
    listing:
      - {entryname: conf/settings.txt, entry: "file=$(inputs.data.basename)"}
      - {entry: $(inputs.data), writable: true}
inputs: {data: {type: File, secondaryFiles: [.idx]}}
outputs:
  data: {type: File, secondaryFiles: [.idx], outputBinding: {glob: a.txt}}
  conf: {type: Directory, outputBinding: {glob: conf}}
baseCommand: [sh, -c, "echo more >> a.txt; cat conf/settings.txt >> a.txt.idx"]
"""
    code, out, said = run(tmp_path, tool, {"data": {"class": "File", "path": "a.txt"}})
    assert code == 0, said
    assert (tmp_path / "out/a.txt").read_text() == "textmore\n"
    assert (tmp_path / "out/a.txt.idx").read_text() == "indexfile=a.txt"
    assert [each["basename"] for each in out["conf"]["listing"]] == ["settings.txt"]
    assert (tmp_path / "a.txt").read_text() == "text"


def test_a_time_limit_ends_a_step(tmp_path: Path) -> None:
    tool = """
        {cwlVersion: v1.2, class: CommandLineTool, inputs: [], outputs: [], id: slow, baseCommand: [sleep, "50"],
         requirements: {ToolTimeLimit: {timelimit: 1}}}"""
    code, _, said = run(tmp_path, tool)
    assert code == 1 and "longer than its time limit of 1 s" in said


def test_what_no_machine_has_is_refused(tmp_path: Path) -> None:
    tool = """
        {cwlVersion: v1.2, class: CommandLineTool, inputs: [], outputs: [], id: big, baseCommand: "true",
         requirements: {ResourceRequirement: {coresMin: 6400}}}"""
    code, _, said = run(tmp_path, tool)
    assert code == 1 and "It needs 6400 cores" in said


LATER = """
cwlVersion: v1.2
class: Workflow
inputs: {cores: int}
outputs: []
steps:
  first:
    in: {}
    out: [made]
    run: {class: CommandLineTool, baseCommand: [touch, RAN], inputs: [], outputs: {made: stdout}}
  then:
    in: {cores: cores, file: first/made}
    out: []
    run:
      class: CommandLineTool
      requirements: {ResourceRequirement: {coresMin: CORES}}
      baseCommand: "true"
      inputs: {cores: int, file: File}
      outputs: []
"""


def test_what_a_later_step_asks_for_in_vain_is_told_before_the_first_one(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    document = LATER.replace("RAN", str(ran))
    code, out, said = run(tmp_path, document.replace("CORES", "6400"), {"cores": 1})
    assert code == 1 and out is None and "doc.cwl:15: then: It needs 6400 cores" in said
    assert not ran.exists()
    code, _, said = run(tmp_path, document.replace("CORES", "$(inputs.cores)"), {"cores": 6400})
    assert code == 1 and "It needs 6400 cores" in said and ran.exists(), "known when it is reached"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("source: count/n", "source: count/m", "gives no 'm'"),
        ("scatter: text", "scatter: txt", "Did you mean 'text'?"),
        ("loadContents: true, outputEval", "loadContent: true, outputEval", "Did you mean 'loadContents'?"),
        ("baseCommand: echo", "baseComand: echo", "Did you mean 'baseCommand'?"),
        ("least: {type: int,", "least: {type: itn,", "Did you mean 'int'?"),
        ("class: ExpressionTool", "class: ExpresionTool", "Did you mean 'ExpressionTool'?"),
        ("total: {type: int, outputSource", "total: {type: File, outputSource", "is int, but 'total' needs File"),
        ("cwlVersion: v1.2", "cwlVersion: v9", "Known: v1.0, v1.1, v1.2"),
        ("    out: [total]", "    out: [totl]", "Did you mean 'total'?"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    document = WORDCOUNT.replace(before, after, 1)
    line = document[: document.index(after)].count("\n") + 1
    code, out, said = run(tmp_path, document, {"texts": ["a"]})
    assert code == 1 and out is None
    assert f"doc.cwl:{line}: " in said and words in said and "Traceback" not in said


def test_wrong_inputs_are_told_before_anything_runs(tmp_path: Path) -> None:
    code, _, said = run(tmp_path, WORDCOUNT, {"text": ["a"]})
    assert code == 1 and "'texts' (string[]) is missing. Did you mean 'text'?" in said
    code, _, said = run(tmp_path, WORDCOUNT)
    assert code == 1 and "'texts' (string[]) is missing. Give it as --texts VALUE or in a file of inputs." in said
    code, _, said = run(tmp_path, WORDCOUNT, {"texts": [1]})
    assert code == 1 and "'texts' must be string[], but it is a list" in said


def test_a_document_that_runs_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "doc.cwl").write_text(
        "{cwlVersion: v1.2, class: Workflow, inputs: [], outputs: [], steps: {s: {run: doc.cwl, in: [], out: []}}}"
    )
    with pytest.raises(Invalid, match="runs itself"):
        reading.read(str(tmp_path / "doc.cwl"))
