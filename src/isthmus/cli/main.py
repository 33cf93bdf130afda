"""`isthmus`: the command line. It talks to the API only, by the SDK.

Exit codes: 0 done; 1 the server or a site refused, or a job failed; 2 the words make no sense; 3 no such thing;
4 not allowed; 5 no server answers; 70 a fault of this program; 130 interrupted. `isthmus run` and `isthmus job wait`
give the job's own code: see `isthmus.cli.run`.

Modules of commands import only what their options need; the SDK is imported when a command runs.
"""

import os
import sys
from typing import Annotated

import typer

from isthmus import __version__
from isthmus.cli import artefacts, copy, events, jobs, run, server, sites, users
from isthmus.domain import errors

app = typer.Typer(
    name="isthmus",
    help="Run training jobs, workflows and functions on the computing you have: one job, any site.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"isthmus {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run training jobs, workflows and functions on the computing you have: one job, any site."""


app.command("up", rich_help_panel="Control plane")(server.up)
app.command("login", rich_help_panel="Control plane")(server.login)
app.command("doctor", rich_help_panel="Control plane")(server.doctor)
app.command(
    "run",
    rich_help_panel="Work",
    context_settings={"allow_interspersed_args": False},
    no_args_is_help=True,
)(run.run)
app.add_typer(jobs.app, name="job", rich_help_panel="Work")
app.command("cp", rich_help_panel="Work")(copy.cp)
app.add_typer(artefacts.datasets, name="dataset", rich_help_panel="Work")
app.add_typer(artefacts.images, name="image", rich_help_panel="Work")
app.add_typer(sites.app, name="site", rich_help_panel="Places and people")
app.add_typer(users.secrets, name="secret", rich_help_panel="Places and people")
app.add_typer(users.tokens, name="token", rich_help_panel="Places and people")
app.add_typer(users.users, name="user", rich_help_panel="Places and people")
app.add_typer(events.app, name="event", rich_help_panel="Places and people")


def exit_code(error: errors.IsthmusError) -> int:
    """The exit code for an error."""
    if isinstance(error, errors.Invalid):
        return 2
    if isinstance(error, errors.NotFound):
        return 3
    if isinstance(error, errors.Unauthenticated | errors.Forbidden):
        return 4
    return 5 if isinstance(error, errors.Unavailable) else 1


def tell(error: errors.IsthmusError) -> None:
    """One readable line, and one with what to do next."""
    where = f"{error.place}: " if error.place else ""
    print(f"isthmus: {where}{error.message}", file=sys.stderr)
    if isinstance(error, errors.Invalid):
        for fault in error.faults[1:]:
            print(f"         {fault}", file=sys.stderr)
    if error.hint:
        print(f"         {error.hint}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit."""
    debug = os.environ.get("ISTHMUS_DEBUG", "") not in ("", "0")
    try:
        app(args=arguments, prog_name="isthmus")
    except errors.IsthmusError as error:
        if debug:
            raise
        tell(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone, such as `head`. What Python would still flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        print(f"isthmus: a fault of this program: {type(error).__name__}: {error}", file=sys.stderr)
        print("         ISTHMUS_DEBUG=1 shows where it happened.", file=sys.stderr)
        sys.exit(70)
