"""Every verb of the command line by its words, and what to say to one that is not there."""

from collections.abc import Iterable, Iterator
from typing import Any

from typer.core import TyperGroup

SHOWN = 6


class Group(TyperGroup):
    """Commands that, asked for one that they lack, say where it is: `isthmus ps` is `isthmus job ps`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(missing(word, self.commands))
        return super().resolve_command(ctx, args)


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
    import typer

    from isthmus.cli.main import application

    yield from _within((), typer.main.get_command(application()))


def _within(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
        return
    for name, each in commands.items():
        yield from _within((*path, name), each)
