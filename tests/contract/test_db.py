"""What every database holds to, SQLite and PostgreSQL alike: transactions, durability, migrations, news."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError

from isthmus.db import engine, events, instance, migrations, users
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.db.schema import leases, metadata
from isthmus.db.schema import users as users_table
from isthmus.domain.errors import Conflict, Unavailable
from isthmus.domain.users import Role


def names(connection: Connection) -> list[str]:
    return [user.name for user in users.every(connection)]


def add(connection: Connection, name: str) -> int:
    return users.create(connection, name, Role.MEMBER, now=1.0).id


# ---- migrations


async def test_migrations_give_exactly_the_tables_of_the_schema(db: Database) -> None:
    def other_default(context: MigrationContext, *columns: Any) -> bool | None:
        """SQLite gives back `DEFAULT ''` with brackets, which Alembic's own comparison does not take off."""
        _, _, there, _, wanted = columns
        return str(there).strip("()'") != str(wanted).strip("()'") if context.dialect.name == "sqlite" else None

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "compare_server_default": other_default}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    assert await db.write(differences) == []


async def test_every_migration_goes_up_down_and_up(db: Database) -> None:
    def tables(connection: Connection) -> set[str]:
        return set(sqlalchemy.inspect(connection).get_table_names())

    assert set(metadata.tables) < await db.write(tables)
    await db.write(migrations.downgrade)
    assert await db.write(tables) == {"alembic_version"}
    await db.write(migrations.upgrade)
    assert set(metadata.tables) < await db.write(tables)
    assert await db.read(migrations.current) == migrations.HEAD


def test_head_is_the_last_migration() -> None:
    assert ScriptDirectory(str(migrations.FOLDER)).get_current_head() == migrations.HEAD


async def test_a_database_at_head_is_opened_without_migrating(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Database.open(database_url)).close()
    monkeypatch.setattr(command, "upgrade", lambda *_: pytest.fail("migrated again"))
    await (await Database.open(database_url)).close()


async def test_two_processes_may_open_a_fresh_database_at_once(database_url: str) -> None:
    first, second = await asyncio.gather(Database.open(database_url), Database.open(database_url))
    assert await first.write(instance.name, now=1.0) == await second.write(instance.name, now=2.0)
    await first.close()
    await second.close()


async def test_a_newer_database_is_left_alone(db: Database, database_url: str) -> None:
    await db.write(lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_x'"))
    with pytest.raises(Unavailable, match="newer Isthmus") as caught:
        await Database.open(database_url)
    assert caught.value.code == "database-newer"
    assert await db.read(migrations.current) == "9999_x"


# ---- transactions


async def test_a_write_is_whole_or_not_at_all(db: Database) -> None:
    def both(connection: Connection) -> None:
        add(connection, "ada")
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        await db.write(both)
    assert await db.read(names) == []


async def test_what_was_written_is_read(db: Database) -> None:
    user_id = await db.write(add, "ada")
    assert (await db.read(users.get, "ada")).id == user_id


async def test_a_read_can_not_write(db: Database) -> None:
    with pytest.raises(Unavailable, match=r"can't be written|only allows reading"):
        await db.read(add, "ada")
    await db.write(add, "bob")
    assert await db.read(names) == ["bob"]


async def test_a_read_sees_one_snapshot(db: Database) -> None:
    begun, written = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        begun.set()
        assert written.wait(20)
        return before, names(connection)

    reading = asyncio.ensure_future(db.read(twice))
    await asyncio.to_thread(begun.wait, 20)
    await db.write(add, "ada")
    written.set()
    assert await reading == ([], [])
    assert await db.read(names) == ["ada"]


async def test_writes_at_the_same_moment_are_all_kept(db: Database) -> None:
    await asyncio.gather(*(db.write(add, f"u{number:03}") for number in range(300)))
    assert await db.read(names) == [f"u{number:03}" for number in range(300)]


async def test_a_failing_write_spoils_no_other(db: Database) -> None:
    """Those that share a commit are kept apart, also when one breaks a rule of the database itself."""

    def bad(connection: Connection) -> None:
        add(connection, "bad")
        connection.execute(users_table.insert().values(name="bad", role="member", created_at=1.0))

    writes = [db.write(add, f"u{n:02}") if n % 3 else db.write(bad) for n in range(60)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, DBAPIError) for result in results] == [n % 3 == 0 for n in range(60)]
    assert await db.read(names) == [f"u{n:02}" for n in range(60) if n % 3]


