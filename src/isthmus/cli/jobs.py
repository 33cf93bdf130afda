"""`isthmus job`: watch, end and explain jobs."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import endings, output
from isthmus.cli.calling import PATIENT_S, client, command
from isthmus.cli.explaining import explained
from isthmus.cli.jobrequest import pair
from isthmus.cli.output import Format, Output
from isthmus.cli.run import run

if TYPE_CHECKING:
    from isthmus.domain.views import AttemptView, JobView, Series

app = typer.Typer(help="Watch, end and explain jobs.", no_args_is_help=True)

FEW_SITES = 3  # whose filters and scores are shown unasked

Job = Annotated[int, typer.Argument(help="The job's id.", min=1)]
SomeJobs = Annotated[list[int], typer.Argument(help="The jobs' ids.", min=1)]

app.command("run", context_settings={"allow_interspersed_args": False}, no_args_is_help=True)(run)


@app.command("ps")
@command
async def ps(
    every: Annotated[bool, typer.Option("-a", "--all", help="The ended ones too.")] = False,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="QUEUED, RUNNING, …, or waiting, running, ended.")
    ] = None,
    user: Annotated[str, typer.Option("--user", help="Whose.")] = "",
    site: Annotated[str, typer.Option("--site", help="At this site.")] = "",
    name: Annotated[str, typer.Option("--name", help="A part of the name.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE, or NAME= for any value.")] = None,
    array: Annotated[int, typer.Option("--array", help="Of the array with this first job.")] = 0,
    since: Annotated[str, typer.Option("--since", help="Submitted in the last 2h, 3d, …")] = "",
    queue: Annotated[
        bool, typer.Option("--queue", help="What is queued, in the order in which it will be placed.")
    ] = False,
    limit: Annotated[int, typer.Option("-n", help="How many at most.", min=1)] = 50,
    form: Output = Format.TABLE,
) -> None:
    """List jobs, the newest first; without -a or --state those that have not ended."""
    from datetime import UTC, datetime, timedelta

    from isthmus.domain.units import Seconds
    from isthmus.domain.views import JobView

    states = tuple(state or ()) or (() if every or array else ("live",))
    labels = dict(pair(each, "--label") for each in label or ())
    begin = datetime.now(UTC) - timedelta(seconds=Seconds.parse(since)) if since else None
    found: list[JobView] = []
    async with client() as isthmus:
        async for job in isthmus.jobs.all(
            state=states,
            user=user,
            site=site,
            name=name,
            label=labels,
            array=array,
            since=begin,
            queue=queue,
            limit=min(limit, 500),
        ):
            found.append(job)
            if len(found) == limit:
                break
    rows = [_row(job) for job in found]
    head = ("ID", "NAME", "USER", "STATE", "SITE", "TIME", "SUBMITTED", "WHY")
    output.show(found, list[JobView], form, lambda: output.table(head, rows, empty="No such jobs. (-a shows all)"))


@app.command("show")
@command
async def show(job: Job, form: Output = Format.TABLE) -> None:
    """Show one job: what it asked for, its attempts, what happened to it."""
    import asyncio

    from isthmus.domain.views import JobView

    async with client() as isthmus:
        found = await isthmus.jobs.get(job)
        if form is not Format.TABLE:
            output.show(found, JobView, form, lambda: None)
            return
        attempts, history, outputs = await asyncio.gather(
            isthmus.jobs.attempts(job), isthmus.jobs.history(job), isthmus.jobs.outputs(job)
        )
    _one(found)
    if attempts:
        print()
        head = ("ATTEMPT", "SITE", "STATE", "NODES", "ITS ID", "TIME", "EXIT", "PEAK MEMORY", "WHY")
        output.table(head, [_attempt(each) for each in attempts])
    if outputs:
        from isthmus.domain.units import show_bytes

        print()
        rows = [
            [each.path, each.kind, show_bytes(each.size), "here" if each.collected else each.site] for each in outputs
        ]
        output.table(("OUTPUT", "KIND", "SIZE", "LIES"), rows)
    if history:
        print()
        rows = [
            [output.when(each.at), each.actor, each.verb, " → ".join(filter(None, (each.before, each.after))),
             ": ".join(filter(None, (each.reason, each.message)))]
            for each in history
            if each.noun == "job"
        ]  # fmt: skip
        output.table(("AT", "BY", "VERB", "CHANGE", "WHY"), rows)


@app.command("logs")
@command
async def logs(
    job: Job,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what is written, until the job ends.")
    ] = False,
    attempt: Annotated[int, typer.Option("--attempt", help="Another try than the last.", min=0)] = 0,
    tail: Annotated[int, typer.Option("--tail", help="Only the last so many bytes.", min=0)] = 0,
    batch: Annotated[bool, typer.Option("--batch", help="What the batch system wrote, not the command.")] = False,
) -> None:
    """Print what a job wrote."""
    name = "batch.log" if batch else "log"
    async with client(patience_s=PATIENT_S if follow else 1.0) as isthmus:
        part = await isthmus.jobs.log(job, attempt=attempt, offset=-tail if tail else 0, name=name)
        output.write(part.data)
        offset = part.offset + len(part.data)
        if follow:
            async for data in isthmus.jobs.follow(job, attempt=attempt or part.attempt, offset=offset, name=name):
                output.write(data)
            return
        while part.data and offset < part.size:
            part = await isthmus.jobs.log(job, attempt=part.attempt, offset=offset, name=name)
            output.write(part.data)
            offset += len(part.data)


@app.command("kill")
@command
async def kill(jobs: SomeJobs, form: Output = Format.TABLE) -> None:
    """End jobs: SIGTERM, and SIGKILL after their grace."""
    async with client() as isthmus:
        found = await isthmus.jobs.kill(*jobs)
    _told(found, form, _ending)


@app.command("retry")
@command
async def retry(jobs: SomeJobs, form: Output = Format.TABLE) -> None:
    """Queue failed or killed jobs again."""
    async with client() as isthmus:
        found = await isthmus.jobs.retry(*jobs)
    _told(found, form, lambda job: job.state.value)


@app.command("wait")
@command
async def wait(
    jobs: SomeJobs,
    limit: Annotated[str, typer.Option("--timeout", help="Give up after 10m, 2h, … (exit code 124).")] = "",
    form: Output = Format.TABLE,
) -> None:
    """Wait for the end of jobs; exit with the code of the first that failed."""
    from isthmus.domain.units import Seconds

    limit_s = float(Seconds.parse(limit)) if limit else None
    async with client(patience_s=PATIENT_S) as isthmus:
        found = await isthmus.jobs.wait_many(jobs, timeout_s=limit_s)
        codes = [await endings.code_of(isthmus, job) for job in found if job.state.ended]
    _told(found, form, lambda job: endings.ended(job) if job.state.ended else job.state.value)
    if len(codes) < len(found):
        raise typer.Exit(endings.TIMED_OUT)
    raise typer.Exit(next((code for code in codes if code), 0))


@app.command("priority")
@command
async def priority(
    jobs: SomeJobs,
    priority: Annotated[int, typer.Option("--set", help="Higher goes first.", min=-1_000_000, max=1_000_000)],
    form: Output = Format.TABLE,
) -> None:
    """Give jobs another priority."""
    async with client() as isthmus:
        found = await isthmus.jobs.set_priority(jobs, priority)
    _told(found, form, lambda job: f"priority {job.priority}")


@app.command("explain")
@command
async def explain(
    job: Job,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Each filter and score of this site; may be given again.")
    ] = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="Each filter and score of every site.")] = False,
    form: Output = Format.TABLE,
) -> None:
    """Tell why a job is where it is, and for each site why it does or doesn't fit, by filter and score."""
    from isthmus.domain.errors import NotFound, nearest
    from isthmus.domain.views import Explanation

    async with client() as isthmus:
        found = await isthmus.jobs.explain(job)
    known = [one.site for one in found.sites]
    for name in site or ():
        if name not in known:
            raise NotFound(f"There is no site {name!r}.", place="--site", hint=nearest(name, known))
    shown = site or (known if every or len(known) <= FEW_SITES else [])
    output.show(found, Explanation, form, lambda: explained(found, shown))


