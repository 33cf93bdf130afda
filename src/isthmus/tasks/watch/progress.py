"""Progress on stderr: how many tasks have ended and failed, how many a second, by function.

On a terminal a view that is drawn anew while tasks run; elsewhere one line at the end.
"""

import sys
import threading
import time
from typing import Any

from isthmus.tasks.graph import FAILED, Node

_EVERY_S = 0.1
_WIDTH = 24
_FUNCTIONS = 8  # that the view shows


class Progress:
    """Draws from a thread of its own, so that tasks pay for counting only."""

    def __init__(self) -> None:
        self.total = self.done = self.failed = self.retries = 0
        self.by_task: dict[str, list[int]] = {}  # name -> [called, ended, failed]
        self._begin = time.monotonic()
        self._recent: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="isthmus-progress", daemon=True)
        self._thread.start()

    def submitted(self, node: Node) -> None:
        self.total += 1
        self.by_task.setdefault(node.function.function.__name__, [0, 0, 0])[0] += 1

    def retried(self, node: Node) -> None:
        self.retries += 1

    def ended(self, node: Node, seconds: float, where: int) -> None:
        self.done += 1
        failed = node.state == FAILED
        self.failed += failed
        counts = self.by_task[node.function.function.__name__]
        counts[1] += 1
        counts[2] += failed

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def line(self) -> str:
        """How it stands, in a line."""
        seconds = max(1e-9, time.monotonic() - self._begin)
        full = int(_WIDTH * self.done / self.total) if self.total else 0
        busy = [f"{name} {ended}/{called}" for name, (called, ended, _) in self.by_task.items() if ended < called]
        parts = [f"[{'#' * full}{'.' * (_WIDTH - full)}] {self.done}/{self.total} tasks, {self.done / seconds:.0f}/s"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.retries:
            parts.append(f"{self.retries} retried")
        return ", ".join(parts) + (f"  {'  '.join(busy[:3])}" if busy else "")

    def rate(self) -> float:
        """Tasks that ended a second, of late."""
        now = time.monotonic()
        self._recent.append((now, self.done))
        self._recent = [entry for entry in self._recent if now - entry[0] < 3.0]
        first, count = self._recent[0]
        return (self.done - count) / (now - first) if now > first else 0.0

    def view(self) -> Any:
        """How it stands, as a table of rich."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        made = Table(box=None, pad_edge=False)
        for head in ("task", "", "done", "failed"):
            made.add_column(head, justify="left" if head in ("task", "") else "right")
        busiest = sorted(self.by_task.items(), key=lambda item: item[1][1] - item[1][0])[:_FUNCTIONS]
        for name, (called, ended, failed) in busiest:
            shown = f"[red]{failed}[/red]" if failed else ""
            made.add_row(
                name, ProgressBar(total=max(1, called), completed=ended, width=_WIDTH), f"{ended}/{called}", shown
            )
        seconds = time.monotonic() - self._begin
        made.caption = f"{self.done}/{self.total} tasks, {self.rate():.0f}/s, {seconds:.0f} s" + (
            f", {self.retries} retried" if self.retries else ""
        )
        return made

    def _draw(self) -> None:
        if sys.stderr.isatty():
            self._live()
        else:
            self._over.wait()
        if self.total:
            sys.stderr.write(self.line() + "\n")
            sys.stderr.flush()

    def _live(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with Live(
            console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as live:
            while not self._over.wait(_EVERY_S):
                if self.total:
                    live.update(self.view(), refresh=True)
