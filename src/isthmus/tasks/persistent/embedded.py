"""Objects in a folder: SQLite has the small ones and the names of the files that the large ones are."""

import os
import sqlite3
import threading
import time
import uuid
from contextlib import closing, suppress

from isthmus.domain.errors import Unavailable

_LARGE = 256 * 1024
_STRAY_S = 3600.0  # a file that no row names is of a process that died; one so old is not being written any more


class Embedded:
    """See the module. Implements `Backend`, for the processes of one machine."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(os.path.expanduser(folder))
        self._here = threading.local()
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with closing(self._connect()) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS objects"
                " (id TEXT PRIMARY KEY, data BLOB, file TEXT, bytes INTEGER NOT NULL, changed REAL NOT NULL)"
            )
            self._sweep(database)

    def put(self, id: str, data: bytes) -> None:
        file = None
        if len(data) >= _LARGE:
            file = f"{uuid.uuid4().hex}.object"
            with open(self._path(file), "wb") as there:
                there.write(data)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            before = database.execute("SELECT file FROM objects WHERE id = ?", (id,)).fetchone()
            database.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (id, None if file else data, file, len(data), time.time()),
            )
        self._drop(before)

    def get(self, id: str) -> bytes | None:
        while True:
            row = self._database().execute("SELECT data, file FROM objects WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            data, file = row
            if file is None:
                return bytes(data)
            # Gone: it was replaced between the two looks; there is another.
            with suppress(FileNotFoundError), open(self._path(file), "rb") as there:
                return there.read()

    def delete(self, id: str) -> bool:
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            before = database.execute("SELECT file FROM objects WHERE id = ?", (id,)).fetchone()
            database.execute("DELETE FROM objects WHERE id = ?", (id,))
        self._drop(before)
        return before is not None

    def rest(self) -> None:
        """Close this thread's connection until it is needed again."""
        connection = self._here.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def _database(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._here, "connection", None)
        if connection is None:
            connection = self._here.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path("objects.sqlite"), timeout=60.0)
            # Each change of an object is a commit: one that waits for the disk costs as much as a hundred tasks. What
            # was committed survives the program however it ends; a loss of power may take the last moments along.
            connection.execute("PRAGMA synchronous=NORMAL")
            return connection
        except sqlite3.Error as error:
            raise Unavailable(f"Persistent objects can't be kept in {self._folder}: {error}") from error

    def _path(self, file: str) -> str:
        return os.path.join(self._folder, file)

    def _drop(self, row: tuple[str | None] | None) -> None:
        if row is not None and row[0] is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._path(row[0]))

    def _sweep(self, database: sqlite3.Connection) -> None:
        known = {row[0] for row in database.execute("SELECT file FROM objects WHERE file IS NOT NULL")}
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                if (
                    entry.name.endswith(".object")
                    and entry.name not in known
                    and time.time() - entry.stat().st_mtime > _STRAY_S
                ):
                    os.unlink(entry.path)
