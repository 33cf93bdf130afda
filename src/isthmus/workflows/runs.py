"""Runs on this machine: each a folder with its book and its steps, below the user's data folder."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isthmus.domain.errors import Conflict, NotFound, nearest
from isthmus.settings import data_home
from isthmus.workflows.driver.book import FILE, Book
from isthmus.workflows.driver.results import Results

LOCK, WITHHELD = "driver.lock", "secrets.json"


class Runs:
    """The runs in a folder, and the results that they share."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or data_home() / "workflows"

    def folder(self, run: str) -> Path:
        """The folder of a run, by its id or the beginning of it. Raises NotFound, Conflict."""
        known = self.ids()
        found = [each for each in known if each == run] or [each for each in known if each.startswith(run)]
        if not found:
            hint = nearest(run, known) if known else "There is none yet: isthmus workflow run FILE.cwl"
            raise NotFound(f"There is no run {run!r} on this machine.", hint=hint)
        if len(found) > 1:
            raise Conflict(f"Several runs begin with {run!r}: {', '.join(found[:4])}.")
        return self.home / "runs" / found[0]

    def ids(self) -> list[str]:
        """All runs, the oldest first."""
        try:
            return sorted(entry.name for entry in (self.home / "runs").iterdir() if (entry / FILE).exists())
        except FileNotFoundError:
            return []

    def facts(self, run: str) -> dict[str, Any]:
        """What is written down of a run; nothing of one that was cut off before it began."""
        try:
            book = Book.found(self.home / "runs" / run)
        except NotFound:
            return {}
        try:
            return book.facts()
        finally:
            book.close()

    def begin(self, facts: Mapping[str, Any], run: str = "") -> tuple[Path, Book]:
        """A new run: its folder and its book. ``run``: its id, where it has one already.

        Else it begins with the time, to the millisecond, for ids in order.
        """
        name = re.sub(r"[^\w.-]+", "-", str(facts.get("name") or "run"))[:40].removesuffix(".cwl")
        now = datetime.now(UTC)
        run = run or f"{now:%Y%m%d-%H%M%S}.{now.microsecond // 1000:03}-{name}-{secrets.token_hex(2)}"
        folder = self.home / "runs" / run
        return folder, Book.made(folder, {**facts, "run": run, "started": time.time(), "state": "running"})

    def withhold(self, folder: Path, values: Mapping[str, Any]) -> None:
        """Keep secret inputs beside a run, for this user alone, until it has come to its end."""
        handle = os.open(folder / WITHHELD, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as stream:
            json.dump(values, stream)

    def withheld(self, folder: Path) -> dict[str, Any]:
        """The secret inputs of a run that may go on."""
        try:
            found: dict[str, Any] = json.loads((folder / WITHHELD).read_text())
        except FileNotFoundError:
            return {}
        return found

    def results(self) -> Results:
        """The results of all runs."""
        return Results(self.home / "results.db")

    def remove(self, run: str) -> int:
        """Remove a run's folder and its results; the bytes that it had. Raises NotFound, Conflict while it runs."""
        folder = self.folder(run)
        with locked(folder):
            results = self.results()
            results.forget_runs([folder.name])
            results.close()
            size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
            shutil.rmtree(folder, ignore_errors=True)
        return size


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The run for this process alone. Raises Conflict where another drives it."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.read(handle, 100).decode(errors="replace").strip()
            raise Conflict(f"The run {folder.name} is being driven ({other}).", code="running") from None
        os.ftruncate(handle, 0)
        os.write(handle, f"pid {os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)
