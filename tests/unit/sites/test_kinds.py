"""Kinds of site: found by name, checked, rendered."""

import dataclasses
import shlex
import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import GpuPart, JobSpec, Resources
from isthmus.domain.sites import GpuKind, Hop, Inventory, NodeType, Queue, Reach, SiteSpec
from isthmus.domain.units import Bytes, Seconds
from isthmus.proxy.batch import find_module
from isthmus.sites import kinds
from isthmus.sites.kinds import Kind, Where, check_site, check_site_options, find_kind, kind_names

GIB = 2**30
INVENTORY = Inventory(
    workdir="/home/u/.isthmus/ab12",
    queues=(
        Queue(
            name="gpu",
            default=True,
            max_time=Seconds(7200),
            nodes=(
                NodeType(name="small", cpus=8, gpus=(GpuKind(type="A100", count=2, mem=Bytes(40 * GIB)),)),
                NodeType(name="large", cpus=8, gpus=(GpuKind(type="h100", count=4, mem=Bytes(80 * GIB)),)),
            ),
        ),
    ),
)
WHERE = Where(key="17.1-k3f9", queue="gpu")


def rendered(
    kind: str = "slurm", options: dict[str, Any] | None = None, job: dict[str, Any] | None = None, **need: Any
) -> tuple[str, tuple[str, ...]]:
    site = SiteSpec(name="c", kind=kind, options=options or {})
    spec = JobSpec(command=("true",), resources=Resources(**need), **(job or {}))
    return find_kind(kind).render(site, INVENTORY, spec, WHERE)


def flags(text: str, mark: str = "#SBATCH --") -> dict[str, str]:
    """The directives of a script as the batch system reads them: name to value."""
    found = {}
    for line in text.splitlines():
        if line.startswith(mark):
            name, _, value = line[len(mark) :].partition("=")
            found[name] = "".join(shlex.split(value))
    return found


# Names


def test_every_built_in_kind_is_whole() -> None:
    assert {"local", "ssh", "slurm", "gridengine"} <= set(kind_names())
    for name in kind_names():
        kind = find_kind(name)
        assert kind.name == name
        assert bool(kind.template) == bool(kind.command) == kind.own_queue
        if kind.own_queue:
            module = find_module(kind.batch)
            for function in ("submit", "query", "find", "kill", "probe", "STATES", "REASONS"):
                assert hasattr(module, function)
            kinds.check_template(kind.template, kinds.PLACEHOLDERS)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(Invalid, match=r"slrum.*slurm"):
        find_kind("slrum")


def test_a_plug_in_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("pbs", "tests.unit.sites.plugin:KIND", kinds.GROUP)
    toy = Kind(name="pbs", summary="PBS", batch="pbs", module="isthmus.proxy.batch.slurm.words")
    monkeypatch.setattr(EntryPoint, "load", lambda self: toy)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == kinds.GROUP else [])
    for cached in (kinds._found, kinds.find_kind):
        cached.cache_clear()
    try:
        assert find_kind("pbs") is toy
        assert "pbs" in kind_names()
        assert toy.modules == {"pbs": "isthmus.proxy.batch.slurm.words"}
        monkeypatch.setattr(EntryPoint, "load", lambda self: "no kind")
        kinds.find_kind.cache_clear()
        with pytest.raises(Invalid, match="broken"):
            find_kind("pbs")
    finally:
        for cached in (kinds._found, kinds.find_kind):
            cached.cache_clear()


# Sites


def test_an_ssh_site_needs_a_host_and_a_local_one_has_none() -> None:
    reach = Reach(hops=(Hop(host="login"),))
    check_site(SiteSpec(name="a", kind="ssh", reach=reach))
    check_site(SiteSpec(name="a", kind="slurm", reach=reach))
    check_site(SiteSpec(name="a", kind="slurm"))
    with pytest.raises(Invalid) as caught:
        check_site(SiteSpec(name="a", kind="ssh"))
    assert caught.value.place == "reach.hops"
    with pytest.raises(Invalid) as caught:
        check_site(SiteSpec(name="a", kind="local", reach=reach))
    assert caught.value.place == "reach"


def test_a_sites_template_is_checked_when_it_is_added() -> None:
    with pytest.raises(Invalid) as caught:
        check_site(SiteSpec(name="a", kind="slurm", template="#!/bin/sh\n{{ran}}\n"))
    assert "run" in caught.value.hint
    with pytest.raises(Invalid, match="no batch script"):
        check_site(SiteSpec(name="a", kind="local", template="#!/bin/sh\n{{run}}\n"))


