"""Runs that jobs of a server drive, for `isthmus workflow … --server`: read from what they tell, as the panel does."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.domain.views import JobView
    from isthmus.workflows.told import StepTold

HEAD = ("STEP", "STATE", "TASKS", "REUSED", "FAILED", "RAN", "WAITED", "CPU", "PEAK", "MOVED", "COST", "WHERE")


@command
async def table(form: Format) -> None:
    """The runs, the newest first."""
    from isthmus.domain.views import JobView
    from isthmus.workflows.submission import LABEL

    async with client() as isthmus:
        found = (await isthmus.jobs.list(name="workflow ", label={LABEL: ""}, limit=100)).jobs
    rows = [[str(job.id), job.labels[LABEL], job.state.value, job.user, output.when(job.submitted_at)] for job in found]
    empty = "The server has driven no run yet: isthmus workflow submit FILE.cwl"
    head = ("JOB", "WORKFLOW", "STATE", "BY", "SUBMITTED")
    output.show(list(found), list[JobView], form, lambda: output.table(head, rows, empty=empty))


@command
async def show(run: str, form: Format, *, figures: bool) -> None:
    """A run by its job's number: its state and that of each step; with ``figures`` what they took."""
    from isthmus.domain.units import show_bytes, show_seconds

    async with client() as isthmus:
        job = await _job(isthmus, run)
        steps = await told(isthmus, job.id)

    def text() -> None:
        print(f"{job.id}: {job.state.value}  {job.name.removeprefix('workflow ')}  {job.message}".rstrip())
        rows = [
            [
                one.step,
                one.state,
                f"{one.ended}" + (f" + {one.running}" if one.running else ""),
                str(one.reused or ""),
                str(one.failed or ""),
                show_seconds(one.wall_s),
                show_seconds(one.wait_s),
                show_seconds(one.cpu_s),
                show_bytes(one.peak_mem) if one.peak_mem else "",
                show_bytes(one.moved) if one.moved else "",
                f"{one.cost:.3g}" if one.cost else "",
                ", ".join(f"{place} {count}" for place, count in one.places.items()),
            ]
            for one in steps
        ]
        keep = range(len(HEAD)) if figures else (0, 1, 2, 3, 4, 11)
        output.table(
            [HEAD[at] for at in keep], [[row[at] for at in keep] for row in rows], empty="It has told of no step yet."
        )

    plain = {
        "job": job.id,
        "name": job.name.removeprefix("workflow "),
        "state": job.state.value,
        "message": job.message,
        "steps": [{**asdict(one), "state": one.state} for one in steps],
    }
    output.show(plain, dict[str, Any], form, text)


@command
async def resume(run: str) -> None:
    """Go on with a run."""
    async with client() as isthmus:
        job = await _job(isthmus, run)
        await isthmus.jobs.retry(job.id)
    output.note(f"Job {job.id} goes on; what is done stays done.")


@command
async def crate(run: str, to: Path) -> None:
    """Bring a run's crate here."""
    from isthmus.workflows.submission import CRATE

    async with client() as isthmus:
        job = await _job(isthmus, run)
        await isthmus.jobs.download(job.id, CRATE, to)
    print(to)


async def told(isthmus: "AsyncClient", job: int) -> "list[StepTold]":
    """What a job's run told of its steps last."""
    from isthmus.workflows import told as telling

    series = await isthmus.jobs.metrics(job, points=4)
    found = telling.steps({one.name: one.points[-1].value for one in series if one.points})
    return telling.leaves(found)


async def _job(isthmus: "AsyncClient", run: str) -> "JobView":
    from isthmus.domain.errors import Invalid, NotFound
    from isthmus.workflows.submission import LABEL

    if not run.isdecimal():
        raise Invalid(f"{run!r} is not the number of a job.", place="RUN", hint="isthmus workflow list --server")
    job = await isthmus.jobs.get(int(run))
    if LABEL not in job.labels:
        raise NotFound(f"Job {run} drives no workflow.", hint="isthmus workflow list --server")
    return job
