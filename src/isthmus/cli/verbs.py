"""The verbs of the command line: where each stands, and what to say to one that is not there."""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isthmus import __version__

SHOWN = 6
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


class Group(TyperGroup):
    """Commands that, asked for one that they lack, say where it is: `isthmus ps` is `isthmus job ps`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(missing(word, self.commands))
        return super().resolve_command(ctx, args)


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


def missing(word: str, here: Iterable[str]) -> str:
    """What to say to a word that is no command among those that are here."""
    from isthmus.domain.errors import nearest

    known = [f"isthmus {' '.join(path)}" for path, _ in every()]
    elsewhere = [path for path in known if path.rpartition(" ")[2] == word]
    if elsewhere:
        more = ", …" if len(elsewhere) > SHOWN else ""
        hint = f"There is: {', '.join(elsewhere[:SHOWN])}{more}."
    else:
        hint = nearest(word, here) or nearest(word, {path.rpartition(" ")[2] for path in known})
    return f"There is no command {word!r} here. {hint}".rstrip()


def every() -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of each command, such as ``("job", "ps")``, and the command. Imports them all."""
    yield from _within((), typer.main.get_command(application()))


def _within(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
        return
    for name, each in commands.items():
        yield from _within((*path, name), each)