def test_options_of_jobs_are_for_sites_and_kinds_that_are_there() -> None:
    sites = {"hpc1": "slurm", "here": "local"}
    check_site_options({"slurm": {"qos": "long"}, "hpc1": {"account": "p"}}, sites)
    with pytest.raises(Invalid) as caught:
        check_site_options({"hpc2": {}}, sites)
    assert caught.value.place == "site_options.hpc2"
    assert "hpc1" in caught.value.hint
    with pytest.raises(Invalid) as caught:
        check_site_options({"hpc1": {"qso": "long"}}, sites)
    assert (caught.value.place, "qos" in caught.value.hint) == ("site_options.hpc1.qso", True)
    with pytest.raises(Invalid):
        check_site_options({"here": {"qos": "long"}}, sites)


# Scripts


def test_process_sites_need_no_script() -> None:
    assert rendered("local") == ("", ())


def test_resources_become_directives() -> None:
    text, argv = rendered(
        cpus=4, mem=Bytes(GIB + 1), gpus=2, gpu_type="a100", time=Seconds(3600), nodes=2, tasks_per_node=2
    )
    said = flags(text)
    assert said["job-name"] == "isthmus-17.1-k3f9"
    assert (said["nodes"], said["ntasks-per-node"], said["cpus-per-task"]) == ("2", "2", "4")
    assert said["mem"] == "1025M", "rounded up: never less than asked for"
    assert said["gres"] == "gpu:A100:2", "as the site spells it"
    assert said["time"] == "0-01:02:00", "the limit, the grace and a minute"
    assert said["signal"] == "B:TERM@30"
    assert said["partition"] == "gpu"
    assert said["output"] == "batch.log"
    assert "no-requeue" in said
    assert argv == ()
    assert text.startswith("#!/bin/bash\n")


def test_what_is_not_asked_for_is_left_to_the_site() -> None:
    said = flags(rendered()[0])
    assert not {"mem", "gres", "time", "tmp"} & set(said)


def test_the_time_never_exceeds_the_queues_own_limit() -> None:
    assert flags(rendered(time=Seconds(7200))[0])["time"] == "0-02:00:00"
    assert flags(rendered(time=Seconds(7170))[0])["time"] == "0-02:00:00"


def test_memory_that_grew_after_a_kill_counts() -> None:
    job = JobSpec(command=("true",), resources=Resources(mem=Bytes(GIB)))
    where = dataclasses.replace(WHERE, mem_bytes=2 * GIB)
    text, _ = find_kind("slurm").render(SiteSpec(name="c", kind="slurm"), INVENTORY, job, where)
    assert flags(text)["mem"] == "2048M"


def test_a_gpu_with_enough_memory_is_named_where_others_have_less() -> None:
    assert flags(rendered(gpus=1)[0])["gres"] == "gpu:1"
    assert flags(rendered(gpus=1, gpu_mem=Bytes(10 * GIB))[0])["gres"] == "gpu:1"
    assert flags(rendered(gpus=1, gpu_mem=Bytes(60 * GIB))[0])["gres"] == "gpu:h100:1"


def test_a_part_of_a_gpu_is_asked_for_in_shards_where_the_cluster_has_them_and_else_is_a_whole_one() -> None:
    half, memory = GpuPart(part=0.5), GpuPart(memory=Bytes(6 * GIB))
    assert flags(rendered(gpu=0.5)[0])["gres"] == "gpu:1"
    assert flags(rendered(gpu=half, gpu_type="a100")[0])["gres"] == "gpu:A100:1"
    assert flags(rendered(options={"shards_per_gpu": 8}, gpu=half)[0])["gres"] == "shard:4"
    assert flags(rendered(options={"shards_per_gpu": 8}, gpu=memory)[0])["gres"] == "shard:2", "6 of 40 GiB, rounded up"
    assert flags(rendered(options={"shards_per_gpu": 8}, gpus=1)[0])["gres"] == "gpu:1"


def test_native_options_go_through_and_a_jobs_win() -> None:
    text, argv = rendered(
        options={"account": "p1", "qos": "normal", "gres": "nvme:1", "clusters": ["a", "b"], "extra": ["--x=1"]},
        job={"site_options": {"slurm": {"qos": "long"}, "c": {"reservation": "r", "extra": ["--y"]}}},
        gpus=1,
    )
    said = flags(text)
    assert (said["account"], said["qos"], said["reservation"]) == ("p1", "long", "r")
    assert said["gres"] == "gpu:1,nvme:1", "of two --gres, sbatch would take the last alone"
    assert argv == ("--clusters=a,b", "--x=1", "--y")


