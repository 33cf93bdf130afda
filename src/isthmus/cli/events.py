"""`isthmus event`: what happened, by whom and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli import output
from isthmus.cli.calling import PATIENT_S, client, command
from isthmus.cli.output import Format, Output

if TYPE_CHECKING:
    from isthmus.domain.users import Event

app = typer.Typer(help="What happened, by whom and why.", no_args_is_help=True)


@app.command("ls")
@command
async def ls(
    noun: Annotated[str, typer.Option("--noun", help="job, site, dataset, image, token, user or secret.")] = "",
    job: Annotated[int, typer.Option("--job", help="About this job.")] = 0,
    actor: Annotated[str, typer.Option("--by", help="A user's name, or supervisor.")] = "",
    limit: Annotated[int, typer.Option("-n", help="How many at most.", min=1, max=1000)] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what happens from now on.")] = False,
    form: Output = Format.TABLE,
) -> None:
    """Show the last events, the newest at the end."""
    from isthmus import codec
    from isthmus.domain.users import Event

    async with client(patience_s=PATIENT_S if follow else 1.0) as isthmus:
        page = await isthmus.events.list(noun=noun, job=job, actor=actor, newest=True, limit=limit)
        if not follow:
            rows = [_row(event) for event in page.events]
            output.show(list(page.events), list[Event], form, lambda: output.table(HEAD, rows))
            return
        last = page.events[-1].id if page.events else 0
        for event in page.events:
            _print(codec.write_json(event).decode() if form is Format.JSON else " ".join(filter(None, _row(event))))
        async for event in isthmus.events.follow(after=last, noun=noun, job=job, actor=actor):
            _print(codec.write_json(event).decode() if form is Format.JSON else " ".join(filter(None, _row(event))))


HEAD = ("AT", "BY", "WHAT", "VERB", "CHANGE", "WHY")


def _print(line: str) -> None:
    print(line, flush=True)


def _row(event: "Event") -> list[str]:
    change = " → ".join(filter(None, (event.before, event.after)))
    why = ": ".join(filter(None, (event.reason, event.message)))
    return [output.when(event.at), event.actor, f"{event.noun} {event.noun_id}", event.verb, change, why]
