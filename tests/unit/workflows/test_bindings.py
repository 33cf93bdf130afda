"""Binding files, ours and StreamFlow's: what they come to, and what is refused with its line."""

from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.workflows import bindings
from isthmus.workflows.cwl import orders
from isthmus.workflows.dataflow.graph import Feed, Graph, Source, Step
from isthmus.workflows.locations import at_site
from isthmus.workflows.streamflow import reading
from isthmus.workflows.work import StepFailed

OURS = """
sites:
  cluster: slurm+ssh://me@login.example.org/scratch/me
otherwise: here
steps:
  prepare: here
  train: cluster
  train/fit:
    sites: [cluster, box]
    resources: {gpus: 1, time: 2h}
    options: {slurm: {qos: long}}
images: {"docker.io/python:3": python-sif}
"""

STREAMFLOW = """
version: v1.0
workflows:
  main:
    type: cwl
    config: {file: main.cwl, settings: inputs.yml}
    bindings:
      - step: /prepare
        target: {deployment: box}
      - step: /train
        target: [{deployment: cluster, service: gpu, locations: 2}]
      - step: /show
        target: {deployment: image}
      - step: /any
        target: [{deployment: box}, {deployment: cluster}]
        filters: [shuffle]
deployments:
  box:
    type: ssh
    config: {nodes: ["box1:2222", box2], username: me, sshKey: key, checkHostKey: false}
    workdir: /data/work
  cluster:
    type: slurm
    config:
      maxConcurrentJobs: 7
      services:
        gpu: {partition: gpu, time: "1-02:00:00", mem: 4GB, ntasksPerNode: 2}
    wraps: box
  image: {type: docker, config: {image: "python:3"}}
"""


def graph(*paths: str) -> Graph:
    inner = Graph((), {"fit": Step({}, (), None)}, {})
    return Graph((), {path: Step({}, (), inner if path == "train" else None) for path in paths}, {})


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def written(folder: Path, text: str, name: str = "b.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_nearest_binding_holds(tmp_path: Path) -> None:
    found = bindings.read(written(tmp_path, OURS))
    found.check(graph("prepare", "train", "rest"), ["box", "local"])
    assert found.target("prepare").here and found.target("rest").here
    assert found.target("train/other").sites == ("cluster",)
    fit = found.target("train/fit")
    assert fit.sites == ("cluster", "box") and fit.resources == {"gpus": 1, "time": "2h"}
    assert found.sites["cluster"].kind == "slurm" and found.remote


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("train/fit:", "train/fitt:", "Did you mean 'train/fit'?"),
        ("prepare: here", "prepare: bux", "There is no site 'bux'. Did you mean 'box'?"),
        ("resources:", "resource:", "Did you mean 'resources'?"),
        ("steps:", "step:", "Did you mean 'steps'?"),
        ("slurm+ssh:", "slrm+ssh:", "Did you mean 'slurm+ssh'?"),
    ],
)
def test_wrong_bindings_are_told_with_their_line(tmp_path: Path, before: str, after: str, words: str) -> None:
    text = OURS.replace(before, after)
    with pytest.raises(Invalid) as told:
        bindings.read(written(tmp_path, text)).check(graph("prepare", "train"), ["box"])
    assert f"b.yml:{line_of(text, after)}" in str(told.value) and words in str(told.value)