@pytest.mark.parametrize("value", ["two words", 'a "quoted" #word', "back\\slash", "a&b|c*2"])
def test_values_reach_sbatch_whole(value: str) -> None:
    assert flags(rendered(options={"constraint": value})[0])["constraint"] == value


def test_flags_have_no_value() -> None:
    text, _ = rendered(options={"exclusive": True, "contiguous": False})
    assert "#SBATCH --exclusive\n" in text
    assert "contiguous" not in text


def test_a_sites_set_up_lines_and_python_stand_before_every_job(tmp_path: Path) -> None:
    workdir = tmp_path / "a b$(touch x)"
    site = SiteSpec(name="c", kind="slurm", python="~/my python", setup=("X=1", 'echo "$X" $(type -t module)'))
    job = JobSpec(command=("true",))
    inventory = dataclasses.replace(INVENTORY, workdir=str(workdir))
    text, _ = find_kind("slurm").render(site, inventory, job, WHERE)
    python = tmp_path / "my python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    python.chmod(0o755)
    # As a cluster whose module function the environment has already: /etc/profile is left alone then.
    env = {"HOME": str(tmp_path), "BASH_FUNC_module%%": "() { :; }"}
    done = subprocess.run(["bash"], input=text, env=env, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["1 function", "<-I>", "<-S>"]
    assert lines[3].startswith(f"<{workdir}/bin/isthmus-")
    assert lines[4:] == ["<run>", f"<{workdir}/jobs/17.1-k3f9>"]


def test_a_sites_own_template_replaces_the_kinds() -> None:
    site = SiteSpec(name="c", kind="slurm", template="#!/bin/sh\n#SBATCH -c {{cpus}} -t {{limit_min}}\n{{run}}\n")
    job = JobSpec(command=("true",), resources=Resources(cpus=3, time=Seconds(60)))
    text, _ = find_kind("slurm").render(site, INVENTORY, job, WHERE)
    assert text.startswith("#!/bin/sh\n#SBATCH -c 3 -t 3\nexec python3 -I -S ")


def test_every_placeholder_can_be_filled() -> None:
    template = "#!/bin/sh\n" + "\n".join(f"# {{{{{name}}}}}" for name in kinds.PLACEHOLDERS)
    site = SiteSpec(name="c", kind="slurm", template=template)
    text, _ = find_kind("slurm").render(site, INVENTORY, JobSpec(command=("true",)), WHERE)
    assert "{{" not in text


def test_a_site_that_was_not_probed_renders_nothing() -> None:
    with pytest.raises(Invalid, match="not probed"):
        find_kind("slurm").render(SiteSpec(name="c", kind="slurm"), Inventory(), JobSpec(command=("true",)), WHERE)


def test_grid_engine_directives() -> None:
    text, _ = rendered(
        "gridengine",
        options={"project": "p", "resources": {"h": "n1"}},
        cpus=4,
        mem=Bytes(4 * GIB),
        gpus=2,
        time=Seconds(600),
    )
    lines = [line[3:] for line in text.splitlines() if line.startswith("#$ ")]
    assert "-pe smp 4" in lines
    assert "-l mem_free=4096M" in lines
    assert "-l gpu=2" in lines
    assert "-l h_rt=690" in lines
    assert "-l h=n1" in lines
    assert "-P p" in lines
    assert "-q gpu" in lines
    assert "-notify" in lines


def test_grid_engine_counts_h_vmem_by_slot() -> None:
    text, _ = rendered("gridengine", options={"memory": "h_vmem"}, cpus=4, mem=Bytes(4 * GIB))
    assert "#$ -l h_vmem=1024M" in text
    text, _ = rendered("gridengine", options={"memory": "none"}, mem=Bytes(4 * GIB))
    assert "mem" not in text


def test_grid_engine_says_what_it_can_not_express() -> None:
    with pytest.raises(Invalid, match="one node"):
        rendered("gridengine", nodes=2)
    with pytest.raises(Invalid, match="evenly"):
        rendered("gridengine", options={"gpu_per_slot": True}, cpus=4, gpus=2)
    with pytest.raises(Invalid, match="blank"):
        rendered("gridengine", options={"project": "a b"})
