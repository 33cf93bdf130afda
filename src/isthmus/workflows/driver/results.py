"""Results by content: what a step made of the same tool, image, requirements and inputs, in any run.

A key is a digest of those parts. A file that a step made is known by that step's key and its name, so nothing between
steps is read to know it; a file from outside is known by its SHA-256, remembered while its size and times stay.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.workflows.locations import path_of

SCHEMA = """
create table if not exists results (
    key text primary key, workflow text not null, task text not null, run text not null, parts text not null,
    outputs text not null, made real not null, used real not null
) without rowid;
create index if not exists results_by_task on results (workflow, task, made);
create table if not exists digests (
    path text primary key, size integer not null, mtime_ns integer not null, inode integer not null,
    sha256 text not null
) without rowid;
"""
FLUSH_ROWS = 400


@dataclass(frozen=True, slots=True)
class Found:
    """An earlier result."""

    key: str
    run: str
    parts: Mapping[str, Any]
    outputs: dict[str, Any]


class Results:
    """See the module. Shared by all runs of a user on this machine. For one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._marks: bytes = b""
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
        self._db.executescript("pragma journal_mode = wal; pragma synchronous = normal;" + SCHEMA)
        self._waiting: list[tuple[Any, ...]] = []
        self._made: dict[str, str] = {}  # folder of a step -> its key
        self._digests: dict[str, str] = {}

    def key(self, parts: Mapping[str, Any]) -> str:
        """The digest of a task's parts."""
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def mark(self, secret: str) -> str:
        """What stands for a secret text in a task's parts: the same for the same, and of use to nobody else."""
        if not self._marks:
            self._marks = _key(self._path.with_name("marks.key"))
        return f"(secret {hmac.digest(self._marks, secret.encode(), 'sha256').hex()[:16]})"

    def identity(self, place: str) -> str:
        """What a location's content is known by."""
        folder, rest = _split(place)
        if rest and folder in self._made:
            return f"{self._made[folder]}/{rest}"
        path = path_of(place)
        return self._digest(path) if path else place

    def find(self, key: str, plane: str = "") -> Found | None:
        """An earlier result whose files still are as they were. ``plane``: the control plane that may be asked."""
        row = self._db.execute("select run, parts, outputs from results where key = ?", (key,)).fetchone()
        if row is None:
            return None
        outputs = json.loads(row[2])
        if not intact(outputs, plane):
            return None
        found = Found(key, row[0], json.loads(row[1]), outputs)
        self._remember(key, outputs)
        return found

    def latest(self, workflow: str, task: str, *, other_than: str = "") -> Found | None:
        """The last result of a task of this name in another run, whatever it was made of."""
        self.flush()
        row = self._db.execute(
            "select key, run, parts, outputs from results where workflow = ? and task = ? and run != ?"
            " order by made desc limit 1",
            (workflow, task, other_than),
        ).fetchone()
        return None if row is None else Found(row[0], row[1], json.loads(row[2]), json.loads(row[3]))

    def put(self, key: str, *, workflow: str, task: str, run: str, parts: Mapping[str, Any], outputs: Any) -> None:
        """Remember a result; durable after the next `flush`."""
        now = time.time()
        self._waiting.append((key, workflow, task, run, json.dumps(parts), json.dumps(outputs), now, now))
        self._remember(key, outputs)
        if len(self._waiting) >= FLUSH_ROWS:
            self.flush()

    def remember(self, key: str, outputs: Any) -> None:
        """Know the files of a result by its key."""
        self._remember(key, outputs)

    def forget_runs(self, runs: list[str]) -> None:
        """Forget the results that lie in the folders of these runs."""
        self.flush()
        self._db.executemany("delete from results where run = ?", [(run,) for run in runs])

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._db.execute("begin immediate")
            self._db.executemany("insert or replace into results values (?, ?, ?, ?, ?, ?, ?, ?)", waiting)
            self._db.execute("commit")

    def close(self) -> None:
        """Write what waits, and let go."""
        self.flush()
        self._db.close()

    def _remember(self, key: str, outputs: Any) -> None:
        for file in located(outputs):
            folder, rest = _split(str(file["location"]))
            if rest:
                self._made.setdefault(folder, key)

    def _digest(self, path: str) -> str:
        if path in self._digests:
            return self._digests[path]
        if os.path.isdir(path):
            found = self._folder(path)
        else:
            found = self._file(path)
        self._digests[path] = found
        return found

    def _folder(self, path: str) -> str:
        known = hashlib.sha256()
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                inner = os.path.join(folder, name)
                known.update(f"{os.path.relpath(inner, path)}\0{self._file(inner)}\n".encode())
        return "folder:" + known.hexdigest()

    def _file(self, path: str) -> str:
        try:
            status = os.stat(path)
        except OSError:
            return f"missing:{path}"
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
        row = self._db.execute("select size, mtime_ns, inode, sha256 from digests where path = ?", (path,)).fetchone()
        if row is not None and row[:3] == stamp:
            return str(row[3])
        with open(path, "rb", buffering=0) as stream:
            found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        # A file changed within the clock's tick of its stamp could change again unseen.
        if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
            self._db.execute("insert or replace into digests values (?, ?, ?, ?, ?)", (path, *stamp, found))
        return found


def _key(path: Path) -> bytes:
    """A key of this machine's own, made when it is first needed."""
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(handle, secrets.token_bytes(32))
        os.close(handle)
    return path.read_bytes()


def _split(place: str) -> tuple[str, str]:
    """``(what made it, the name there)`` of a step's file, here or left by a job; the name is "" for other files."""
    if place.startswith("job:"):
        plane, _, rest = place.partition("/")
        job, _, path = rest.partition("/")
        return f"{plane}/{job}", path
    folder, work, rest = path_of(place).partition("/work/")
    return (folder, rest) if work else ("", "")


def located(value: Any) -> Any:
    """Every File and Directory in a value that has a location, those within others too."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory") and value.get("location"):
            yield value
        for inner in value.values():
            if isinstance(inner, Mapping | list):
                yield from located(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from located(inner)


def intact(outputs: Any, plane: str = "") -> bool:
    """Whether the files of a result are there, with the sizes that they had.

    What a job left is believed to be there where the control plane is the one that it was submitted to.
    """
    for file in located(outputs):
        place = str(file["location"])
        if place.startswith("job:") and not place.startswith(f"job:{plane}/"):
            return False
        path = path_of(place)
        if not path:
            continue
        try:
            status = os.stat(path)
        except OSError:
            return False
        if file["class"] == "File" and file.get("size") is not None and status.st_size != file["size"]:
            return False
    return True
