"""The runner in jobs of a real SLURM: ranks on several nodes, the launchers, and who ended a job.

Batch scripts are written here by hand: how kinds of sites write theirs is another matter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import scratch
from tests.testbed.proxies import SiteFolder
from tests.testbed.slurm import SlurmCluster
from tests.testbed.waiting import wait_for

MEET = """\
import os, socket, sys
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    with socket.create_server(("", address[1])) as server:
        guests = [server.accept()[0] for _ in range(size - 1)]
        print("met", sorted(int(guest.recv(10)) for guest in guests), flush=True)
else:
    while True:
        try:
            with socket.create_connection(address, 30) as guest:
                guest.sendall(str(rank).encode())
            break
        except ConnectionRefusedError:
            pass
print("rank", rank, os.environ["LOCAL_RANK"], os.environ["NODE_RANK"], os.uname().nodename, os.environ["API_KEY"])
"""


@pytest.fixture
def site() -> Iterator[SiteFolder]:
    made = SiteFolder(scratch.folder("shared") / "w", "/usr/bin/python3")
    yield made
    made.close()


def submit(cluster: SlurmCluster, site: SiteFolder, key: str, *words: str, **job: Any) -> str:
    """Submit an attempt with these words for sbatch; the job's id."""
    folder = site.write_job(key, **job)
    (folder / "secrets.json").write_text(json.dumps({"API_KEY": "s3cret"}))
    (folder / "batch.sh").write_text(f"#!/bin/sh\nexec /usr/bin/python3 -I -S {site.archive} run {folder}\n")
    return cluster.command(
        "sbatch", "--parsable", "--export=NONE", f"--output={folder}/batch.log", *words, str(folder / "batch.sh")
    ).strip()


def end(cluster: SlurmCluster, site: SiteFolder, key: str) -> dict[str, Any]:
    report = wait_for(
        lambda: next((report for report in site.reports(key) if report["kind"] == "finished"), {}),
        f"the end of {key}",
        deadline_s=60,
        story=lambda: f"{site.story(key)} {(site.job(key) / 'batch.log').read_text()} {cluster.command('squeue')}",
    )
    return dict(report)


def ranks(site: SiteFolder, key: str) -> list[list[str]]:
    return sorted(line.split()[1:] for line in site.log(key).splitlines() if line.startswith("rank "))


def test_one_runner_a_task_on_every_node(slurm: SlurmCluster, site: SiteFolder) -> None:
    """`auto` on two nodes: ranks, addresses, a secret, and a place to meet."""
    script = f"#!/usr/bin/python3\n{MEET}"
    submit(slurm, site, "1.1-a", "-N2", "--cpus-per-task=2", script=script, nodes=2, tasks_per_node=2, cpus=2)
    assert end(slurm, site, "1.1-a")["reason"] == "", site.story("1.1-a")
    first, second = slurm.node_names
    assert ranks(site, "1.1-a") == [
        ["0", "0", "0", first, "s3cret"],
        ["1", "1", "0", first, "s3cret"],
        ["2", "0", "1", second, "s3cret"],
        ["3", "1", "1", second, "s3cret"],
    ]
    assert "met [1, 2, 3]" in site.log("1.1-a")
    assert site.reports("1.1-a")[0]["native_id"].isdigit()


def test_ranks_in_a_container(slurm: SlurmCluster, site: SiteFolder, rootfs: Path) -> None:
    container = {"engine": "charliecloud", "image": str(rootfs)}
    script = f"#!/usr/bin/python3\n{MEET}"
    submit(slurm, site, "1.1-a", "-N2", script=script, nodes=2, tasks_per_node=1, container=container)
    assert end(slurm, site, "1.1-a")["reason"] == "", site.story("1.1-a")
    assert [words[:3] for words in ranks(site, "1.1-a")] == [["0", "0", "0"], ["1", "0", "1"]]


@pytest.mark.parametrize("contained", [False, True])
def test_srun(slurm: SlurmCluster, site: SiteFolder, rootfs: Path, contained: bool) -> None:
    container = {"engine": "charliecloud", "image": str(rootfs)} if contained else None
    command = ["sh", "-c", "echo rank $SLURM_PROCID $API_KEY"]
    job = {"nodes": 2, "tasks_per_node": 2, "launcher": "srun", "container": container}
    submit(slurm, site, "1.1-a", "-N2", command=command, **job)
    assert end(slurm, site, "1.1-a")["reason"] == "", site.story("1.1-a")
    assert ranks(site, "1.1-a") == [[str(number), "s3cret"] for number in range(4)]


