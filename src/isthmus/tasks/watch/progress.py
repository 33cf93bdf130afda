"""A progress bar on stderr: how many tasks have ended, how many a second, by function where several take long."""

import sys
import threading
import time

from isthmus.tasks.graph import FAILED, Node

_EVERY_S = 0.1
_WIDTH = 24


class Progress:
    """Draws from a thread of its own, so that tasks pay for counting only."""

    def __init__(self) -> None:
        self.total = self.done = self.failed = self.retries = 0
        self.by_task: dict[str, list[int]] = {}  # name -> [called, ended]
        self._begin = time.monotonic()
        self._over = threading.Event()
        self._width = 0
        self._thread = threading.Thread(target=self._draw, name="isthmus-progress", daemon=True)
        self._thread.start()

    def submitted(self, node: Node) -> None:
        self.total += 1
        self.by_task.setdefault(node.function.function.__name__, [0, 0])[0] += 1

    def retried(self, node: Node) -> None:
        self.retries += 1

    def ended(self, node: Node, seconds: float, where: int) -> None:
        self.done += 1
        self.failed += node.state == FAILED
        self.by_task[node.function.function.__name__][1] += 1

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def line(self) -> str:
        """The bar as it is now."""
        seconds = max(1e-9, time.monotonic() - self._begin)
        full = int(_WIDTH * self.done / self.total) if self.total else 0
        busy = [f"{name} {ended}/{called}" for name, (called, ended) in self.by_task.items() if ended < called]
        parts = [f"[{'#' * full}{'.' * (_WIDTH - full)}] {self.done}/{self.total} tasks, {self.done / seconds:.0f}/s"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.retries:
            parts.append(f"{self.retries} retried")
        return ", ".join(parts) + (f"  {'  '.join(busy[:3])}" if busy else "")

    def _draw(self) -> None:
        live = sys.stderr.isatty()
        while not self._over.wait(_EVERY_S):
            if live:
                self._show("\r")
        if self.total:
            self._show("\r" if live else "")
            sys.stderr.write("\n")

    def _show(self, before: str) -> None:
        line = self.line()
        sys.stderr.write(before + line.ljust(self._width))
        sys.stderr.flush()
        self._width = len(line)
