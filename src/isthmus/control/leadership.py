"""Leadership: the lease by which one supervisor leads, and writes that fail unless it still does.

A leader renews its lease; one that was asleep for longer than it lasts finds out at its next write, which checks the
lease in its own transaction and fails. A leader that was a process of this machine and is no more need not be waited
for.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from isthmus.db import leases
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, IsthmusError, Unavailable

T = TypeVar("T")

LEASE = "supervisor"
LEASE_S = 15.0


class LostLease(IsthmusError):
    """Another supervisor leads."""


class Leadership:
    """The lease of one supervisor: won, kept, lost."""

    def __init__(self, db: Database, clock: Clock, name: str = "") -> None:
        self.name = name or process_name()
        self._db = db
        self._clock = clock
        self._lease: leases.Lease | None = None

    async def win(self) -> None:
        """Return when the lease is ours; that may take for ever."""
        while self._lease is None:
            with contextlib.suppress(Unavailable):
                self._lease = await self._db.write(_take_lease, self.name)
            if self._lease is None:
                await self._clock.sleep(LEASE_S / 15)

    async def keep(self) -> None:
        """Renew the lease until it is lost: raises LostLease in time when that fails for long, whatever the reason."""
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(LEASE_S / 3)
            assert self._lease is not None
            try:
                await self._db.write(_renew_lease, self._lease)
                renewed = self._clock.monotonic()
            except Conflict as error:
                raise LostLease(str(error)) from error
            except Unavailable as error:
                if self._clock.monotonic() - renewed > LEASE_S * 0.8:
                    raise LostLease(f"The lease could not be renewed: {error}") from error

    async def record(self, fn: Callable[..., T], *args: Any) -> T:
        """Write in a transaction that fails with LostLease unless we lead."""
        lease = self._lease
        if lease is None:
            raise LostLease("This supervisor does not lead.")

        def fenced(conn: Connection) -> T:
            try:
                leases.check(conn, lease)
            except Conflict as error:
                raise LostLease(str(error)) from error
            return fn(conn, *args)

        return await self._db.write(fenced)

    async def release(self) -> None:
        """Let another lead at once. Silent if the lease is lost already."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(IsthmusError):
                await asyncio.shield(self._db.write(leases.release, lease))


def process_name() -> str:
    """This process, told from all others: host, pid, and when it started (pids come again)."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{secrets.token_hex(2)}"


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_dead(owner: str) -> bool:
    """Whether the owner is a process of this machine that is no more: then nobody need wait for its lease."""
    host, _, rest = owner.partition("/")
    pid, _, rest = rest.partition("/")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _started(int(pid)) != rest.partition("/")[0]


def _take_lease(conn: Connection, owner: str) -> leases.Lease | None:
    now = leases.clock(conn)
    other = leases.holder(conn, LEASE, now=now)
    if other is not None and other.owner != owner and _is_dead(other.owner):
        leases.release(conn, other)
    return leases.acquire(conn, LEASE, owner, now=now, ttl_s=LEASE_S)


def _renew_lease(conn: Connection, lease: leases.Lease) -> None:
    leases.renew(conn, lease, now=leases.clock(conn), ttl_s=LEASE_S)
