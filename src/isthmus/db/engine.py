"""The database: SQLite by default, PostgreSQL by URL, used through functions that run in threads.

    user = await db.write(users.create, "ada", Role.MEMBER, now=now)    # users.create(connection, "ada", ...)
    page = await db.read(events.page, after=17)

Every function of this package takes a SQLAlchemy Connection first and does all of its statements in one hop
to a thread; why it is not SQLAlchemy's asyncio layer stands in docs/decisions/0001-sync-database-in-threads.md.

This module owns the open database and its connections. It knows no table.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from isthmus.db import migrations
from isthmus.db.notifications import CONNECT, Listener, Topics
from isthmus.db.threads import Readers, Writer
from isthmus.domain.errors import Invalid, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

# One writer at a time in all processes, as in SQLite: what a write has checked still holds when it commits.
WRITE_LOCK = 0x1574A05
LOCK_TIMEOUT_S = 10
URL_HINT = "Write it like sqlite:////var/lib/isthmus/isthmus.db or postgresql://user@host/isthmus."


class Database:
    """An open database: see :meth:`open`. Its methods are called from the event loop that opened it."""

    def __init__(self, url: URL, *, durable: bool, readers: int) -> None:
        self.url = url
        self.kind = url.get_backend_name()  # sqlite, postgresql
        loop = asyncio.get_running_loop()
        self._topics = Topics()
        self._listener = Listener(url, self._topics) if self.kind == "postgresql" else None
        publish = self._listener.publish if self._listener else None
        self._writer = Writer(_engine(url, durable=durable), loop, self._topics, publish)
        self._readers = Readers(_engine(url, readonly=True), loop, self._topics, readers)

    @classmethod
    async def open(cls, url: str, *, durable: bool = True, readers: int = 4) -> Self:
        """Connect and bring the tables up to date.

        ``url`` is ``sqlite:////path/file.db`` or ``postgresql://user@host/name``. With ``durable`` (SQLite only;
        PostgreSQL's own configuration decides there) each commit is on the disk before a write returns.
        Raises Invalid for a wrong URL and Unavailable when there is no such server, or no room.
        """
        self = cls(parse_url(url), durable=durable, readers=readers)
        try:
            await self.write(migrations.upgrade)
            if self._listener:
                await self._listener.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, ...)`` in a transaction of the only writer and return what it returns.

        What it wrote is durable when this returns. Any exception undoes all of it and is raised here. ``fn`` runs
        once, in a thread; a caller that is cancelled does not learn whether it was written. Raises Unavailable
        when the disk is full, the database locked for long or the server away.
        """
        return await self._writer.put(lambda connection: fn(connection, *args, **kwargs))

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, ...)`` on one snapshot of the database, where it can't write; return its value.

        It runs beside writes and other reads, and a second time when the connection was lost. Raises Unavailable.
        """
        return await self._readers.put(lambda connection: fn(connection, *args, **kwargs))

    @contextlib.contextmanager
    def watch(self, *topics: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever a write, here or (PostgreSQL) in another process, told one of the topics.

        See :func:`isthmus.db.notifications.tell`. To miss nothing: clear it, read, and only then wait for it.
        """
        news = asyncio.Event()
        self._topics.add(topics, news)
        try:
            yield news
        finally:
            self._topics.discard(topics, news)

    async def close(self) -> None:
        """Finish what was asked for, then let go of everything. May be called again."""
        if self._listener:
            await self._listener.stop()
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._readers.close)


def parse_url(url: str) -> URL:
    """The URL with its driver. Raises Invalid with what is wrong."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Invalid(f"{url!r} is not a database's URL.", place="database", hint=URL_HINT) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise Invalid(f"{backend!r} is not a database that Isthmus knows.", place="database", hint=URL_HINT)
    if not parsed.database or parsed.database == ":memory:":
        raise Invalid("SQLite needs a file.", place="database", hint=URL_HINT)
    folder = Path(parsed.database).absolute().parent
    if not folder.is_dir():
        raise Invalid(f"There is no folder {str(folder)!r} for it.", place="database", hint="Make it first.")
    return parsed.set(drivername="sqlite+pysqlite")


def _engine(url: URL, *, durable: bool = True, readonly: bool = False) -> Engine:
    """An engine without a pool: each thread keeps its own connection."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, durable=durable, readonly=readonly)
    return _postgresql(url, readonly=readonly)


def _sqlite(url: URL, *, durable: bool, readonly: bool) -> Engine:
    # isolation_level=None: there are no transactions but those begun below. timeout: for another process's write.
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": LOCK_TIMEOUT_S}
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=arguments)
    pragmas = {
        "synchronous": "FULL" if durable else "NORMAL",
        "foreign_keys": "ON",
        "journal_size_limit": str(64 << 20),
        "query_only": "ON" if readonly else "OFF",
    }

    @event.listens_for(engine, "do_connect")
    def create(*_: Any) -> None:
        # Hashes of tokens and ciphertexts are nobody else's to copy; the -wal and -shm files follow its mode.
        os.close(os.open(str(url.database), os.O_CREAT | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name}={value}").close()
        if not readonly:
            _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, where it stays. The one lock for which SQLite does not wait by itself."""
    until = time.monotonic() + LOCK_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)  # in the writer's thread, beside another process that opens a fresh file


def _postgresql(url: URL, *, readonly: bool) -> Engine:
    try:
        engine = sqlalchemy.create_engine(
            url,
            poolclass=NullPool,
            isolation_level="REPEATABLE READ" if readonly else "READ COMMITTED",
            execution_options={"postgresql_readonly": True} if readonly else {},
            connect_args=dict(CONNECT),
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        hint = "Run: pip install 'isthmus[postgres]'"
        raise Unavailable("PostgreSQL needs the package psycopg.", hint=hint) from None

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        # Shorter than others wait for a lock: a process that is frozen in a transaction holds nobody up for longer.
        connection.execute("SET idle_in_transaction_session_timeout = '5s'")
        connection.commit()

    if not readonly:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine
