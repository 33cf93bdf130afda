"""Which launcher starts a job's ranks, and what the ranks are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from isthmus.runner import launcher, rank
from isthmus.runner.errors import Failure
from tests.testbed.proxies import SiteFolder


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n1,n2", ["n1", "n2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("gpu[08-10],login", ["gpu08", "gpu09", "gpu10", "login"]),
        ("r[1-2]n[3,5-6]", ["r1n3", "r1n5", "r1n6", "r2n3", "r2n5", "r2n6"]),
        ("n[1,3]-ib", ["n1-ib", "n3-ib"]),
    ],
)
def test_slurms_short_form_of_nodes(text: str, names: list[str]) -> None:
    assert launcher.expand(text) == names


def test_the_nodes_of_a_grid_engine_job(tmp_path: Path) -> None:
    hosts = tmp_path / "pe"
    hosts.write_text("a 2 all.q@a UNDEFINED\nb 2 all.q@b UNDEFINED\n")
    assert launcher.nodes({"PE_HOSTFILE": str(hosts)}) == ["a", "b"]


@pytest.mark.parametrize(
    ("job", "how"),
    [
        ({}, "none"),
        ({"launcher": "auto", "nodes": 1, "tasks_per_node": 1}, "none"),
        ({"launcher": "auto", "nodes": 2}, "runner"),
        ({"launcher": "auto", "tasks_per_node": 4}, "runner"),
        ({"launcher": "none", "nodes": 2}, "none"),
        ({"launcher": "mpirun"}, "mpirun"),
    ],
)
def test_the_choice(job: dict[str, Any], how: str) -> None:
    assert launcher.choose(job) == how


def test_srun_is_told_everything() -> None:
    job = {"nodes": 2, "tasks_per_node": 4, "cpus": 16}
    size = launcher.Size(job, ["a", "b"], ["python", "train.py"])
    assert launcher.srun(size, ["prog"]) == [
        "srun", "--export=ALL", "--kill-on-bad-exit=1", "--nodes=2", "--ntasks=8", "--ntasks-per-node=4",
        "--cpus-per-task=4", "prog",
    ]  # fmt: skip


def test_fewer_nodes_than_asked_for() -> None:
    with pytest.raises(Failure, match=r"asks for 3 nodes.*gave it 1"):
        launcher.Size({"nodes": 3}, ["a"], ["prog"])


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["torchrun", "--nproc-per-node=2", "t.py"], True),
        (["/opt/bin/torchrun", "t.py"], True),
        (["python", "-m", "torch.distributed.run", "t.py"], True),
        (["python", "-u", "-m", "torch.distributed.launch", "t.py"], True),
        (["python", "t.py", "-m", "x"], False),
        (["python", "torchrun_like.py"], False),
    ],
)
def test_torchrun_is_known(argv: list[str], found: bool) -> None:
    assert launcher.is_torchrun(argv) is found


def test_torchrun_starts_once_a_node_and_finds_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "a")
    monkeypatch.setenv("MASTER_PORT", "29500")
    size = launcher.Size({"nodes": 2, "tasks_per_node": 4}, ["a", "b"], ["torchrun", "t.py"])
    assert (size.world, size.tasks) == (2, 1)
    told = rank.variables(1, 0, 1, size)
    assert told["PET_NNODES"] == "2" and told["PET_NODE_RANK"] == "1" and told["PET_NPROC_PER_NODE"] == "4"
    assert (told["PET_MASTER_ADDR"], told["PET_MASTER_PORT"]) == ("a", "29500")


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({"ISTHMUS_RANK": "3"}, (3, 1, 1)),
        ({"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"}, (2, 0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, (3, 1, 1)),
        ({"PMI_RANK": "1", "MPI_LOCALRANKID": "1"}, (1, 1, 0)),
    ],
)
def test_a_ranks_place_whoever_started_it(env: dict[str, str], found: tuple[int, int, int]) -> None:
    size = launcher.Size({"nodes": 2, "tasks_per_node": 2}, ["a", "b"], ["prog"])
    assert rank.position(env, size) == found


def test_a_rank_that_was_told_nothing() -> None:
    with pytest.raises(Failure, match="not told its number"):
        rank.position({}, launcher.Size({"nodes": 2}, ["a", "b"], ["prog"]))


SHOW = (
    "echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE node $NODE_RANK at $MASTER_ADDR:$MASTER_PORT $ISTHMUS_NODES"
)


def test_several_tasks_on_this_machine(site: SiteFolder) -> None:
    end = site.run("1.1-a", "sh", "-c", SHOW, tasks_per_node=3, launcher="auto")
    assert end["reason"] == "", site.story("1.1-a")
    lines = sorted(site.log("1.1-a").splitlines())
    assert [line.split(" at ")[0] for line in lines] == [f"{n}/3 {n}/3 node 0" for n in range(3)]
    assert len({line.split(" at ")[1] for line in lines}) == 1 and "127.0.0.1:" in lines[0]


def test_one_rank_that_fails_ends_the_others(site: SiteFolder) -> None:
    script = 'if [ "$RANK" = 1 ]; then exit 9; fi\nsleep 1000\n'
    end = site.run("1.1-a", script=script, tasks_per_node=3, grace_s=5)
    assert (end["exit_code"], end["reason"]) == (9, "EXIT_CODE")
    assert site.strays("1.1-a") == []


def test_a_rank_that_ignores_sigterm_is_killed(site: SiteFolder) -> None:
    script = (
        "if [ $RANK = 0 ]; then while [ ! -e ready ]; do sleep 0.02; done; exit 4; fi\n"
        "trap '' TERM\ntouch ready\nwhile :; do sleep 0.05; done\n"
    )
    end = site.run("1.1-a", script=script, tasks_per_node=2, grace_s=0.3)
    assert end["exit_code"] == 4 and site.strays("1.1-a") == []


def test_mpirun_that_is_not_there(site: SiteFolder) -> None:
    end = site.run("1.1-a", sys.executable, launcher="mpirun", tasks_per_node=2, env={"PATH": "/nowhere"})
    assert end["reason"] == "COMMAND" and "no mpirun" in end["message"]


def test_mpirun_gets_the_ranks(site: SiteFolder, tmp_path: Path) -> None:
    """With a stand-in for the program: the real one is a matter of the system tests."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "mpirun").write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "mpirun (Open MPI) 4.1.4"; else echo "asked: $*"; fi\n'
    )
    (bin_folder / "mpirun").chmod(0o755)
    site.run(
        "1.1-a", "prog", "x", launcher="mpirun", tasks_per_node=2, cpus=2, env={"PATH": f"{bin_folder}:/usr/bin:/bin"}
    )
    assert site.log("1.1-a") == "asked: -np 2 --map-by ppr:2:node prog x\n"


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (
            b"srun: error: n2: task 1: Exited with exit code 9\nsrun: error: n1: task 0: Terminated\n",
            (9, "n2: task 1:"),
        ),
        (b"words\nsrun: error: n[1-2]: tasks 0,2-3: Segmentation fault\n", (None, "n[1-2]: tasks 0,2-3: Segmentation")),
        (b"the program says srun: error: too\n", None),
        (b"srun: error: Unable to create step for job 1: Busy\n", None),
    ],
)
def test_the_first_rank_that_failed(tail: bytes, found: tuple[int | None, str] | None) -> None:
    told = launcher.first_failure(tail)
    assert (told is None) == (found is None)
    assert told is None or (told[0], told[1].startswith(found[1] if found else "")) == (found and found[0], True)


def test_only_what_srun_started_is_signalled_by_the_batch_system() -> None:
    env = {"SLURM_JOB_ID": "7"}
    assert launcher.signal_steps(["srun", "x"], env, 15) == ["scancel", "--signal=15", "7"]
    assert launcher.signal_steps(["python", "x"], env, 15) == []
