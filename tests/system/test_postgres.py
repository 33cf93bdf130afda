"""A control plane of several processes on one PostgreSQL: news, leases, and a server that goes away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Connection

from isthmus.db import leases, threads, users
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.domain.errors import Conflict, Unavailable
from isthmus.domain.users import Role
from tests.testbed.postgres import PostgresServer


@pytest.fixture
async def pair(postgres: PostgresServer) -> AsyncIterator[tuple[Database, Database]]:
    """The same database as two processes see it."""
    first, second = await Database.open(postgres.url), await Database.open(postgres.url)
    yield first, second
    await first.close()
    await second.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that this test may stop."""
    with PostgresServer() as server:
        yield server


def add(connection: Connection, name: str) -> None:
    users.create(connection, name, Role.MEMBER, now=1.0)


def names(connection: Connection) -> list[str]:
    return [user.name for user in users.every(connection)]


async def heard(news: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await news.wait()


async def test_news_reaches_the_other_process(pair: tuple[Database, Database]) -> None:
    here, there = pair
    with there.watch("job:1") as news, there.watch(SUPERVISOR) as supervisor, there.watch("job:2") as other:
        await here.write(lambda connection: tell(connection, "job:1", SUPERVISOR))
        await heard(news)
        assert supervisor.is_set()
        assert not other.is_set()


async def test_much_news_at_once_wakes_everybody(pair: tuple[Database, Database]) -> None:
    """More topics than one notification can carry."""
    here, there = pair
    with there.watch("job:9999") as news:
        await here.write(lambda connection: tell(connection, *(f"job:{number}" for number in range(10_000))))
        await heard(news)


async def test_what_was_undone_is_told_to_nobody(pair: tuple[Database, Database]) -> None:
    here, there = pair

    def fail(connection: Connection) -> None:
        tell(connection, "job:1")
        raise Conflict("no")

    with there.watch("job:1") as undone, there.watch("job:2") as done:
        with pytest.raises(Conflict):
            await here.write(fail)
        await here.write(lambda connection: tell(connection, "job:2"))
        await heard(done)  # notifications come in order
        assert not undone.is_set()


async def test_a_server_that_restarts_is_found_again(own_server: PostgresServer) -> None:
    db = await Database.open(own_server.url)
    await db.write(add, "before")
    with db.watch("anything") as news:
        await asyncio.to_thread(own_server.restart)
        # The connections broke while they lay idle: nothing was asked on them, so nobody need know.
        await db.write(add, "after")
        assert await db.read(names) == ["after", "before"]
        await heard(news)  # some of it may have been missed: everybody looks once
        news.clear()
        other = await Database.open(own_server.url)
        await other.write(lambda connection: tell(connection, "anything"))
        await heard(news)
        await other.close()
    await db.close()


async def test_while_the_server_is_away_calls_say_so_and_later_ones_work(own_server: PostgresServer) -> None:
    db = await Database.open(own_server.url)
    await db.write(add, "before")
    await asyncio.to_thread(own_server.stop_server)
    for call in (db.write(add, "lost"), db.read(names)):
        with pytest.raises(Unavailable, match="no connection to the database server"):
            await call
    await asyncio.to_thread(own_server.resume)
    assert await db.read(names) == ["before"]
    await db.write(add, "after")
    await db.close()


async def test_a_connection_cut_in_a_transaction_undoes_it_whole(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who share the commit as well: all of them hear of it, none of it is kept."""
    here, there = pair
    monkeypatch.setattr(threads, "GROUP_S", 60.0)  # what waits is committed together, however slow this machine is
    inside, go_on = threading.Event(), threading.Event()

    def hold(_connection: Connection) -> None:
        inside.set()
        assert go_on.wait(20)

    def cut_myself_off(connection: Connection) -> None:
        add(connection, "half")
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
        add(connection, "never")

    holding = asyncio.ensure_future(here.write(hold))
    await asyncio.to_thread(inside.wait, 20)
    calls = [here.write(add, "before"), here.write(cut_myself_off), here.write(add, "behind")]
    writing = asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)  # all three wait now for the writer
    go_on.set()
    await holding
    assert [type(result) for result in await writing] == [Unavailable, Unavailable, type(None)]
    assert await there.read(names) == ["behind"]


async def test_no_server_and_no_database_are_told_apart(own_server: PostgresServer) -> None:
    with pytest.raises(Unavailable, match='database "nothing" does not exist'):
        await Database.open(own_server.url.rsplit("/", 1)[0] + "/nothing")
    await asyncio.to_thread(own_server.stop_server)
    with pytest.raises(Unavailable, match=r"no connection to the database server.*refused"):
        await Database.open(own_server.url)


HOLDER = """
import asyncio, sys
from isthmus.db import leases
from isthmus.db.engine import Database

async def main():
    db = await Database.open(sys.argv[1])
    lease = await db.write(lambda c: leases.acquire(c, "lead", "first", now=leases.clock(c), ttl_s=3.0))
    print(lease.token, flush=True)
    while True:
        await asyncio.sleep(0.5)
        lease = await db.write(lambda c: leases.renew(c, lease, now=leases.clock(c), ttl_s=3.0))

asyncio.run(main())
"""


async def test_a_lease_passes_on_when_its_holder_dies(postgres: PostgresServer) -> None:
    db = await Database.open(postgres.url)
    command = [sys.executable, "-c", HOLDER, postgres.url]
    holder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"1\n"

        def take(connection: Connection) -> leases.Lease | None:
            return leases.acquire(connection, "lead", "second", now=leases.clock(connection), ttl_s=60.0)

        assert await db.write(take) is None
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        async with asyncio.timeout(20):
            while (taken := await db.write(take)) is None:
                await asyncio.sleep(0.05)
        assert taken.token == 2
    finally:
        if holder.returncode is None:
            holder.kill()
            await holder.wait()
        await db.close()


async def test_many_processes_write_at_once(postgres: PostgresServer) -> None:
    """Each as fast as it can; all of it is kept, and nobody is turned away."""
    databases = [await Database.open(postgres.url) for _ in range(4)]
    await asyncio.gather(
        *(databases[number % 4].write(add, f"u{number:03}") for number in range(400)),
        *(databases[number % 4].read(names) for number in range(40)),
    )
    assert await databases[0].read(names) == [f"u{number:03}" for number in range(400)]
    for database in databases:
        await database.close()
