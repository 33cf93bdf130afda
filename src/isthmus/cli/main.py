"""`isthmus`: the command line. It talks to the API only, by the SDK.

Exit codes: 0 done; 1 the server or a site refused, or a job failed; 2 the words make no sense; 3 no such thing;
4 not allowed; 5 no server answers; 70 a fault of this program; 130 interrupted. `isthmus run` and `isthmus job wait`
give the job's own code: see `isthmus.cli.run`.

A command starts fast: the module of the noun alone is imported that the first word names, and the SDK when it runs.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from isthmus import __version__
from isthmus.cli.verbs import Group
from isthmus.domain import errors

HELP = "Run training jobs, workflows and functions on the computing you have: one job, any site."


@dataclass(frozen=True)
class _Command:
    """Where a command, or the group of commands of a noun, stands."""

    panel: str
    module: str
    name: str
    is_group: bool = False
    settings: dict[str, Any] | None = None


_PLANE, _WORK, _PLACES = "Control plane", "Work", "Places and people"
COMMANDS = {
    "up": _Command(_PLANE, "server", "up"),
    "login": _Command(_PLANE, "server", "login"),
    "panel": _Command(_PLANE, "server", "panel"),
    "doctor": _Command(_PLANE, "server", "doctor"),
    "overview": _Command(_PLANE, "overview", "overview"),
    # What follows the command's first word is the command's own.
    "run": _Command(_WORK, "run", "run", settings={"allow_interspersed_args": False}),
    "job": _Command(_WORK, "jobs", "app", is_group=True),
    "workflow": _Command(_WORK, "workflows", "app", is_group=True),
    "agent": _Command(_WORK, "agent", "app", is_group=True),
    "cp": _Command(_WORK, "copy", "cp"),
    "dataset": _Command(_WORK, "artefacts", "datasets", is_group=True),
    "image": _Command(_WORK, "artefacts", "images", is_group=True),
    "site": _Command(_PLACES, "sites", "app", is_group=True),
    "placement": _Command(_PLACES, "placement", "app", is_group=True),
    "secret": _Command(_PLACES, "users", "secrets", is_group=True),
    "token": _Command(_PLACES, "users", "tokens", is_group=True),
    "user": _Command(_PLACES, "users", "users", is_group=True),
    "event": _Command(_PLACES, "events", "app", is_group=True),
}


def application(words: Sequence[str] = ()) -> typer.Typer:
    """The whole command line, or as much of it as these words need."""
    app = typer.Typer(
        name="isthmus",
        cls=Group,
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    wanted = {words[0]: COMMANDS[words[0]]} if words and words[0] in COMMANDS else COMMANDS
    for name, command in wanted.items():
        found = getattr(importlib.import_module(f"isthmus.cli.{command.module}"), command.name)
        if command.is_group:
            app.add_typer(found, name=name, cls=Group, rich_help_panel=command.panel)
        else:
            app.command(name, rich_help_panel=command.panel, context_settings=command.settings)(found)
    return app


def _version(asked: bool) -> None:
    if asked:
        print(f"isthmus {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run training jobs, workflows and functions on the computing you have: one job, any site."""


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
    if error.hint:
        print(f"         {error.hint}", file=sys.stderr)
    if isinstance(error, errors.Invalid):
        for fault in error.faults[1:]:
            print(f"         {fault}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit."""
    debug = os.environ.get("ISTHMUS_DEBUG", "") not in ("", "0")
    # Else pydantic looks for plug-ins in every installed package, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        application(words)(args=words, prog_name="isthmus")
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
