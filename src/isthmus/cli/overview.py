"""`isthmus overview`: what needs somebody, what runs, what ended today, and what the week took."""

from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.calling import client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.domain.views import JobView, Overview


@command
async def overview(
    mine: Annotated[bool, typer.Option("--mine", help="Only your jobs.")] = False,
    user: Annotated[str, typer.Option("--user", help="Only this user's jobs.")] = "",
    form: Output = Format.TABLE,
) -> None:
    """Show what needs somebody (failed, silent, waiting long, sites down), what runs, and what the week took."""
    from isthmus.domain.views import Overview

    async with client() as isthmus:
        whose = (await isthmus.users.me()).user if mine else user
        found = await isthmus.overview(whose)
    output.show(found, Overview, form, lambda: _one(found))


def _one(found: "Overview") -> None:
    from isthmus.domain.sites import Health

    counts = {state.value: count for state, count in found.counts.items()}
    ended = {state.value: count for state, count in found.ended.items()}
    output.facts(
        [
            ("waiting", str(sum(counts.get(state, 0) for state in ("QUEUED", "STAGING", "PENDING")))),
            ("running", str(sum(counts.get(state, 0) for state in ("RUNNING", "COLLECTING")))),
            ("last 24 hours", ", ".join(f"{count} {state}" for state, count in ended.items()) or "nothing ended"),
            ("week", _week(found)),
        ]
    )
    needs = [
        *(("failed", job) for job in found.failed),
        *(("silent for 10 minutes", job) for job in found.silent),
        *(("waits for an hour", job) for job in found.waiting),
    ]
    down = [site for site in found.sites if site.health is Health.UNREACHABLE]
    rows = [["site down", "", site.name, "", site.health_message] for site in down]
    rows += [[what, str(job.id), job.name, job.user, _why(job)] for what, job in needs]
    print()
    if rows:
        output.table(("NEEDS YOU", "JOB", "NAME", "USER", "WHY"), rows)
    else:
        print("Nothing needs you.")
    if found.running:
        print()
        shown = [[str(job.id), job.name, job.user, job.site, output.when(job.started_at)] for job in found.running]
        output.table(("RUNNING", "NAME", "USER", "SITE", "SINCE"), shown)


def _week(found: "Overview") -> str:
    cpu_h, gpu_h = (sum(getattr(one, name) for one in found.week) for name in ("cpu_h", "gpu_h"))
    cost = sum(one.cost for one in found.week)
    return f"{cpu_h:,.1f} core hours, {gpu_h:,.1f} GPU hours, cost {cost:,.2f}"


def _why(job: "JobView") -> str:
    return job.message or job.reason.sentence