async def test_writers_do_not_lose_each_others_updates(db: Database, database_url: str) -> None:
    """What a write has read still holds when it commits, also against another process's writes."""
    other = await Database.open(database_url)
    await db.write(lambda c: c.execute(leases.insert().values(name="n", owner="", token=0, expires_at=0.0)))

    def increment(connection: Connection) -> None:
        value = connection.execute(select(leases.c.token)).scalar_one()
        connection.execute(update(leases).values(token=value + 1))

    async def many(database: Database) -> None:
        for _ in range(50):
            await asyncio.gather(database.write(increment), database.write(increment))

    await asyncio.gather(many(db), many(other))
    assert await db.read(lambda c: c.execute(select(leases.c.token)).scalar_one()) == 200
    await other.close()


async def test_a_cancelled_caller_disturbs_nobody(db: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        inside.set()
        assert go_on.wait(20)
        add(connection, "slow")

    first = asyncio.ensure_future(db.write(slow))
    await asyncio.to_thread(inside.wait, 20)
    second = asyncio.ensure_future(db.write(add, "never"))
    third = asyncio.ensure_future(db.write(add, "third"))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await third
    assert first.cancelled() and second.cancelled()
    assert "third" in await db.read(names)
    assert "never" not in await db.read(names)


async def test_stop_iteration_does_not_hang_the_caller(db: Database) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await db.read(lambda connection: next(iter(())))


async def test_closing_finishes_what_was_asked_for(database_url: str) -> None:
    first = await Database.open(database_url)
    writes = [asyncio.ensure_future(first.write(add, f"u{number}")) for number in range(20)]
    await asyncio.sleep(0)
    await first.close()
    await asyncio.gather(*writes)
    with pytest.raises(Unavailable, match="closed"):
        await first.write(add, "late")
    await first.close()
    second = await Database.open(database_url)
    assert len(await second.read(names)) == 20
    await second.close()


# ---- durability

CRASH = """
import asyncio, os, signal, sys
from isthmus.db import users
from isthmus.db.engine import Database
from isthmus.domain.users import Role

def add(connection, name):
    users.create(connection, name, Role.MEMBER, now=1.0)

def add_and_die(connection):
    add(connection, "half")
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    db = await Database.open(sys.argv[1])
    for number in range(20):
        await db.write(add, f"u{number}")
        print(f"u{number}", flush=True)
    await db.write(add_and_die)

asyncio.run(main())
"""


async def test_a_crash_in_a_transaction_leaves_what_was_committed_and_nothing_else(database_url: str) -> None:
    def crash() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CRASH, database_url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = await asyncio.to_thread(crash)
    assert done.returncode == -9, done.stderr
    said = done.stdout.split()
    assert len(said) == 20
    db = await Database.open(database_url)
    assert sorted(said) == await db.read(names)
    await db.write(add, "after")  # nobody holds a lock any more
    await db.close()


# ---- trouble


async def hold_the_write_lock(url: str, until: threading.Event) -> asyncio.Task[None]:
    """Another process's long transaction, as this database sees one."""
    other = await Database.open(url)
    held = threading.Event()

    def hold(_connection: Connection) -> None:
        held.set()
        assert until.wait(20)

    async def run() -> None:
        await other.write(hold)
        await other.close()

    task = asyncio.create_task(run())
    await asyncio.to_thread(held.wait, 20)
    return task


async def test_a_database_held_by_another_is_unavailable_for_now(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.2)
    db = await Database.open(database_url)
    until = threading.Event()
    holder = await hold_the_write_lock(database_url, until)
    with pytest.raises(Unavailable, match="Another process holds the database"):
        await db.write(add, "ada")
    assert await db.read(names) == []  # reading goes on
    until.set()
    await holder
    await db.write(add, "ada")
    assert await db.read(names) == ["ada"]
    await db.close()


async def test_a_full_disk_is_unavailable_and_spoils_nothing(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path / 'full.db'}")
    await db.write(add, "ada")
    pages = await db.write(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    await db.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").close())

    def large(connection: Connection) -> None:
        for number in range(200):
            events.add(connection, "ada", "job", number, "created", now=1.0, message="x" * 1000)

    writes = [db.write(large), db.write(large), db.write(large)]
    for error in await asyncio.gather(*writes, return_exceptions=True):
        assert isinstance(error, Unavailable)
        assert error.transient
        assert "disk of the database is full" in str(error)
    assert await db.read(events.page) == []
    await db.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=100000").close())
    await db.write(large)
    assert await db.read(names) == ["ada"]
    await db.close()


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        await Database.open(f"sqlite:///{tmp_path / 'bad.db'}")


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path / 'own.db'}")
    await db.write(add, "ada")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes) == {"own.db", "own.db-wal", "own.db-shm"}
    assert set(modes.values()) == {0o600}
    await db.close()


