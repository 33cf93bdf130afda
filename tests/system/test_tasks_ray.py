"""Ray whose nodes are jobs of a SLURM cluster, a machine over SSH, or this one: they join, are grown and shrunk."""

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.domain.sites import SiteSpec
from isthmus.tasks import WorkerLost, start, stop, task, wait_on
from isthmus.tasks.current import running
from tests.testbed import ray
from tests.testbed.control import ControlPlane

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not ray.ENGINE, reason="make test-ray installs Ray and runs this"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module", params=["slurm", "ssh", "local"])
def plane(request, tmp_path_factory):
    from tests.testbed.sites import ssh_site
    from tests.testbed.slurm import SlurmCluster
    from tests.testbed.ssh import SshServer
    from tests.testbed.users import User

    folder = tmp_path_factory.mktemp("plane")
    os.chmod(folder, 0o755)
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(SlurmCluster(nodes=2)).env() if request.param == "slurm" else {}
        plane = stack.enter_context(ControlPlane(folder / "plane", env=env))
        spec = SiteSpec(name="cluster", kind=request.param, workdir=str(folder / "work"))
        if request.param == "ssh":
            # As root: the interpreter that has Ray may lie where no other user looks, and both ends share /tmp/ray.
            root = User("root", 0, 0, folder)
            spec = ssh_site("cluster", stack.enter_context(SshServer([root])))
        with plane.client() as client:
            client.sites.add(spec)
        yield plane


@pytest.fixture
def on_the_cluster(plane, monkeypatch):
    monkeypatch.setenv("ISTHMUS_URL", plane.url)
    monkeypatch.setenv("ISTHMUS_TOKEN", plane.token)

    def begin(command="", **given):
        command = command or str(Path(sys.executable).with_name("ray"))
        start(engine="ray", site="cluster", workers=1, ray=command, **given)

    yield begin
    stop(kill=True)


@task(returns=1)
def where(number):
    time.sleep(0.1)
    return number, os.environ.get("ISTHMUS_JOB_ID", "")


def jobs_that_ran(calls):
    found = wait_on([where(number) for number in range(calls)])
    assert [number for number, _ in found] == list(range(calls))
    return {job for _, job in found}


def until(condition):
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_nodes_are_jobs_that_come_and_go_while_the_program_runs(on_the_cluster, plane):
    on_the_cluster(nodes=1)
    first = jobs_that_ran(10)
    assert len(first) == 1 and "" not in first
    running().resize(1)
    until(lambda: len(jobs_that_ran(20)) == 2)
    engine = running().engine
    (going,) = engine._pilots.jobs[1:]
    running().resize(-1)
    with plane.client() as client:
        assert client.jobs.wait(going, timeout_s=120).state == "KILLED"
    assert jobs_that_ran(10) == first
    last = engine._pilots.jobs
    stop()
    with plane.client() as client:
        assert client.jobs.wait(last[0], timeout_s=120).state == "KILLED"


def test_a_site_without_ray_is_said_and_nothing_hangs(on_the_cluster):
    on_the_cluster(command="/nowhere/ray", nodes=1)
    with pytest.raises(WorkerLost, match="No node of cluster is left"):
        wait_on(where(1))
    with pytest.raises(WorkerLost, match="isthmus job logs"):
        wait_on(where(2))


def test_a_cluster_that_is_not_ours_is_not_resized():
    ray.cluster()
    start(engine="ray")
    try:
        with pytest.raises(Invalid, match="not grown and shrunk"):
            running().resize(1)
    finally:
        stop(kill=True)