def test_mpirun(slurm: SlurmCluster, site: SiteFolder) -> None:
    assert shutil.which("mpirun"), "mpirun is not installed: run scripts/install-system-packages as root"
    command = ["sh", "-c", "echo rank $OMPI_COMM_WORLD_RANK $OMPI_COMM_WORLD_LOCAL_RANK"]
    submit(slurm, site, "1.1-a", "-N2", "-n4", command=command, nodes=2, tasks_per_node=2, launcher="mpirun")
    assert end(slurm, site, "1.1-a")["reason"] == "", site.story("1.1-a")
    assert ranks(site, "1.1-a") == [["0", "0"], ["1", "1"], ["2", "0"], ["3", "1"]]


def test_a_rank_that_fails_ends_all(slurm: SlurmCluster, site: SiteFolder) -> None:
    script = 'if [ "$RANK" = 1 ]; then exit 9; fi\nsleep 1000\n'
    submit(slurm, site, "1.1-a", "-N2", script=script, nodes=2)
    ended = end(slurm, site, "1.1-a")
    assert (ended["exit_code"], ended["reason"]) == (9, "EXIT_CODE")
    wait_for(lambda: not site.strays("1.1-a"), "the end of the other rank")


def test_a_kill_reaches_every_rank_with_its_grace(slurm: SlurmCluster, site: SiteFolder) -> None:
    script = "trap 'touch saved-$RANK; exit 0' TERM\necho rank $RANK ready\nwhile :; do sleep 0.05; done\n"
    submit(slurm, site, "1.1-a", "-N2", script=script, nodes=2, grace_s=30)
    wait_for(lambda: len(ranks(site, "1.1-a")) == 2, "both ranks")
    (site.job("1.1-a") / "kill").write_text("{}")
    assert end(slurm, site, "1.1-a")["reason"] == "KILLED"
    assert sorted(path.name for path in (site.job("1.1-a") / "work").iterdir()) == ["saved-0", "saved-1"]


def test_scancel_by_somebody_else(slurm: SlurmCluster, site: SiteFolder) -> None:
    job = submit(slurm, site, "1.1-a", command=["sh", "-c", "echo ready; exec sleep 1000"])
    site.wait_log("1.1-a", "ready")
    slurm.command("scancel", job)
    ended = end(slurm, site, "1.1-a")
    assert ended["reason"] == "KILLED" and "batch system" in ended["message"]


def test_the_time_limit_with_the_grace_before_it(slurm: SlurmCluster, site: SiteFolder) -> None:
    """SLURM's own limit is in minutes; its warning comes by the grace, and up to a minute, earlier."""
    script = "trap 'echo saved; exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done\n"
    submit(slurm, site, "1.1-a", "--time=1", "--signal=B:TERM@58", script=script, time_s=60, grace_s=20)
    site.wait_log("1.1-a", "ready")
    ended = wait_for(
        lambda: next((r for r in site.reports("1.1-a") if r["kind"] == "finished"), {}), "its end", deadline_s=90
    )
    assert ended["reason"] == "TIMEOUT" and "saved" in site.log("1.1-a")


def test_more_memory_than_the_job_asked_slurm_for(slurm: SlurmCluster, site: SiteFolder) -> None:
    if slurm.memory != "cgroup":
        return  # where slurmd looks, its own words tell: tests/system/test_batch_slurm.py
    code = "x = bytearray(400 << 20); print(len(x))"
    submit(slurm, site, "1.1-a", "--mem=100", command=[sys.executable, "-c", code])
    assert end(slurm, site, "1.1-a")["reason"] == "OOM", site.story("1.1-a")


@pytest.mark.parametrize("how", ["ranks", "torchrun"])
def test_torch_trains_on_two_nodes(slurm: SlurmCluster, site: SiteFolder, how: str) -> None:
    """With gloo: one runner a task with `init_process_group` alone, or torchrun as people write it."""
    done = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False)
    assert done.returncode == 0, "torch is not installed: run scripts/install-test-torch with this Python"
    script = (
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "x = torch.tensor([float(dist.get_rank() + 1)])\n"
        "dist.all_reduce(x)\n"
        "os.write(1, b'rank %d %d %d\\n' % (dist.get_rank(), dist.get_world_size(), int(x)))\n"
        "dist.destroy_process_group()\n"
    )
    folder = site.path / "train.py"
    folder.write_text(script)
    command = [sys.executable, str(folder)]
    if how == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", str(folder)]
    env = {"OMP_NUM_THREADS": "1", "HOME": os.environ.get("HOME", "/")}
    submit(slurm, site, "1.1-a", "-N2", "-c2", command=command, nodes=2, tasks_per_node=2, cpus=2, env=env)
    ended = wait_for(
        lambda: next((r for r in site.reports("1.1-a") if r["kind"] == "finished"), {}), "its end", deadline_s=200
    )
    assert ended["reason"] == "", site.story("1.1-a")
    assert ranks(site, "1.1-a") == [[str(rank), "4", "10"] for rank in range(4)]