async def test_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    """Durable means synchronous=FULL: in WAL mode NORMAL would lose the last commits with the machine's power."""
    for durable, level in ((True, 2), (False, 1)):
        db = await Database.open(f"sqlite:///{tmp_path / f'{durable}.db'}", durable=durable)
        found = await db.write(lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
        assert found == level
        await db.close()


async def test_foreign_keys_hold(db: Database) -> None:
    def orphan(connection: Connection) -> None:
        statement = "INSERT INTO tokens (user_id, name, hash, scopes, created_at) VALUES (99, 'n', 'h', '', 1)"
        connection.exec_driver_sql(statement)

    with pytest.raises(DBAPIError, match=re.compile("foreign key", re.IGNORECASE)):
        await db.write(orphan)


# ---- news


async def test_who_watches_is_told_after_the_commit(db: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def write(connection: Connection) -> None:
        tell(connection, "job:1", SUPERVISOR)
        inside.set()
        assert go_on.wait(20)

    with db.watch("job:1", "job:2") as news, db.watch(SUPERVISOR) as supervisor, db.watch("job:3") as other:
        writing = asyncio.ensure_future(db.write(write))
        await asyncio.to_thread(inside.wait, 20)
        assert not news.is_set()
        go_on.set()
        await writing
        assert news.is_set()
        assert not other.is_set()
        assert supervisor.is_set()


async def test_what_was_undone_is_not_told(db: Database) -> None:
    def fail(connection: Connection) -> None:
        tell(connection, "job:1")
        raise Conflict("no")

    def succeed(connection: Connection) -> None:
        tell(connection, "job:2")

    with db.watch("job:1") as undone, db.watch("job:2") as done:
        results = await asyncio.gather(
            *(db.write(fn) for fn in (fail, succeed, fail)), db.write(succeed), return_exceptions=True
        )
        assert [type(result) for result in results] == [Conflict, type(None), Conflict, type(None)]
        with pytest.raises(Conflict):
            await db.write(fail)
        await db.write(lambda connection: None)
        assert done.is_set()
        assert not undone.is_set()


async def test_a_watch_ends(db: Database) -> None:
    with db.watch("job:1") as news:
        pass
    await db.write(lambda connection: tell(connection, "job:1"))
    assert not news.is_set()


async def test_sqlite_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "wal.db"
    db = await Database.open(f"sqlite:///{path}")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert await asyncio.wait_for(db.read(names), 2) == []
    blocker.execute("ROLLBACK")
    blocker.close()
    await db.close()
