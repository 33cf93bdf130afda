"""Tasks in Jupyter: ``%load_ext isthmus``.

    %tasks            how they stand, by function
    %tasks graph      the graph so far, drawn
    %tasks stop       wait for all, and stop the workers

While a cell runs that calls tasks, its progress is shown beneath it.
"""

import html
import threading
import time
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.graph import FAILED, Node
from isthmus.tasks.watch.drawing import Drawing

_EVERY_S = 0.2
_VERBS = ("", "graph", "stop")


class Seen:
    """A watcher of the notebook's program: counts, and the graph."""

    def __init__(self) -> None:
        self.counts: dict[str, list[float]] = {}  # name -> [called, ended, failed, seconds]
        self.drawing = Drawing()

    def submitted(self, node: Node) -> None:
        self.counts.setdefault(node.function.function.__name__, [0, 0, 0, 0.0])[0] += 1
        self.drawing.submitted(node)

    def retried(self, node: Node) -> None:
        """It is one task."""

    def ended(self, node: Node, seconds: float, where: int) -> None:
        counts = self.counts.get(node.function.function.__name__)
        if counts is not None:  # else it was called before anybody watched
            counts[1] += 1
            counts[2] += node.state == FAILED
            counts[3] += seconds
        self.drawing.ended(node, seconds, where)

    def close(self) -> None:
        """Nothing is kept elsewhere."""

    def total(self) -> tuple[int, int, int]:
        """Called, ended, failed."""
        rows = list(self.counts.values())
        return int(sum(r[0] for r in rows)), int(sum(r[1] for r in rows)), int(sum(r[2] for r in rows))

    def table(self) -> str:
        """How they stand, as HTML."""
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name)}</td><td>{called:.0f}</td><td>{ended:.0f}</td>"
            f"<td>{failed:.0f}</td><td>{seconds / ended * 1000 if ended else 0:.1f}</td></tr>"
            for name, (called, ended, failed, seconds) in self.counts.items()
        )
        head = "".join(f"<th>{word}</th>" for word in ("task", "called", "ended", "failed", "ms each"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


class Bar:
    """The progress of one cell, beneath it."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._before = seen.total()
        self._begin = time.monotonic()
        self._over = threading.Event()
        self._handle: Any = None
        self._thread = threading.Thread(target=self._draw, name="isthmus-notebook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The cell has ended."""
        self._over.set()
        self._thread.join()
        if self._handle is not None or self._seen.total()[0] > self._before[0]:
            self._show()

    def text(self) -> str:
        """The bar as HTML."""
        called, ended, failed = (now - then for now, then in zip(self._seen.total(), self._before, strict=True))
        seconds = max(1e-9, time.monotonic() - self._begin)
        wrong = f", <b style='color:#b00020'>{failed} failed</b>" if failed else ""
        return (
            f"<progress value='{ended}' max='{max(1, called)}' style='width:16em'></progress> "
            f"{ended}/{called} tasks, {ended / seconds:.0f}/s{wrong}"
        )

    def _draw(self) -> None:
        while not self._over.wait(_EVERY_S):
            if self._seen.total()[0] > self._before[0]:
                self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        shown = HTML(self.text())
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


class Extension:
    """What `%load_ext isthmus` adds to a shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._seen: Seen | None = None
        self._program: Any = None
        self._bar: Bar | None = None

    def load(self) -> None:
        """Add the magic, and watch cells."""
        self._shell.register_magic_function(self.tasks, "line", "tasks")
        self._shell.events.register("pre_run_cell", self.before)
        self._shell.events.register("post_run_cell", self.after)

    def unload(self) -> None:
        """Watch no more."""
        self._shell.events.unregister("pre_run_cell", self.before)
        self._shell.events.unregister("post_run_cell", self.after)

    def seen(self) -> Seen:
        """The watcher of the program, which is started if it was not."""
        from isthmus.tasks.current import current

        program = current()
        if self._seen is None or self._program is not program:
            self._seen, self._program = Seen(), program
            program.watchers.append(self._seen)
        return self._seen

    def before(self, info: Any) -> None:
        """A cell begins."""
        from isthmus.tasks.current import running

        # A program is started by its first task; then the next cell's progress is seen.
        if running() is not None or "task" in getattr(info, "raw_cell", ""):
            if (getattr(info, "raw_cell", "") or "").lstrip().startswith("%"):
                return
            self._bar = Bar(self.seen())

    def after(self, result: Any) -> None:
        """A cell has ended."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def tasks(self, line: str) -> Any:
        """%tasks, %tasks graph, %tasks stop."""
        from IPython.display import HTML, SVG

        from isthmus.tasks.current import stop

        verb = line.strip()
        if verb == "graph":
            return SVG(self.seen().drawing.svg())
        if verb == "stop":
            stop()
            return None
        if verb:
            raise Invalid(f"%tasks {verb} is none.", hint=nearest(verb, _VERBS) or "There is: %tasks, graph, stop.")
        return HTML(self.seen().table())


def load(shell: Any) -> None:
    """What IPython calls by `isthmus.load_ipython_extension`."""
    shell._isthmus_tasks = Extension(shell)
    shell._isthmus_tasks.load()


def unload(shell: Any) -> None:
    """What `%unload_ext isthmus` does."""
    extension = getattr(shell, "_isthmus_tasks", None)
    if extension is not None:
        extension.unload()
        del shell._isthmus_tasks