@app.command("metrics")
@command
async def metrics(
    job: Job,
    name: Annotated[list[str] | None, typer.Argument(help="Which; none: all of them.")] = None,
    points: Annotated[int, typer.Option("--points", help="Of each at most; more are thinned.", min=1)] = 1000,
    form: Output = Format.TABLE,
) -> None:
    """Show what a job reported over time."""
    from isthmus.domain.views import Series

    async with client() as isthmus:
        found = await isthmus.jobs.metrics(job, names=name or (), points=points)
    output.show(found, list[Series], form, lambda: _series(found))


@app.command("outputs")
@command
async def outputs(job: Job, form: Output = Format.TABLE) -> None:
    """List the files and folders that a job left; `isthmus cp JOB:PATH .` brings them here."""
    from isthmus.domain.units import show_bytes
    from isthmus.domain.views import OutputView

    async with client() as isthmus:
        found = await isthmus.jobs.outputs(job)
    rows = [
        [each.path, each.kind, show_bytes(each.size), "here" if each.collected else each.site, each.digest]
        for each in found
    ]
    head = ("PATH", "KIND", "SIZE", "LIES", "DIGEST")
    output.show(found, list[OutputView], form, lambda: output.table(head, rows, empty="It left no outputs."))


def _row(job: "JobView") -> list[str]:
    return [
        str(job.id),
        job.name,
        job.user,
        job.state.value,
        job.site,
        _time(job),
        output.when(job.submitted_at),
        _why(job),
    ]


