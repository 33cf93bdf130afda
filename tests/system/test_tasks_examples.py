"""The two examples of tasks, as a person runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.domain.sites import SiteSpec
from tests.testbed import images
from tests.testbed.control import ControlPlane
from tests.testbed.slurm import SlurmCluster

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def run(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forest_is_better_than_its_trees():
    said = run("examples.forest.app", "--trees", "12")
    alone = float(re.search(r"one tree alone: ([\d.]+)", said)[1])
    forest = float(re.search(r"the forest: +([\d.]+)", said)[1])
    assert alone < forest > 0.9


def right(lines: list[str]) -> None:
    assert [line.split()[1] for line in lines[1:5]] == ["copper", "aluminium", "iron", "titanium"]
    assert len(lines) == 9
    for line in lines[5:]:
        found, known = map(float, re.search(r": ([\d.]+) .*, ([\d.]+) in", line).groups())
        assert abs(found / known - 1) < 0.05


def test_one_program_over_ranks_a_program_and_a_service() -> None:
    right(run("examples.hybrid.app").splitlines())


def test_one_program_over_a_cluster_and_a_container(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hybrid")
    folder.chmod(0o755)
    image = images.rootfs(folder / "image")
    with SlurmCluster(nodes=2) as cluster, ControlPlane(folder / "plane", env=cluster.env()) as plane:
        with plane.client() as client:
            client.sites.add(SiteSpec(name="cluster", kind="slurm", workdir=str(folder / "work")))
        there = {"ISTHMUS_URL": plane.url, "ISTHMUS_TOKEN": plane.token, "USER": "root"}
        right(
            run(
                "examples.hybrid.app", "--site", "cluster", "--image", str(image), "--engine", "charliecloud", **there
            ).splitlines()
        )
        with plane.client() as client:
            jobs = client.jobs.list().jobs
            assert {job.state.value for job in jobs} == {"COMPLETED"}
            assert len(jobs) == 4
            assert all(client.jobs.get(job.id).site == "cluster" for job in jobs)
