"""The supervisor over sites in memory: journeys, failures, and what must hold when it is stopped at any moment."""

import asyncio
import dataclasses

import pytest

from isthmus.control import lifecycle
from isthmus.control.jobs import JobFilter
from isthmus.control.worker import Worker
from isthmus.db import attempts as attempt_rows
from isthmus.db import leases
from isthmus.domain.errors import Conflict, Invalid, NotFound, Refused, Unauthenticated
from isthmus.domain.jobs import After, Array, JobRequest, Output, Resources, Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from tests.unit.control.conftest import TRUE, Plane


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is doubted for seconds in the field is doubted for moments here."""
    monkeypatch.setattr(lifecycle, "ENDED_PATIENCE_S", 0.05)
    monkeypatch.setattr(lifecycle, "GONE_PATIENCE_S", 0.05)
    monkeypatch.setattr("isthmus.control.worker.DOUBT_S", 0.05)
    monkeypatch.setattr("isthmus.control.worker.RETRY_S", (0.01, 0.05))


async def test_a_job_travels_and_every_step_is_in_its_history(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    await plane.until(lambda view: view.state is JobState.PENDING, job.id)
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, job.id)
    site.report(key, "metrics", values={"loss": 0.5}, step=1)
    site.finish(key)
    (done,) = await plane.done(job.id)
    assert (done.state, done.exit_code, done.site, done.node) == (JobState.COMPLETED, 0, "here", "fake-1")
    states = [event.after for event in await plane.jobs.history(plane.caller, job.id) if event.noun == "job"]
    assert states == ["QUEUED", "STAGING", "PENDING", "RUNNING", "COMPLETED"]
    (series,) = await plane.measurements.series(plane.caller, job.id)
    assert [point.value for point in series.points] == [0.5]


async def test_two_hundred_jobs_end_once_each(plane: Plane) -> None:
    site = await plane.add(instant=True)
    plane.lead()
    views = await plane.jobs.submit(plane.caller, [TRUE] * 200)
    done = await plane.done(*(view.id for view in views), timeout_s=60)
    assert {view.state for view in done} == {JobState.COMPLETED}
    assert len(site.submissions) == 200
    assert set(site.submissions.values()) == {1}


async def test_a_refused_submission_ends_with_the_schedulers_words_and_is_tried_again(plane: Plane) -> None:
    site = await plane.add()
    site.refuse("sbatch: error: Invalid qos specification")
    plane.lead()
    job = await plane.submit(dataclasses.replace(TRUE, retry=Retry(attempts=1)))
    (done,) = await plane.done(job.id)
    assert (done.state, done.reason) == (JobState.FAILED, Reason.SUBMIT)
    assert "Invalid qos specification" in done.message


async def test_a_lost_reply_submits_the_same_attempt_again(plane: Plane) -> None:
    site = await plane.add()
    site.lose_reply("submit", 2)
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    await site.called("submit", 3)
    site.finish(key)
    (done,) = await plane.done(job.id)
    assert done.attempts == 1
    assert site.submissions == {key: 1}


async def test_a_site_that_is_cut_off_keeps_its_jobs(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    site.start(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, job.id)
    site.cut("No route to host")
    polls = site.calls["poll"]
    await site.called("poll", polls + 3)
    assert (await plane.jobs.get(plane.caller, job.id)).state is JobState.RUNNING
    site.report(key, "metrics", values={"loss": 1.0})
    site.finish(key)
    site.mend()
    (done,) = await plane.done(job.id)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 1)


async def test_a_failing_query_is_not_an_end(plane: Plane) -> None:
    site = await plane.add(kind="slurm")
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    site.query_error = "squeue: error: Unable to contact slurm controller"
    site.start(key)
    polls = site.calls["poll"]
    await site.called("poll", polls + 2)
    site.query_error = ""
    site.finish(key)
    (done,) = await plane.done(job.id)
    assert done.state is JobState.COMPLETED


async def test_what_vanished_is_lost_fenced_and_tried_again(plane: Plane) -> None:
    site = await plane.add(kind="slurm")
    plane.lead()
    job = await plane.submit(dataclasses.replace(TRUE, retry=Retry(attempts=2)))
    first = await plane.placed(job.id, site)
    site.vanish(first)
    view = await plane.until(lambda view: view.reason is Reason.BACKOFF, job.id)
    assert view.state is JobState.QUEUED
    assert site.calls["kill"] >= 1
    attempts = await plane.jobs.attempts(plane.caller, job.id)
    assert attempts[0].reason is Reason.LOST
    with pytest.raises(Unauthenticated):
        await plane.reporting.report(first, plane.tokens.token(first), 0, b"")


async def test_out_of_memory_is_tried_again_with_more(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    request = JobRequest(
        command=("train",), resources=Resources(mem=1 << 30), retry=Retry(on=(Reason.OOM,), mem_factor=2.0)
    )
    job = await plane.submit(request)
    first = await plane.placed(job.id, site)
    assert site.attempts[first].submission.job["mem_bytes"] == 1 << 30
    site.finish(first, signal=9, reason=Reason.OOM)
    second = await plane.placed(job.id, site, attempts=2)
    assert second != first
    assert site.attempts[second].submission.job["mem_bytes"] == 2 << 30
    site.finish(second)
    (done,) = await plane.done(job.id)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 2)


async def test_a_users_failure_is_not_tried_again(plane: Plane) -> None:
    site = await plane.add(instant=True, outcome=lambda _: 3)
    plane.lead()
    job = await plane.submit()
    (done,) = await plane.done(job.id)
    assert (done.state, done.reason, done.exit_code, done.attempts) == (JobState.FAILED, Reason.EXIT_CODE, 3, 1)
    assert len(site.attempts) == 1


async def test_kill_while_queued(plane: Plane) -> None:
    job = await plane.submit(dataclasses.replace(TRUE, wait_for_site=True))
    (killed,) = await plane.jobs.kill(plane.caller, [job.id])
    assert (killed.state, killed.message) == (JobState.KILLED, "by ada")
    (again,) = await plane.jobs.kill(plane.caller, [job.id])
    assert again.state is JobState.KILLED


async def test_kill_while_it_waits_at_the_site_and_while_it_runs(plane: Plane) -> None:
    site = await plane.add(kind="slurm")
    plane.lead()
    waiting, running = await plane.submit(), await plane.submit()
    await plane.placed(waiting.id, site)
    site.start(await plane.placed(running.id, site))
    await plane.until(lambda view: view.state is JobState.RUNNING, running.id)
    await plane.jobs.kill(plane.caller, [waiting.id, running.id])
    done = await plane.done(waiting.id, running.id)
    assert [view.state for view in done] == [JobState.KILLED, JobState.KILLED]


async def test_kill_before_the_reply_of_submit(plane: Plane) -> None:
    site = await plane.add()
    release = site.hold("submit")
    plane.lead()
    job = await plane.submit()
    await plane.until(lambda view: view.state is JobState.STAGING, job.id)
    await site.called("submit")
    await plane.jobs.kill(plane.caller, [job.id])
    release()
    (done,) = await plane.done(job.id)
    assert done.state is JobState.KILLED


async def test_dependencies_start_fail_and_cascade(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    first = await plane.submit()
    after = await plane.submit(dataclasses.replace(TRUE, after=(After(job=first.id),)))
    on_failure = await plane.submit(dataclasses.replace(TRUE, after=(After(job=first.id, on="failed"),)))
    last = await plane.submit(dataclasses.replace(TRUE, after=(After(job=on_failure.id),)))
    assert after.reason is Reason.DEPENDENCY
    site.finish(await plane.placed(first.id, site))
    failed = await plane.done(on_failure.id, last.id)
    assert {(view.state, view.reason) for view in failed} == {(JobState.FAILED, Reason.DEPENDENCY_FAILED)}
    site.finish(await plane.placed(after.id, site))
    (done,) = await plane.done(after.id)
    assert done.state is JobState.COMPLETED
    late = await plane.submit(dataclasses.replace(TRUE, after=(After(job=first.id),)))
    site.finish(await plane.placed(late.id, site))
    await plane.done(late.id)


async def test_an_array_is_as_many_jobs_with_their_parameters(plane: Plane) -> None:
    site = await plane.add(instant=True)
    plane.lead()
    request = JobRequest(
        name="sweep", command=("train", "--lr={lr}"), array=Array(parameters=({"lr": 0.1}, {"lr": 0.2}))
    )
    views = await plane.jobs.submit(plane.caller, [request])
    assert [(view.name, view.array, view.index) for view in views] == [
        ("sweep[0]", views[0].id, 0),
        ("sweep[1]", views[0].id, 1),
    ]
    await plane.done(*(view.id for view in views))
    commands = sorted(attempt.submission.job["command"][1] for attempt in site.attempts.values())
    assert commands == ["--lr=0.1", "--lr=0.2"]


async def test_priority_decides_among_those_that_wait(plane: Plane) -> None:
    patient = dataclasses.replace(TRUE, wait_for_site=True)
    low, high = await plane.submit(patient), await plane.submit(patient)
    await plane.jobs.set_priority(plane.caller, [high.id], 10)
    site = await plane.add()
    plane.lead()
    await plane.placed(low.id, site)
    await plane.placed(high.id, site)
    assert next(iter(site.attempts)).startswith(f"{high.id}.")


async def test_reports_pushed_and_polled_count_once(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    site.start(key)
    token = plane.tokens.token(key)
    await plane.until(lambda view: view.state is JobState.RUNNING, job.id)
    for step in range(20):
        site.report(key, "metrics", values={"loss": float(step)}, step=step)
        text = bytes(site.attempts[key].reports)
        wanted = await plane.reporting.report(key, token, 0, text)
        assert wanted == len(text)
    with pytest.raises(Unauthenticated):
        await plane.reporting.report(key, "wrong", 0, b"")
    site.finish(key)
    await plane.done(job.id)
    (series,) = await plane.measurements.series(plane.caller, job.id)
    assert [point.value for point in series.points] == [float(step) for step in range(20)]


async def test_an_end_that_was_pushed_is_followed_by_the_supervisor(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    site.hold("poll")  # the site's own way is slow
    site.start(key)
    site.finish(key)
    await plane.reporting.report(key, plane.tokens.token(key), 0, bytes(site.attempts[key].reports))
    (done,) = await plane.done(job.id)
    assert done.state is JobState.COMPLETED


async def test_an_end_that_was_pushed_is_tried_again_though_the_site_is_slow(plane: Plane) -> None:
    site = await plane.add()
    plane.lead()
    job = await plane.submit(dataclasses.replace(TRUE, retry=Retry(attempts=2, on=(Reason.EXIT_CODE,))))
    first = await plane.placed(job.id, site)
    release = site.hold("poll")
    site.start(first)
    site.finish(first, exit_code=1)
    await plane.reporting.report(first, plane.tokens.token(first), 0, bytes(site.attempts[first].reports))
    second = await plane.placed(job.id, site, attempts=2)
    site.start(second)
    site.finish(second)
    release()  # what it says of the first attempt comes now
    (done,) = await plane.done(job.id)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 2)


async def test_a_site_is_not_asked_over_and_over_while_outputs_are_all_that_is_waited_for(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await plane.add()
    collecting, there = asyncio.Event(), asyncio.Event()

    async def collect(*_: object) -> str:
        collecting.set()
        await there.wait()
        return ""

    monkeypatch.setattr(plane.dispatcher, "collect", collect)
    plane.lead()
    job = await plane.submit(dataclasses.replace(TRUE, outputs=(Output(path="out.bin"),)))
    key = await plane.placed(job.id, site)
    site.finish(key, outputs=[{"path": "out.bin", "size": 1, "digest": f"sha256:{0:064}"}])
    await asyncio.wait_for(collecting.wait(), 20)
    asked = 0

    async def poll(_: Worker) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(Worker, "_poll", poll)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert asked <= 1
    there.set()
    assert (await plane.done(job.id))[0].state is JobState.COMPLETED


async def test_a_site_that_was_away_is_asked_again_though_nothing_of_ours_is_there(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.control.supervisor.VISIT_S", 0.02)
    site = await plane.add()
    plane.lead()
    job = await plane.submit()
    key = await plane.placed(job.id, site)
    site.start(key)
    site.cut()
    site.finish(key)
    polls = site.calls["poll"]
    await site.called("poll", polls + 1)
    await plane.reporting.report(key, plane.tokens.token(key), 0, bytes(site.attempts[key].reports))
    await plane.done(job.id)
    later = await plane.submit()
    await plane.until(lambda view: view.reason is Reason.SITE_UNREACHABLE, later.id)
    site.mend()
    site.finish(await plane.placed(later.id, site))
    (done,) = await plane.done(later.id)
    assert done.state is JobState.COMPLETED


async def test_stopped_anywhere_it_goes_on_where_it_was(plane: Plane) -> None:
    site = await plane.add(kind="slurm")
    plane.lead("one")
    views = await plane.jobs.submit(plane.caller, [TRUE] * 30)
    for round_number in range(15):
        await asyncio.sleep(0.002 * round_number)
        await plane.stop()
        plane.lead(f"round-{round_number}")
        for key in list(site.attempts)[: 2 * round_number]:
            if not site.attempts[key].over:
                site.finish(key)
    for view in views:
        key = await plane.placed(view.id, site)
        if not site.attempts[key].over:
            site.finish(key)
    done = await plane.done(*(view.id for view in views))
    assert {(view.state, view.attempts) for view in done} == {(JobState.COMPLETED, 1)}
    assert set(site.submissions.values()) == {1}


async def test_of_two_supervisors_one_leads_and_the_other_takes_over(plane: Plane) -> None:
    site = await plane.add(instant=True)
    first = plane.lead("one")
    await first.leading.wait()
    second = plane.lead("two")
    views = await plane.jobs.submit(plane.caller, [TRUE] * 20)
    await plane.done(*(view.id for view in views))
    assert not second.leading.is_set()
    plane.tasks[0].cancel()
    await second.leading.wait()
    job = await plane.submit()
    await plane.done(job.id)
    assert set(site.submissions.values()) == {1}


async def test_a_leader_that_lost_its_lease_writes_nothing(plane: Plane) -> None:
    await plane.add(instant=True)
    leader = plane.lead("one")
    await leader.leading.wait()

    def steal(conn: object) -> None:
        held = leases.holder(conn, "supervisor", now=leases.clock(conn))
        leases.release(conn, held)
        leases.acquire(conn, "supervisor", "thief", now=leases.clock(conn), ttl_s=1000)

    await plane.db.write(steal)
    job = await plane.submit()
    async with asyncio.timeout(10):
        while leader.leading.is_set():
            await asyncio.sleep(0.01)
    assert (await plane.jobs.get(plane.caller, job.id)).state is JobState.QUEUED
    assert await plane.db.read(attempt_rows.live) == []


async def test_a_request_key_makes_the_same_request_the_same_jobs(plane: Plane) -> None:
    await plane.add(instant=True)
    once = await plane.jobs.submit(plane.caller, [TRUE, TRUE], request_key="k1")
    twice = await plane.jobs.submit(plane.caller, [TRUE, TRUE], request_key="k1")
    assert [view.id for view in once] == [view.id for view in twice]
    with pytest.raises(Conflict):
        await plane.jobs.submit(plane.caller, [TRUE], request_key="k1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resources": Resources(cpus=64)}, "resources.cpus: No site can run it. here: it needs 64 cores"),
        ({"sites": ("hree",)}, "sites[0]: There is no site 'hree'. Did you mean 'here'?"),
        ({"image": "trainr"}, "image: There is no image 'trainr'."),
        ({"secrets": {"KEY": "hf"}}, "secrets.KEY: You have no secret 'hf'."),
        ({"constraints": ("gpu <",)}, "constraints[0]: 'gpu <' is not a constraint: it has no value"),
        ({"command": ()}, "command: A job has either a command or a script."),
        ({"env": {"A B": "1"}}, "env.A B: 'A B' is not a name of an environment variable."),
    ],
)
async def test_bad_input_is_refused_whole(plane: Plane, change: dict[str, object], words: str) -> None:
    await plane.add()
    with pytest.raises((Invalid, NotFound)) as caught:
        await plane.jobs.submit(plane.caller, [TRUE, dataclasses.replace(TRUE, **change)])
    assert f"jobs[1].{words}" in str(caught.value)
    page = await plane.jobs.list(plane.caller, JobFilter())
    assert page.jobs == ()


async def test_a_refusal_of_one_spoils_no_other(plane: Plane) -> None:
    site = await plane.add()
    views = await plane.jobs.submit(plane.caller, [dataclasses.replace(TRUE, retry=Retry(attempts=1))] * 3)
    site.refuse("no", error=Refused("no"))
    plane.lead()
    await plane.until(lambda view: view.state is JobState.FAILED, views[0].id)
    for view in views[1:]:
        site.finish(await plane.placed(view.id, site))
    done = await plane.done(*(view.id for view in views))
    assert [view.state for view in done] == [JobState.FAILED, JobState.COMPLETED, JobState.COMPLETED]
