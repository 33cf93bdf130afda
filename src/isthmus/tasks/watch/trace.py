"""A trace of tasks by worker: JSON for Chrome and Perfetto, or Paraver's .prv with its .pcf and .row.

Formats: the Trace Event Format ("X" complete events, in microseconds), and Paraver's trace generation manual (states
and events, in nanoseconds).
"""

import json
import os
import time
from pathlib import Path

from isthmus.domain.errors import Invalid
from isthmus.tasks.graph import FAILED, Node

_TASK_EVENT = 60_000_100  # a type of events that Paraver shows by name


class Trace:
    """Keeps one line a task, and writes the file at the end."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(path))
        if self.path.suffix not in (".json", ".prv"):
            raise Invalid(
                f"{path} is no trace.", place="trace", hint="Its name ends in .json (Perfetto) or .prv (Paraver)."
            )
        self._begin = time.perf_counter()
        self._called: dict[int, float] = {}
        self.lines: list[tuple[str, int, int, float, float, float, bool]] = []

    def submitted(self, node: Node) -> None:
        self._called[node.id] = time.perf_counter() - self._begin

    def retried(self, node: Node) -> None:
        """The last attempt is shown."""

    def ended(self, node: Node, seconds: float, where: int) -> None:
        now = time.perf_counter() - self._begin
        called = self._called.pop(node.id, now)
        if where >= 0:
            name = node.function.function.__name__
            self.lines.append((name, node.id, where, called, max(0.0, now - seconds), now, node.state == FAILED))

    def close(self) -> None:
        # Results come in batches: a task's end is known a little late. On one worker none overlaps the next.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.suffix == ".json":
            self._chrome()
        else:
            self._paraver()

    def _by_worker(self) -> list[tuple[str, int, int, float, float, float, bool]]:
        found = []
        free: dict[int, float] = {}
        for name, number, where, called, begin, end, failed in self.lines:
            start = max(begin, free.get(where, 0.0))
            free[where] = stop = max(end, start)
            found.append((name, number, where, called, start, stop, failed))
        return found

    def _chrome(self) -> None:
        events: list[dict[str, object]] = []
        for where in sorted({line[2] for line in self.lines}):
            named = {"name": f"worker {where}"}
            events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": where, "args": named})
        for name, number, where, called, begin, end, failed in self._by_worker():
            events.append(
                {
                    "ph": "X",
                    "name": name,
                    "cat": "failed" if failed else "task",
                    "pid": 1,
                    "tid": where,
                    "ts": round(begin * 1e6, 3),
                    "dur": round((end - begin) * 1e6, 3),
                    "args": {"task": number, "called_us": round(called * 1e6, 3)},
                }
            )
        self.path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))

    def _paraver(self) -> None:
        lines = self._by_worker()
        workers = sorted({line[2] for line in lines}) or [0]
        row = {where: place + 1 for place, where in enumerate(workers)}
        names = {name: value + 1 for value, name in enumerate(dict.fromkeys(line[0] for line in lines))}
        last = int(max((line[5] for line in lines), default=0) * 1e9)
        count = len(workers)
        stamp = time.strftime("%d/%m/%Y at %H:%M")
        # Paraver wants records in the order of time; a task's end comes before the next one's begin.
        records: list[tuple[int, int, str]] = []
        for name, _, where, _, begin, end, _ in lines:
            cpu = row[where]
            first = int(begin * 1e9)
            stop = max(first + 1, int(end * 1e9))
            last = max(last, stop)
            records.append((first, 1, f"1:{cpu}:1:1:{cpu}:{first}:{stop}:1"))
            records.append((first, 2, f"2:{cpu}:1:1:{cpu}:{first}:{_TASK_EVENT}:{names[name]}"))
            records.append((stop, 0, f"2:{cpu}:1:1:{cpu}:{stop}:{_TASK_EVENT}:0"))
        head = f"#Paraver ({stamp}):{last}_ns:1({count}):1:1({count}:1)"
        self.path.write_text("\n".join([head, *(text for _, _, text in sorted(records))]) + "\n")
        values = "\n".join(f"{value}      {name}" for name, value in names.items())
        self.path.with_suffix(".pcf").write_text(
            f"STATES\n0    Idle\n1    Running\n\nEVENT_TYPE\n0    {_TASK_EVENT}    Task\nVALUES\n0      End\n{values}\n"
        )
        threads = "\n".join(f"worker {where}" for where in workers)
        self.path.with_suffix(".row").write_text(
            f"LEVEL CPU SIZE {count}\n{threads}\n\nLEVEL THREAD SIZE {count}\n{threads}\n"
        )
