"""`isthmus run`: a command on whatever computing fits, as people know it from srun.

The command's output comes to stdout, what becomes of the job to stderr. The exit code is the job's own, or one of
`isthmus.cli.endings`.

An interrupt (Ctrl-C) leaves the job as it is and says so; a second one ends the job; a third leaves it to itself.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import endings, jobrequest, output
from isthmus.cli.calling import PATIENT_S, client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.domain.jobs import JobRequest
    from isthmus.domain.views import JobView


@command
async def run(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND...", help="What to run.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", help="The job as a YAML file; options go over it.")
    ] = None,
    name: Annotated[str, typer.Option("-J", "--name", help="What to call it.", rich_help_panel="Job")] = "",
    script: Annotated[Path | None, typer.Option("--script", help="A script to run instead of a command.")] = None,
    image: Annotated[str, typer.Option("--image", help="NAME or NAME@VERSION, or what the site pulls.")] = "",
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", help="NAME=VALUE, or NAME to hand on your own.")
    ] = None,
    secret: Annotated[list[str] | None, typer.Option("--secret", help="VARIABLE=SECRET.")] = None,
    cpus: Annotated[int | None, typer.Option("-c", "--cpus", help="Per node.")] = None,
    mem: Annotated[str, typer.Option("--mem", help="Memory per node, such as 4GiB.")] = "",
    gpus: Annotated[str, typer.Option("-G", "--gpus", help="Per node: 2, or a100:2.")] = "",
    gpu_mem: Annotated[str, typer.Option("--gpu-mem", help="Memory that each GPU must have.")] = "",
    time: Annotated[str, typer.Option("-t", "--time", help="Limit on the run time: 30m, 2h, 1-00:00:00.")] = "",
    nodes: Annotated[int | None, typer.Option("-N", "--nodes", help="How many nodes.")] = None,
    tasks: Annotated[int | None, typer.Option("--tasks-per-node", help="Ranks on each node.")] = None,
    launcher: Annotated[str, typer.Option("--launcher", help="auto, none, runner, srun or mpirun.")] = "",
    input: Annotated[
        list[str] | None,
        typer.Option("-i", "--input", help="PATH=DATASET, with @VERSION or without, or PATH=JOB:OUTPUT."),
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("-O", "--output", help="A path that it must leave; PATH=DATASET registers it.")
    ] = None,
    checkpoint: Annotated[bool, typer.Option("--checkpoint", help="Keep $ISTHMUS_CHECKPOINT across attempts.")] = False,
    on: Annotated[list[str] | None, typer.Option("--on", help="Run on this site (several: one of them).")] = None,
    constraint: Annotated[list[str] | None, typer.Option("--constraint", help="Such as 'zone is EU'.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Higher goes first.")] = None,
    deadline: Annotated[str, typer.Option("--deadline", help="A time, or from now on: 6h.")] = "",
    after: Annotated[list[str] | None, typer.Option("--after", help="JOB, or JOB:ended, JOB:failed.")] = None,
    array: Annotated[str, typer.Option("--array", help="How many, or a YAML file with a list of parameters.")] = "",
    retry: Annotated[str, typer.Option("--retry", help="Attempts in all, and on what: 5, or 5:OOM,TIMEOUT.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE.")] = None,
    wait_for_site: Annotated[
        bool, typer.Option("--wait-for-site", help="Accept it though no site of today could run it.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end without showing its output.")] = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Print its id and return.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Submit nothing: say what each site would say.")] = False,
    form: Output = Format.TABLE,
) -> None:
    """Run a command on whatever computing fits, show what it writes, and exit with its code."""
    asked = jobrequest.given(
        words, name, script, image, env, secret, cpus, mem, gpus, gpu_mem, time, nodes, tasks, launcher, input,
        outputs, checkpoint, on, constraint, priority, deadline, after, array, retry, label, wait_for_site,
    )  # fmt: skip
    request = jobrequest.request(file, asked)
    async with client(patience_s=PATIENT_S if not (detach or dry) else 1.0) as isthmus:
        if dry:
            from isthmus.cli.explaining import explained
            from isthmus.domain.views import Explanation

            found = await isthmus.jobs.preview(request)
            output.show(found, Explanation, form, lambda: explained(found))
            return
        made = await _submit(isthmus, request)
        if detach:
            from isthmus.domain.views import JobView

            output.show(made, list[JobView], form, lambda: print(*(job.id for job in made), sep="\n"))
            return
        code = await _attend(isthmus, made, quiet=wait)
    raise typer.Exit(code)


async def _submit(isthmus: "AsyncClient", request: "JobRequest") -> "list[JobView]":
    """Submit it; a server that does not answer is told at once, not after the patience for what follows."""
    from isthmus.cli.calling import BRIEF_S

    patience, isthmus.connection.patience_s = isthmus.connection.patience_s, BRIEF_S
    try:
        return await isthmus.jobs.submit_many([request])
    finally:
        isthmus.connection.patience_s = patience


async def _attend(isthmus: "AsyncClient", made: "list[JobView]", *, quiet: bool) -> int:
    """Stay with the jobs until they end; the exit code. See the module for interrupts."""
    import asyncio
    import signal

    ids = [job.id for job in made]
    loop = asyncio.get_running_loop()
    staying = asyncio.ensure_future(_stay(isthmus, ids, quiet=quiet))
    interrupts = 0
    killing: list[asyncio.Task[Any]] = []

    def interrupted() -> None:
        nonlocal interrupts
        interrupts += 1
        what = f"job {ids[0]}" if len(ids) == 1 else f"the {len(ids)} jobs"
        if interrupts == 1:
            output.note(f"\nisthmus: {what} will go on. Interrupt again to end it.")
        elif interrupts == 2:
            output.note(f"\nisthmus: ending {what}; once more to leave at once.")
            killing.append(loop.create_task(isthmus.jobs.kill(*ids)))
        else:
            staying.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await staying
    except asyncio.CancelledError:
        output.note(f"isthmus: left. `isthmus job show {ids[0]}` tells what becomes of it.")
        return 130
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in killing:
            task.cancel()


async def _stay(isthmus: "AsyncClient", ids: list[int], *, quiet: bool) -> int:
    import asyncio

    if len(ids) > 1:
        return await _stay_with_many(isthmus, ids)
    telling: asyncio.Task[None] | None = None
    if sys.stderr.isatty():
        output.note(f"isthmus: job {ids[0]}")
        telling = asyncio.create_task(_tell_waiting(isthmus, ids[0]))
    try:
        if not quiet:
            async for data in isthmus.jobs.follow(ids[0]):
                output.write(data)
        job = await isthmus.jobs.wait(ids[0])
    finally:
        if telling is not None:
            telling.cancel()
    code = await endings.code_of(isthmus, job)
    if job.state.value != "COMPLETED":
        output.note(f"isthmus: job {job.id}: {endings.ended(job)}")
    return code


async def _tell_waiting(isthmus: "AsyncClient", job_id: int) -> None:
    """Say on a terminal why it waits, where that changes, until it runs."""
    import asyncio

    told = ""
    while True:
        await asyncio.sleep(2.0)
        job = await isthmus.jobs.get(job_id)
        if job.started_at is not None or job.state.ended:
            return
        where = f" at {job.site}" if job.site else ""
        now = f"{job.state.value}{where}: {job.reason.sentence or job.state.meaning} {job.message}".rstrip()
        if now != told:
            output.note(f"isthmus: job {job_id} {now}")
            told = now


async def _stay_with_many(isthmus: "AsyncClient", ids: list[int]) -> int:
    """Tell each job's end as it comes; the code of the first, by index, that failed."""
    output.note(f"isthmus: jobs {ids[0]} to {ids[-1]}")
    found: dict[int, JobView] = {}
    while len(found) < len(ids):
        left = [job for job in ids if job not in found]
        # The array's jobs end one by one: a short wait, then all of them are asked at once.
        for job in await isthmus.jobs.wait_many(left, timeout_s=2.0):
            if job.state.ended:
                found[job.id] = job
                output.note(f"isthmus: job {job.id} {job.name}: {endings.ended(job)} ({len(found)} of {len(ids)})")
    codes = [await endings.code_of(isthmus, found[job]) for job in ids]
    return next((code for code in codes if code), 0)
