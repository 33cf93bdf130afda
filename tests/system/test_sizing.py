"""The policy `deadline-cost` on a real SLURM cluster: GPUs given, taken away and given again, so that deadlines hold.

The jobs are real processes that get on faster with two (made-up) GPUs than with one, and leave a checkpoint on SIGTERM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.client import Client
from isthmus.domain.jobs import JobRequest, Resources, Sizing
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Price, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.units import Seconds
from isthmus.placement.sizing import methods
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.schedule import judge
from isthmus.placement.sizing.simulate import simulate
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.slurm import SlurmCluster
from tests.testbed.waiting import wait_for

pytestmark = pytest.mark.system

RESTART_S = 4
# (release, deadline, cost of an hour's lateness, seconds with one GPU and with two)
LONG, URGENT, UNIMPORTANT = 0, 1, 2
JOBS = ((0, 72, 3600.0, (40, 26)), (8, 34, 3600.0, (30, 15)), (8, 32, 0.36, (30, 15)))

TRAIN = """#!/usr/bin/env python3
import json, os, pathlib, signal, sys, time
import isthmus

gpus = len(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
seconds = json.loads(os.environ["SECONDS"])[gpus - 1]
kept = pathlib.Path(os.environ["ISTHMUS_CHECKPOINT"], "done")
done = float(kept.read_text()) if kept.exists() else 0.0
print("goes on at %.3f with %d GPUs" % (done, gpus), flush=True)


def stop(number, frame):
    kept.write_text(repr(done))
    print("saved %.3f" % done, flush=True)
    sys.exit(1)


signal.signal(signal.SIGTERM, stop)
before = time.monotonic()
while done < 1.0:
    time.sleep(0.1)
    now = time.monotonic()
    done, before = done + (now - before) / seconds, now
    isthmus.report(progress=min(done, 1.0))
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    path = scratch.folder("sizing")
    path.chmod(0o777)
    return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with SlurmCluster(nodes=1, gpus=2, cpus=8) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(folder: Path, cluster: SlurmCluster) -> Iterator[Client]:
    with ControlPlane(folder / "plane", env=cluster.env(), local_site=False) as plane, plane.client() as client:
        yield client


@pytest.fixture(scope="module")
def site(client: Client, folder: Path) -> str:
    spec = SiteSpec(
        name="gpus",
        kind="slurm",
        workdir=str(folder / "work"),
        policy="deadline-cost",
        restart=Seconds(RESTART_S),
        price=Price(gpu_hour=3.6),
        poll=Seconds(1),
    )
    client.sites.add(spec)
    return spec.name


def on_paper(method: str) -> set[object]:
    """The jobs that would be late by this method."""
    jobs = tuple(
        SizedJob(number, float(release), float(deadline), late / 3600, {"a100": tuple(map(float, seconds))})
        for number, (release, deadline, late, seconds) in enumerate(JOBS)
    )
    problem = Problem(1, (Vm("two", "a100", 2, 7.2),), jobs)
    cost = judge(problem, simulate(problem, methods.make(method), restart_s=RESTART_S).schedule, RESTART_S)
    return {job.id for job in jobs if cost.ends_s[job.id] > job.deadline_s}


def test_deadlines_hold_that_earliest_deadline_first_would_miss(client: Client, site: str) -> None:
    assert URGENT in on_paper("edf") & on_paper("edf-whole-nodes")
    assert on_paper("deadline-cost") == {UNIMPORTANT}

    begin = datetime.now(UTC)
    numbers: dict[int, int] = {}
    for number in sorted(range(len(JOBS)), key=lambda one: JOBS[one][0]):
        release, deadline, late, seconds = JOBS[number]
        at = begin + timedelta(seconds=release)
        wait_for(lambda at=at: datetime.now(UTC) >= at, f"second {release}", deadline_s=60)
        request = JobRequest(
            script=TRAIN,
            env={"SECONDS": json.dumps(seconds)},
            resources=Resources(gpus=2, gpu_type="a100"),
            sizing=Sizing(times={"a100": tuple(map(Seconds, seconds))}, late_per_hour=late),
            checkpoint=True,
            deadline=begin + timedelta(seconds=deadline),
            sites=(site,),
        )
        numbers[number] = client.jobs.submit(request).id

    ended = {
        number: wait_for(
            lambda job=job: (view := client.jobs.get(job)).state.ended and view, f"job {job} to end", deadline_s=120
        )
        for number, job in numbers.items()
    }
    told = {number: client.jobs.attempts(job) for number, job in numbers.items()}
    for number, view in ended.items():
        assert view.state is JobState.COMPLETED, (view.message, told[number])
        assert view.ended_at is not None
        late = (view.ended_at - begin).total_seconds() - JOBS[number][1]
        assert late <= 0 or number == UNIMPORTANT, (
            f"job {number} is {late:.1f} s late: {[(one.plan, one.reason) for one in told[number]]}"
        )

    # The long one gave way to the urgent one, and went on from where it was with more GPUs.
    first = told[LONG][0]
    assert first.reason is Reason.PREEMPTED
    assert {one.plan["gpus"] for one in told[LONG]} == {1, 2}, told[LONG]
    assert first.number == 1
    log = client.jobs.log(numbers[LONG]).data.decode()
    assert "goes on at 0." in log
    assert "goes on at 0.000" not in log