def _time(job: "JobView") -> str:
    """How long it ran, or has been running."""
    from datetime import UTC, datetime

    from isthmus.domain.units import show_seconds

    if job.started_at is None:
        return ""
    end = job.ended_at or datetime.now(UTC)
    return show_seconds(max(0.0, (end - job.started_at).total_seconds()))


def _why(job: "JobView") -> str:
    if job.progress is not None and not job.state.ended:
        total = f"/{job.progress.total:g}" if job.progress.total is not None else ""
        return " ".join(filter(None, (f"{job.progress.done:g}{total}", job.progress.message)))
    text = ": ".join(filter(None, (job.reason.value, job.message)))
    return text.splitlines()[0] if text else ""


def _told(jobs: "list[JobView]", form: Format, line: "Callable[[JobView], str]") -> None:
    """Say of each job what became of it, or print them all as data."""
    from isthmus.domain.views import JobView

    def lines() -> None:
        for job in jobs:
            output.note(f"job {job.id}: {line(job)}")

    output.show(jobs, list[JobView], form, lines)


def _ending(job: "JobView") -> str:
    return endings.ended(job) if job.state.ended else f"{job.state.value}, told to end"


def _one(job: "JobView") -> None:
    from isthmus import codec

    spec = codec.changed(job.spec) if job.spec else {}
    wanted = [(name, _words(value)) for name, value in spec.items() if name not in ("name", "priority", "deadline")]
    output.facts(
        [
            ("job", f"{job.id}  {job.name}".strip()),
            ("state", f"{job.state.value}: {job.state.meaning}"),
            ("why", endings.why(job)),
            ("user", job.user),
            ("array", f"{job.array}, index {job.index}" if job.array else ""),
            ("site", " ".join(filter(None, (job.site, job.node)))),
            ("exit code", "" if job.exit_code is None else str(job.exit_code)),
            ("submitted", output.when(job.submitted_at)),
            ("started", output.when(job.started_at)),
            ("ended", output.when(job.ended_at)),
            ("run time", _time(job)),
            ("priority", str(job.priority or "")),
            ("deadline", output.when(job.deadline)),
            ("progress", _why(job) if job.progress and not job.state.ended else ""),
            *wanted,
        ]
    )


def _words(value: object) -> str:
    import shlex

    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return shlex.join(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def _attempt(each: "AttemptView") -> list[str]:
    from datetime import UTC, datetime

    from isthmus.domain.units import show_bytes, show_seconds

    span = ""
    if each.started_at is not None:
        span = show_seconds(max(0.0, ((each.ended_at or datetime.now(UTC)) - each.started_at).total_seconds()))
    code = f"signal {each.signal}" if each.signal else ("" if each.exit_code is None else str(each.exit_code))
    peak = show_bytes(each.usage.peak_mem_bytes) if each.usage.peak_mem_bytes else ""
    why = ": ".join(filter(None, (each.reason.value, each.message)))
    return [str(each.number), each.site, each.state.value, each.nodes, each.native_id, span, code, peak, why]


def _series(found: "list[Series]") -> None:
    rows = []
    for series in found:
        values = [point.value for point in series.points if point.value is not None]
        last = series.points[-1] if series.points else None
        rows.append(
            [
                series.name,
                str(series.count),
                f"{last.value:g}" if last and last.value is not None else "",
                f"{last.step:g}" if last and last.step is not None else "",
                f"{min(values):g}" if values else "",
                f"{max(values):g}" if values else "",
                output.sparkline(values) if sys.stdout.isatty() else "",
            ]
        )
    output.table(("METRIC", "POINTS", "LAST", "STEP", "LOWEST", "HIGHEST", ""), rows, empty="It reported nothing.")