def test_a_streamflow_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, STREAMFLOW, "streamflow.yml")
    assert reading.is_streamflow(str(path))
    found = reading.read(path)
    assert found.process == str(tmp_path / "main.cwl") and found.inputs == str(tmp_path / "inputs.yml")
    found.bindings.check(graph("prepare", "train", "show", "any"))
    assert found.bindings.target("prepare").sites == ("box-0", "box-1")
    train = found.bindings.target("train")
    assert train.sites == ("cluster",)
    assert train.options == {"slurm": {"partition": "gpu", "ntasks-per-node": 2}}
    assert train.resources == {"time": "93600s", "mem": "4GB", "nodes": 2}
    show = found.bindings.target("show")
    assert show.here and show.image is not None and show.image.reference == "python:3"
    assert found.bindings.target("any").sites == ("box-0", "box-1", "cluster")
    cluster = found.bindings.sites["cluster"]
    assert cluster.reach is not None and cluster.limits.jobs == 7
    box = found.bindings.sites["box-0"].reach
    assert box is not None and (box.hops[0].host, box.hops[0].port, box.hops[0].user) == ("box1", 2222, "me")
    assert box.key_file == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("type: docker,", "type: helm,", "type helm can't be done"),
        ("    type: slurm", "    type: pbs", "PBS is no batch system"),
        ("type: docker,", "type: dokcer,", "Did you mean 'docker'?"),
        ("deployment: image}", "deployment: imag}", "Did you mean 'image'?"),
        ("service: gpu", "service: gpus", "Did you mean 'gpu'?"),
        ('{image: "python:3"}', '{image: "python:3", volume: x}', "The option 'volume'"),
        ("version: v1.0", "version: v2.0", "v1.0 is"),
        ("- step: /show", "- port: /show", "needs the absolute path"),
        ("filters: [shuffle]", "filters: [shufle]", "Did you mean 'shuffle'?"),
    ],
)
def test_what_of_streamflow_can_not_be_done_is_refused_by_name(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = STREAMFLOW.replace(before, after)
    path = written(tmp_path, text, "streamflow.yml")
    with pytest.raises(Invalid) as told:
        reading.read(path)
    assert words in str(told.value) and f"streamflow.yml:{line_of(text, after.strip())}" in str(told.value)


PORTS = STREAMFLOW.replace(
    "      - step: /show",
    "      - {port: /reads, target: [{deployment: cluster, workdir: /archive/me}, {deployment: box}]}\n"
    "      - {port: /train/fit/table, target: {deployment: here, workdir: TABLES}}\n      - step: /show",
).replace("\ndeployments:", "\ndeployments:\n  here: {type: local}")


def fed(*, table: str = "") -> Graph:
    """`reads` and `table` are the graph's inputs; `train/fit` reads the table as it was given, or what a step made."""
    inner = Graph(("t",), {"fit": Step({"table": Feed((Source("", "t"),))}, ("made",), None)}, {})
    step = Step({"t": Feed((Source(table, "table"),))}, (), inner)
    others = {name: Step({}, ("table",), None) for name in ("prepare", "show", "any")}
    return Graph(("reads", "table"), {**others, "train": step}, {})


def test_ports_are_bound_to_where_their_files_lie(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    text = PORTS.replace("TABLES", str(tmp_path))
    found = reading.read(written(tmp_path, text, "streamflow.yml")).bindings
    lying = found.lying(fed())
    assert {name: (each.site, each.folder) for name, each in lying.items()} == {
        "reads": ("cluster", "/archive/me"),
        "table": ("here", str(tmp_path)),
    }
    given = orders.located(
        {"reads": {"class": "File", "path": "a/b c.fq"}, "table": {"class": "File", "path": "t.csv"}, "n": 3},
        "/desk/in.yml",
        lying,
    )
    assert [str(given[name]["location"]) for name in ("reads", "table")] == [
        "at:cluster/archive/me/a/b%20c.fq",
        f"file://{tmp_path}/t.csv",
    ]
    assert given["reads"]["basename"] == "b c.fq" and at_site(given["reads"]["location"])[1] == "/archive/me/a/b c.fq"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("/reads", "/raeds", "There is no input 'raeds'. Did you mean 'reads'?"),
        ("fit/table", "fit/tabel", "The step 'fit' has no port 'tabel'. Did you mean 'table'?"),
        ("fit/table", "fit/made", "is an output"),
        ("/train/fit/table", "/trian/fit/table", "There is no step 'trian' in this workflow. Did you mean 'train'?"),
    ],
)
def test_a_port_that_can_not_be_bound_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = PORTS.replace(before, after).replace("TABLES", "/tables")
    found = reading.read(written(tmp_path, text, "streamflow.yml"))
    with pytest.raises(Invalid) as told:
        found.bindings.check(fed())
    assert words in str(told.value) and f"streamflow.yml:{line_of(text, after)}" in str(told.value)


