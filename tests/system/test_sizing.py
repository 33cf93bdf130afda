"""The policy `deadline-cost` on a real SLURM cluster: GPUs given, taken away and given again, so that deadlines hold.

The jobs are real processes that get on faster with two (made-up) GPUs than with one, and leave a checkpoint on SIGTERM.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from isthmus.cli import queueplan
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

# Seconds of a machine that starts a job within START_S; all of them are multiplied on one that takes longer.
START_S = 5.0
SLOWEST = 3.0
RESTART_S = 4.0
MARGIN_S = 40.0  # what is met on paper is met by so much, what is missed is missed by so much
LONG, URGENT, UNIMPORTANT = 0, 1, 2
# (deadline after its submission, cost of an hour's lateness, seconds with one GPU and with two)
JOBS = ((180, 3600.0, (160, 82)), (100, 3600.0, (300, 30)), (95, 0.36, (300, 150)))

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


def add_site(client: Client, folder: Path) -> SiteSpec:
    """A site under a name of its own, since a test that failed is run again."""
    name = f"gpus-{secrets.token_hex(3)}"
    spec = SiteSpec(
        name=name,
        kind="slurm",
        workdir=str(folder / name),
        policy="deadline-cost",
        restart=Seconds(RESTART_S),
        price=Price(gpu_hour=3.6),
        poll=Seconds(1),
    )
    client.sites.add(spec)
    return spec


def pace_of(client: Client, site: str) -> float:
    """How much longer than START_S this machine takes for a job that does nothing; 1 or more."""
    begin = time.monotonic()
    job = client.jobs.submit(JobRequest(command=("true",), sites=(site,))).id
    wait_for(lambda: client.jobs.get(job).state.ended, "the first job to end", deadline_s=120)
    return min(SLOWEST, max(1.0, (time.monotonic() - begin) / START_S))


def on_paper(method: str, arrival: float) -> dict[int, float]:
    """How many seconds before its deadline each job ends by this method, if the others come at ``arrival``."""
    jobs = tuple(
        SizedJob(number, release, release + deadline, late / 3600, {"a100": tuple(map(float, seconds))})
        for number, (deadline, late, seconds) in enumerate(JOBS)
        for release in (0.0 if number == LONG else arrival,)
    )
    problem = Problem(1, (Vm("two", "a100", 2, 7.2),), jobs)
    cost = judge(problem, simulate(problem, methods.make(method), restart_s=RESTART_S).schedule, RESTART_S)
    return {number: job.deadline_s - cost.ends_s[number] for number, job in enumerate(jobs)}


@pytest.mark.parametrize("arrival", [8.0, 20.0, 40.0])
def test_on_paper_the_deadlines_hold_by_far_that_earliest_deadline_first_misses_by_far(arrival: float) -> None:
    for peer in ("edf", "edf-whole-nodes"):
        assert on_paper(peer, arrival)[URGENT] < -MARGIN_S, peer
    ours = on_paper("deadline-cost", arrival)
    assert min(ours[LONG], ours[URGENT]) > MARGIN_S
    assert ours[UNIMPORTANT] < 0


@pytest.fixture
def numbers(client: Client) -> Iterator[dict[int, int]]:
    """The jobs by what they are. A test that failed is run again on this cluster: nothing of it may hold GPUs then."""
    found: dict[int, int] = {}
    yield found
    for job in found.values():
        if not client.jobs.get(job).state.ended:
            client.jobs.kill(job)
    wait_for(lambda: all(client.jobs.get(job).state.ended for job in found.values()), "all to end", deadline_s=120)


@pytest.mark.timeout(900)  # two minutes where nothing else runs, SLOWEST times as long at most
def test_deadlines_hold_that_earliest_deadline_first_would_miss(
    client: Client, folder: Path, numbers: dict[int, int]
) -> None:
    spec = add_site(client, folder)
    site = spec.name
    pace = pace_of(client, site)
    client.sites.update(dataclasses.replace(spec, restart=Seconds(round(RESTART_S * pace))))
    due: dict[int, datetime] = {}

    def submit(which: int) -> None:
        deadline, late, seconds = JOBS[which]
        due[which] = datetime.now(UTC) + timedelta(seconds=deadline * pace)
        takes = [round(one * pace) for one in seconds]
        request = JobRequest(
            script=TRAIN,
            env={"SECONDS": json.dumps(takes)},
            resources=Resources(gpus=2, gpu_type="a100"),
            sizing=Sizing(times={"a100": tuple(map(Seconds, takes))}, late_per_hour=late / pace),
            checkpoint=True,
            deadline=due[which],
            sites=(site,),
        )
        numbers[which] = client.jobs.submit(request).id

    def done(which: int) -> float:
        told = client.jobs.get(numbers[which]).progress
        return told.done if told is not None else 0.0

    submit(LONG)
    wait_for(lambda: done(LONG) >= 0.03, "the long job to get on", deadline_s=60 * pace)
    submit(URGENT)
    submit(UNIMPORTANT)
    (plan,) = client.sites.plan(site)
    planned = {one.job: one for one in plan.jobs}
    assert set(planned) == set(numbers.values())
    assert planned[numbers[URGENT]].late_s == 0.0 < planned[numbers[UNIMPORTANT]].late_s
    assert queueplan.draw([plan], as_page=False).startswith("<svg")
    link = httpx.URL(client.users.sign_in_link().url)
    with httpx.Client(timeout=60) as browser:
        browser.get(link)
        page = browser.get(link.join("/plan"), params={"site": site}).text
        assert "<svg" in page
        assert all(f'href="/jobs/{job}"' in page for job in planned)
    told = {}
    for which in (URGENT, LONG):
        job = numbers[which]
        view = wait_for(
            lambda job=job: (view := client.jobs.get(job)).state.ended and view,
            f"job {job} to end",
            deadline_s=200 * pace,
        )
        told[which] = [(one.plan, one.reason) for one in client.jobs.attempts(job)]
        assert view.state is JobState.COMPLETED, (view.message, told)
        assert view.ended_at is not None
        late = (view.ended_at - due[which]).total_seconds()
        assert late <= 0, f"job {which} is {late:.1f} s late at pace {pace:.1f}: {told}"

    # The long one gave way to the urgent one, and went on from where it was with more GPUs.
    attempts = client.jobs.attempts(numbers[LONG])
    assert attempts[0].reason is Reason.PREEMPTED
    assert {one.plan["gpus"] for one in attempts} == {1, 2}, told
    assert all(one.plan["gpus"] == 2 for one in client.jobs.attempts(numbers[URGENT])), told
    log = client.jobs.log(numbers[LONG]).data.decode()
    assert "goes on at 0." in log
    assert "goes on at 0.000" not in log
