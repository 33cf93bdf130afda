"""`isthmus placement simulate`: figures, files, pictures, and what is said of wrong input."""

import json
from pathlib import Path

import pytest

from isthmus.cli.main import main
from isthmus.placement.sizing.generate import generate
from isthmus.placement.sizing.problem import write_problem


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(write_problem(generate(nodes=2, jobs=8, gap_s=4000.0, seed=1))))
    return path


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in ("placement", *words)])
    return int(ended.value.code or 0)


def test_it_compares_policies_and_writes_what_is_asked_for(
    instance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule, picture = tmp_path / "s.json", tmp_path / "p.html"
    words = ("-p", "edf", "-p", "deadline-cost", "--schedule", schedule, "--gantt", picture, "-o", "json")
    assert call("simulate", instance, *words) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [one["policy"] for one in reports] == ["edf", "deadline-cost"]
    assert reports[1]["lower_bound"] <= reports[1]["total"] <= reports[0]["total"]
    assert {run["job"] for run in json.loads(schedule.read_text())["runs"]} == set(range(8))
    assert picture.read_text().count("<svg") == 2


def test_a_chart_names_each_run(instance: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.svg"
    assert call("simulate", instance, "--gantt", picture) == 0
    assert "job 7:" in picture.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "This is not JSON"),
        ("{}", "'jobs' is missing"),
        ('{"nodes": -1, "vm_types": [1], "jobs": [1]}', "nodes: -1 is less than 1"),
    ],
)
def test_wrong_input_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert call("simulate", path) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "bad.json" in said


def test_a_policy_nearly_right_is_named(instance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("simulate", instance, "-p", "gredy") == 3
    assert "greedy" in capsys.readouterr().err


def test_a_problem_is_made_from_a_traces_run_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, path = tmp_path / "trace.csv", tmp_path / "made.json"
    trace.write_text("runtime\n3600\n7200.5\n1\n")
    assert call("generate", path, "--runtimes", trace, "--nodes", "2", "--jobs", "5") == 0
    made = json.loads(path.read_text())
    assert {round(job["time_s"]["small"][0], 1) for job in made["jobs"]} <= {3600.0, 7200.5}
    assert call("simulate", path, "-p", "edf") == 0
    trace.write_text("runtime\n3600\nsoon\n")
    capsys.readouterr()
    assert call("generate", path, "--runtimes", trace) == 2
    assert "trace.csv:3: 'soon' is not a number of seconds" in capsys.readouterr().err