def test_what_a_step_makes_lies_where_it_made_it(tmp_path: Path) -> None:
    found = reading.read(written(tmp_path, PORTS.replace("TABLES", "/tables"), "streamflow.yml"))
    with pytest.raises(Invalid, match="gets its value from the step 'show'"):
        found.bindings.check(fed(table="show"))


def test_our_own_bindings_say_where_an_input_lies(tmp_path: Path) -> None:
    found = bindings.read(written(tmp_path, "data: {reads: box:/archive}\n"))
    assert found.remote and found.named_sites() == {"box"}
    with pytest.raises(Invalid, match="There is no site 'box'"):
        found.check(fed(), ["bax"])
    with pytest.raises(Invalid, match="SITE:/folder"):
        bindings.read(written(tmp_path, "data: {reads: box}\n"))
    with pytest.raises(Invalid, match="give it as a relative path"):
        orders.located({"reads": {"class": "File", "path": "/etc/passwd"}}, "/desk/in.yml", found.lying(fed()))


def test_a_binding_to_a_step_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    found = reading.read(written(tmp_path, STREAMFLOW, "streamflow.yml"))
    with pytest.raises(Invalid, match="There is no step 'show'"):
        found.bindings.check(graph("prepare", "train", "any"))


def test_inputs_decide_among_targets(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "steps:\n  train:\n    - {when: {network: dense, folds: 3}, sites: box, resources: {gpus: 1}}\n    - cluster\n"
    )
    found = bindings.read(tmp_path / "b.yaml")
    found.check(graph("train"), ["box", "cluster"])
    assert found.chosen("train", {"network": "dense", "folds": 3}).sites == ("box",)
    assert found.chosen("train/fit", {"network": "plain", "folds": 3}).sites == ("cluster",)
    (tmp_path / "b.yaml").write_text("steps:\n  train:\n    - {when: {network: dense}, sites: box}\n")
    with pytest.raises(StepFailed, match="None of the targets of train"):
        bindings.read(tmp_path / "b.yaml").chosen("train", {"network": "plain"})


MATCHING = """
version: v1.0
workflows:
  main:
    type: cwl
    config: {file: main.cwl}
    bindings:
      - step: /train
        target: [{deployment: one}, {deployment: two}]
        filters: [by-file]
bindingFilters:
  by-file:
    type: matching
    config:
      filters:
        - {target: one, job: [{port: file, match: Hello.java}]}
        - {target: {deployment: two}, job: [{port: file, match: hello.c}, {port: compiler, match: gcc}]}
        - {target: two, job: [{port: file, match: hello.rs}]}
deployments:
  one: {type: ssh, config: {nodes: [one]}}
  two: {type: ssh, config: {nodes: [two]}}
"""


def test_a_matching_filter_of_streamflow(tmp_path: Path) -> None:
    (tmp_path / "streamflow.yml").write_text(MATCHING)
    found = reading.read(tmp_path / "streamflow.yml").bindings
    assert found.chosen("train", {"file": "Hello.java"}).sites == ("one",)
    assert found.chosen("train", {"file": "hello.c", "compiler": "gcc"}).sites == ("two",)
    assert found.chosen("train", {"file": "hello.rs"}).sites == ("two",)
    with pytest.raises(StepFailed):
        found.chosen("train", {"file": "hello.c", "compiler": "clang"})
    (tmp_path / "streamflow.yml").write_text(
        MATCHING.replace("job: [{port: file, match: Hello", "jobs: [{port: file, match: Hello")
    )
    with pytest.raises(Invalid, match="jobs"):
        reading.read(tmp_path / "streamflow.yml")
