"""What must hold, whatever fails: the control plane killed, sites cut off, schedulers that lie, disks that are full."""

from __future__ import annotations

import collections
import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.domain.jobs import JobRequest
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Hop, Limits, Reach, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.units import Seconds
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer

KILLS = 200
JOBS = 500


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch.folder("faults") as path:
        yield path


def reach(server: SshServer) -> Reach:
    """The way to a test server, its host key pinned."""
    hop = Hop(host=server.host, port=server.port, user=server.user.name, host_key=server.host_key)
    return Reach(hops=(hop,), key_file=str(server.key))


def test_the_control_plane_is_killed_two_hundred_times(folder: Path, slurm: SlurmCluster) -> None:
    """500 jobs on this machine and on SLURM; each writes a line with its attempt. The file is the judge."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    judge = folder / "judge"
    judge.touch()
    script = f'echo "$ISTHMUS_JOB_ID $ISTHMUS_ATTEMPT" >> {shlex.quote(str(judge))}'
    with ControlPlane(folder / "plane", env=slurm.env()) as plane:
        with plane.client() as client:
            cluster = SiteSpec(
                name="cluster", kind="slurm", workdir=str(folder / "slurm"), poll=Seconds(1), limits=Limits(jobs=60)
            )
            client.sites.add(cluster)
            jobs = client.jobs.submit_many(
                [
                    JobRequest(
                        name=f"job {number}",
                        command=("sh", "-c", f"{script}; sleep 0.0{number % 10}"),
                        sites=("local",) if number % 2 else ("cluster",),
                    )
                    for number in range(JOBS)
                ]
            )
        ids = [job.id for job in jobs]
        assert len(ids) == JOBS
        kills = 0
        while kills < KILLS:
            # Half of the kills come while it runs, a quarter while it starts, the rest in its first moments.
            kind = dice.random()
            if kind < 0.25:
                plane.kill()
                plane.begin()
                _sleep(dice.uniform(0, 0.2))
                plane.kill_unready()
                kills += 2
                plane.start()
            else:
                _sleep(dice.uniform(0, 0.5 if kind < 0.75 else 0.02))
                plane.kill()
                kills += 1
                plane.start()
        with plane.client() as client:
            done = client.jobs.wait_many(ids, timeout_s=300)
        lines = collections.Counter(line.split()[0] for line in judge.read_text().splitlines())
        print(f"{kills} kills, {plane.starts} starts")
        states = collections.Counter((job.state, job.reason) for job in done)
        assert states == {(JobState.COMPLETED, Reason.NONE): JOBS}
        assert set(lines) == {str(job_id) for job_id in ids}, "a job is lost"
        assert set(lines.values()) == {1}, "a job ran twice"
        assert {job.attempts for job in done} == {1}


def _sleep(seconds: float) -> None:
    """Let the control plane get somewhere: what is killed where is the dice's to say, there is nothing to wait for."""
    import threading

    threading.Event().wait(seconds)
