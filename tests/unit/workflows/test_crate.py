"""A run as a crate, a plan, a picture."""

import json
from pathlib import Path

from rocrate.rocrate import ROCrate

from isthmus.workflows import crate, drawing, planning, reporting
from isthmus.workflows.dataflow.graph import Feed, Graph, Scatter, Source, Step
from isthmus.workflows.driver.book import Entry
from isthmus.workflows.placing import Bindings, Target

GRAPH = Graph(
    ("x",),
    {
        "make": Step({"a": Feed((Source("", "x"),))}, ("out",), None, scatter=Scatter(("a",))),
        "use": Step({"b": Feed((Source("make", "out"),))}, ("out",), None),
    },
    {},
)


def test_a_crate_tells_of_the_workflow_its_values_and_each_task(tmp_path: Path) -> None:
    (tmp_path / "main.cwl").write_text("class: Workflow")
    (tmp_path / "a.txt").write_text("hello")
    facts = {
        "run": "r1",
        "name": "main",
        "process": str(tmp_path / "main.cwl"),
        "state": "completed",
        "started": 1.0,
        "ended": 3.0,
        "given": {
            "n": 3,
            "f": {"class": "File", "location": f"file://{tmp_path}/a.txt", "basename": "a.txt", "size": 5},
        },
        "outputs": {"total": 7},
    }
    entries = [Entry("make[0]", "done", place="cluster", started=1.5, ended=2.0, key="k"), Entry("use", "failed")]
    path = crate.write(facts, entries, tmp_path / "crate")
    graph = {each["@id"]: each for each in json.loads(path.read_text())["@graph"]}
    assert graph["./"]["mainEntity"] == {"@id": "main.cwl"}
    assert (tmp_path / "crate/inputs/f/a.txt").read_text() == "hello" and (tmp_path / "crate/main.cwl").exists()
    run = graph["#run"]
    assert run["object"] == [{"@id": "#inputs/n"}, {"@id": "inputs/f/a.txt"}]
    assert run["result"] == [{"@id": "#outputs/total"}] and run["startTime"] == "1970-01-01T00:00:01.000+00:00"
    assert graph["#task/make[0]"]["description"] == "It ran at: cluster."
    assert graph["#task/use"]["actionStatus"].endswith("FailedActionStatus")
    named = {part["@id"] for part in graph["./"]["hasPart"] + graph["./"]["mentions"]}
    assert named <= set(graph)
    read = ROCrate(tmp_path / "crate")
    assert read.mainEntity.id == "main.cwl" and {each.id for each in read.data_entities} >= {
        "main.cwl",
        "inputs/f/a.txt",
    }
    assert read.dereference("#run").get("instrument") == read.mainEntity


def test_a_plan_says_where_and_why_and_what_moves() -> None:
    rows = planning.plan(GRAPH, Bindings(steps={"make": Target(sites=("cluster",))}))
    assert [(row["step"], row["where"], row["why"], row["moves"]) for row in rows] == [
        ("make", "cluster", "bound", []),
        ("use", "here", "not bound", ["what make leaves"]),
    ]


def test_a_picture_has_each_step_below_what_it_waits_for() -> None:
    assert drawing.waits(GRAPH) == [
        {"step": "make", "after": [], "scatter": True},
        {"step": "use", "after": ["make"], "scatter": False},
    ]
    text = drawing.svg(GRAPH, {"make": "<b>"})
    assert text.count("<rect") == 2 and "scatter, &lt;b&gt;" in text


def test_a_report_counts_by_step() -> None:
    facts = {"run": "r", "state": "completed", "started": 10.0, "ended": 14.0}
    entries = [
        Entry("make[0]", "done", place="here", queued=10, started=11, ended=13, wall_s=2.0, cpu_s=1.0),
        Entry("make[1]", "reused", reused="r0"),
    ]
    told = reporting.summary(facts, entries)
    assert told["took_s"] == 4.0 and told["reused"] == 1
    assert told["steps"]["make"]["wait_s"] == 1.0 and told["steps"]["make"]["places"] == {"here": 1}
    assert any("make" in line and "#" in line for line in reporting.lines(facts, entries))
