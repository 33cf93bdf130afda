"""What commands print: tables for people, JSON and YAML for programs; transfers' progress on stderr.

Results go to stdout, everything else to stderr, so that a pipe gets results alone.
"""

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format, typer.Option("-o", "--format", help="How to print it.", show_default=True)]

_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "COLLECTING": "cyan",
    "FAILED": "red",
    "KILLED": "yellow",
    "UP": "green",
    "UNREACHABLE": "red",
    "DRAINING": "yellow",
    "yes": "green",
    "no": "red",
}


def show(value: Any, kind: Any, form: Format, as_text: Callable[[], None]) -> None:
    """Print a value of `kind`: as data, or by `as_text`."""
    if form is Format.TABLE:
        as_text()
        return
    from isthmus import codec

    data(codec.to_plain(value, kind), form)


def data(plain: Any, form: Format) -> None:
    """Print plain data as JSON or YAML."""
    if form is Format.JSON:
        json.dump(plain, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        from isthmus.documents import written

        sys.stdout.write(written(plain))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Print rows in columns: on a terminal in colours and cut to its width, else whole, for other programs."""
    if not rows:
        if empty:
            note(empty)
        return
    if not sys.stdout.isatty():
        widths = [max(len(head[n]), *(len(row[n]) for row in rows)) for n in range(len(head))]
        for row in (head, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        made.add_column(name, overflow="fold" if name in ("MESSAGE", "WHY", "HINT") else "ellipsis")
    for row in rows:
        made.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(made)


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        first, *more = value.splitlines() or [""]
        print(f"{name.ljust(width)}  {first}")
        for line in more:
            print(f"{' ' * width}  {line}")


def note(text: str) -> None:
    """Say something beside the result."""
    print(text, file=sys.stderr, flush=True)


def when(moment: datetime | None) -> str:
    """A time as people read it here: today's without the day."""
    if moment is None:
        return ""
    local = moment.astimezone()
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S") if local.date() == today else local.strftime("%Y-%m-%d %H:%M")


@contextlib.contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, to be told the bytes so far and of all; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def told(done: int, size: int) -> None:
            progress.update(task, completed=done, total=size or None)

        yield told


@contextlib.contextmanager
def count(what: str, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, to be told how many of all are done; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, size: progress.update(task, completed=done, total=size)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as a line of little bars, the mean of each stretch."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [len(values) * n // count for n in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    bars = "▁▂▃▄▅▆▇█"
    return "".join(bars[round((each - low) / (high - low) * 7) if high > low else 0] for each in means)


def write(data: bytes) -> None:
    """Bytes of a log as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
