"""deadline-cost in the supervisor, over a site in memory: starts, stops, and a crash between the two."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isthmus.control import places
from isthmus.control.queueplan import QueuePlans
from isthmus.db import sites as site_rows
from isthmus.domain.errors import Invalid, NotFound
from isthmus.domain.jobs import JobRequest, Resources, Retry, Sizing
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import GpuKind, Inventory, NodeType, Queue, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.units import Seconds
from isthmus.testing.site import FakeSite
from tests.unit.control.conftest import Plane

NODE = NodeType(name="g", count=1, cpus=8, gpus=(GpuKind(type="a100", count=2),))
GPUS = Inventory(host="h", workdir="/w", python="3.11", queues=(Queue(name="main", default=True, nodes=(NODE,)),))


async def gpu_site(plane: Plane) -> FakeSite:
    fake = await plane.add("gpus", inventory=GPUS, obedient=False)

    def write(conn: Any) -> None:
        spec = SiteSpec(name="gpus", kind="local", policy="deadline-cost", restart=Seconds(2))
        row = next(row for row in site_rows.every(conn) if row.name == "gpus")
        site_rows.change(conn, row.id, spec=places.write_site(spec), inventory=places.write_inventory(GPUS))

    await plane.db.write(write)
    return fake


def job(within_s: float, *times: int, **more: Any) -> JobRequest:
    return JobRequest(
        command=("train",),
        resources=Resources(gpus=2),
        sizing=Sizing(times={"a100": tuple(Seconds(each) for each in times)}, late_per_hour=1000.0),
        deadline=datetime.now(UTC) + timedelta(seconds=within_s),
        checkpoint=True,
        retry=Retry(attempts=1),
        **more,
    )


async def gpus_of(plane: Plane, job_id: int) -> list[int]:
    return [one.plan["gpus"] for one in await plane.jobs.attempts(plane.caller, job_id)]


async def test_an_urgent_job_takes_the_place_of_one_that_can_wait_across_a_crash(plane: Plane) -> None:
    site = await gpu_site(plane)
    plane.lead()
    long = await plane.submit(job(40_000, 6000, 4000))
    key = await plane.placed(long.id, site)
    assert await gpus_of(plane, long.id) == [1]
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, long.id)
    site.report(key, "progress", done=1, total=4)

    urgent = await plane.submit(job(3500, 5000, 3000))
    await site.called("kill")
    await plane.stop()  # before the stopped attempt has ended: the mark alone says that it was no kill
    site.finish(key, exit_code=1, reason=Reason.KILLED)
    plane.lead()
    second = await plane.placed(urgent.id, site)
    assert await gpus_of(plane, urgent.id) == [2]
    # The urgent job may be handed to the site's queue before it is known that the other has ended.
    await plane.until(lambda view: view.state is JobState.QUEUED, long.id)
    first = (await plane.jobs.attempts(plane.caller, long.id))[0]
    assert first.reason is Reason.PREEMPTED

    site.start(second)
    site.finish(second)
    await plane.done(urgent.id)
    last = await plane.placed(long.id, site, attempts=2)
    site.start(last)
    site.finish(last)
    (done,) = await plane.done(long.id)
    assert done.state is JobState.COMPLETED  # though retry.attempts is 1


async def test_a_kill_by_a_person_goes_before(plane: Plane) -> None:
    site = await gpu_site(plane)
    plane.lead()
    long = await plane.submit(job(40_000, 6000, 4000))
    key = await plane.placed(long.id, site)
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, long.id)
    await plane.submit(job(3500, 5000, 3000))
    await site.called("kill")
    await plane.jobs.kill(plane.caller, [long.id])
    site.finish(key, exit_code=1, reason=Reason.KILLED)
    (done,) = await plane.done(long.id)
    assert done.state is JobState.KILLED


async def test_a_deadline_that_is_over_is_refused_at_its_place(plane: Plane) -> None:
    await gpu_site(plane)
    with pytest.raises(Invalid, match="is over before the job can begin") as error:
        await plane.submit(job(-60, 50))
    assert error.value.place == "deadline"


async def test_sizing_without_a_run_time_is_refused(plane: Plane) -> None:
    await gpu_site(plane)
    request = dataclasses.replace(job(100, 50), sizing=Sizing())
    with pytest.raises(Invalid, match="How long the job takes is not said"):
        await plane.submit(request)


async def test_jobs_of_the_same_kind_are_known_by_those_that_ended(plane: Plane) -> None:
    """The first says four hours, and takes next to none: the second needs one GPU for its deadline, not two."""
    site = await gpu_site(plane)
    plane.lead()

    def unknown(within_s: float) -> JobRequest:
        request = dataclasses.replace(job(within_s), name="fit-1", sizing=Sizing(late_per_hour=1000.0))
        return dataclasses.replace(request, resources=Resources(gpus=2, time=Seconds(4 * 3600)))

    first = await plane.submit(unknown(5 * 3600))
    key = await plane.placed(first.id, site)
    assert await gpus_of(plane, first.id) == [2]  # with one, it would take more than seven hours
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, first.id)
    site.finish(key)
    await plane.done(first.id)
    second = await plane.submit(unknown(5 * 3600))
    await plane.placed(second.id, site)
    assert await gpus_of(plane, second.id) == [1]


async def test_each_kind_of_node_gets_the_jobs_that_it_suits(plane: Plane) -> None:
    slow = NodeType(name="old", count=1, cpus=8, gpus=(GpuKind(type="k80", count=2),))
    two = dataclasses.replace(GPUS, queues=(Queue(name="main", default=True, nodes=(NODE, slow)),))
    site = await gpu_site(plane)

    def write(conn: Any) -> None:
        row = next(row for row in site_rows.every(conn) if row.name == "gpus")
        site_rows.change(conn, row.id, inventory=places.write_inventory(two))

    await plane.db.write(write)
    plane.lead()

    def either(within_s: float) -> JobRequest:
        times = {"a100": (Seconds(4000), Seconds(2500)), "k80": (Seconds(4500), Seconds(2550))}
        return dataclasses.replace(job(within_s), sizing=Sizing(times=times, late_per_hour=1000.0))

    urgent = [await plane.submit(either(3000)) for _ in range(2)]
    nodes = []
    for one in urgent:
        await plane.placed(one.id, site)
        (attempt,) = await plane.jobs.attempts(plane.caller, one.id)
        nodes.append(attempt.plan["node"])
    assert sorted(nodes) == ["g", "old"]  # two don't fit on the fast one in time


async def test_the_plan_of_the_queue_says_who_runs_when_and_what_it_costs(plane: Plane) -> None:
    site = await gpu_site(plane)
    plans = QueuePlans(plane.db, plane.needs, plane.clock)
    assert await plans.plans(plane.caller) == []
    plane.lead()
    first = await plane.submit(job(40_000, 6000, 4000))
    key = await plane.placed(first.id, site)
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, first.id)
    site.report(key, "progress", done=1, total=4)
    urgent = await plane.submit(job(3500, 5000, 3000))
    (plan,) = await plans.plans(plane.caller)
    assert (plan.site, plan.node, plan.gpu_type, plan.gpus, plan.nodes) == ("gpus", "g", "a100", 2, 1)
    assert {one.job for one in plan.jobs} == {first.id, urgent.id}
    assert all(one.late_s == 0.0 for one in plan.jobs)
    runs = [run for run in plan.runs if run.job == urgent.id]
    assert {run.gpus for run in runs} == {2}
    assert 2900 < (runs[-1].end_at - plan.at).total_seconds() < 3500
    with pytest.raises(NotFound, match="gpu"):
        await plans.plans(plane.caller, "gpsu")
