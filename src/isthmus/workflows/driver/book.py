"""The book of a run: what it runs, and what has become of each task. One SQLite file in the run's folder.

Rows are written a moment after they are told, many in one commit. What a killed driver had not written yet is done
again: the machine asks for it anew.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from isthmus.domain.errors import NotFound

FILE = "run.db"
FLUSH_ROWS = 400

SCHEMA = """
create table if not exists run (name text primary key, value text not null) without rowid;
create table if not exists tasks (
    task text primary key, state text not null, place text not null, folder text not null, job integer not null,
    key text not null, parts text not null, queued real not null, started real not null, ended real not null,
    exit_code integer, wall_s real not null, cpu_s real not null, peak_mem integer not null, reused text not null,
    message text not null, log text not null, outputs text,
    moved integer not null default 0, cost real not null default 0
) without rowid;
"""


@dataclass(slots=True)
class Entry:
    """One task. ``state``: submitted, running, done, reused, failed. Times are seconds since the epoch; 0: not yet."""

    task: str
    state: str
    place: str = ""
    folder: str = ""
    job: int = 0
    key: str = ""
    parts: str = ""
    queued: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    exit_code: int | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mem: int = 0
    reused: str = ""  # the run whose result it is
    message: str = ""
    log: str = ""
    outputs: str | None = None
    moved: int = 0  # bytes that came from elsewhere
    cost: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether its outputs are known."""
        return self.state in ("done", "reused") and self.outputs is not None


_COLUMNS = [each.name for each in fields(Entry)]
_PUT = f"insert or replace into tasks ({', '.join(_COLUMNS)}) values ({', '.join('?' * len(_COLUMNS))})"


class Book:
    """See the module. For one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
        self._db.executescript("pragma journal_mode = wal; pragma synchronous = normal;" + SCHEMA)
        self._waiting: list[Entry] = []
        columns = {row[1] for row in self._db.execute("pragma table_info(tasks)")}
        for name, kind in (("moved", "integer"), ("cost", "real")):
            if name not in columns:  # a book of an earlier version
                self._db.execute(f"alter table tasks add column {name} {kind} not null default 0")

    @classmethod
    def made(cls, folder: Path, facts: Mapping[str, Any]) -> Self:
        """A new book, in a new folder."""
        folder.mkdir(parents=True)
        book = cls(folder / FILE)
        book.note(**facts)
        return book

    @classmethod
    def found(cls, folder: Path) -> Self:
        """The book in a folder. Raises NotFound, also where its driver was killed before it had written anything."""
        if not (folder / FILE).exists():
            raise NotFound(f"There is no run in {folder}.")
        book = cls(folder / FILE)
        if not book.facts():
            book.close()
            raise NotFound(f"The run {folder.name} was cut off before it began.", hint="Run it anew.")
        return book

    def note(self, **facts: Any) -> None:
        """Write down facts of the run; durable when it returns."""
        self._db.execute("begin immediate")
        self._db.executemany(
            "insert or replace into run values (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
        )
        self._db.execute("commit")

    def facts(self) -> dict[str, Any]:
        """All facts of the run."""
        return {name: json.loads(value) for name, value in self._db.execute("select name, value from run")}

    def put(self, entry: Entry) -> None:
        """Write a task down; durable after the next `flush`."""
        self._waiting.append(entry)
        if len(self._waiting) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._db.execute("begin immediate")
        self._db.executemany(_PUT, [tuple(getattr(entry, name) for name in _COLUMNS) for entry in waiting])
        self._db.execute("commit")

    def entries(self) -> Iterator[Entry]:
        """Every task, in the order of their starts."""
        self.flush()
        for row in self._db.execute(f"select {', '.join(_COLUMNS)} from tasks order by queued, task"):
            yield Entry(*row)

    def entry(self, task: str) -> Entry | None:
        """One task."""
        self.flush()
        row = self._db.execute(f"select {', '.join(_COLUMNS)} from tasks where task = ?", (task,)).fetchone()
        return None if row is None else Entry(*row)

    def close(self) -> None:
        """Write what waits, and let go."""
        self.flush()
        self._db.close()
