"""What people see while the demo runs: live in a terminal, plain lines in a log.

Nothing here knows of jobs or forecasts. Colour, boxes and braille only where the terminal has them.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live

PLAIN_EVERY_S = 5.0  # between two lines of progress in a log

LOG_WIDTH = 100  # a log has no width of its own: lines of so many characters are read well

Show = Callable[[RenderableType, str], None]


class Screen:
    """The way out to the person. ``lively``: a terminal that can be redrawn."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal:
            self.console.width = LOG_WIDTH
        self.lively = self.console.is_terminal and not self.console.is_dumb_terminal
        self.colour = self.lively and self.console.color_system is not None and self._unicode()
        self._began = time.monotonic()

    @property
    def width(self) -> int:
        """Characters to draw in."""
        return min(self.console.width, LOG_WIDTH)

    def chapter(self, title: str) -> None:
        """A heading, with the seconds since the start."""
        self.console.print(f"\n[bold]== {title}[/bold]  [dim]({time.monotonic() - self._began:.0f} s)[/dim]")

    def say(self, what: RenderableType = "") -> None:
        """Print it. A text's lines are left whole, so that commands can be copied."""
        if isinstance(what, str):
            self.console.print(what, markup=False, soft_wrap=True)
        else:
            self.console.print(what, width=self.width)

    def tell(self, text: str) -> None:
        """Print prose: each line broken to the width, what follows set in a little further."""
        for line in text.splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            self.say(textwrap.fill(line, self.width, subsequent_indent=indent + "  "))

    @contextmanager
    def watching(self, *, keep: bool) -> Iterator[Show]:
        """Gives a function to call with what to show now: a picture for the terminal, a line for the log.

        In a log a line is written when it is new, and at most every few seconds. ``keep``: the last picture stays.
        """
        if self.lively:
            with Live(console=self.console, auto_refresh=False, transient=not keep) as live:
                yield lambda picture, line: live.update(picture, refresh=True)
            return
        last: tuple[float, str, RenderableType] = (-PLAIN_EVERY_S, "", "")

        def show(picture: RenderableType, line: str) -> None:
            nonlocal last
            now = time.monotonic()
            if line != last[1] and now - last[0] >= PLAIN_EVERY_S:
                self.say(line)
                last = (now, line, picture)
            else:
                last = (last[0], last[1], picture)

        yield show
        if keep:
            self.say(last[2])

    def _unicode(self) -> bool:
        try:
            "⣿│".encode(self.console.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True
