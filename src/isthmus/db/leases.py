"""Leases: one holder at a time of a name, for a while, with a token that grows at each change of hands.

The supervisor leads by one. Its writes check the token in their own transaction, so a leader that slept past its
lease can write nothing more. (Fencing tokens: Kleppmann, "How to do distributed locking", 2016.)
"""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from isthmus.db.schema import leases
from isthmus.db.statements import ONE
from isthmus.domain.errors import Conflict

_HELD = select(leases.c.token, leases.c.owner).where(leases.c.name == ONE)


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as its holder has it."""

    name: str
    owner: str
    token: int
    expires_at: float


def clock(connection: Connection) -> float:
    """UTC seconds by the one clock that all processes of this database share: its server's."""
    if connection.dialect.name == "postgresql":
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    return time.time()


def acquire(connection: Connection, name: str, owner: str, *, now: float, ttl_s: float) -> Lease | None:
    """Take the lease, or renew it where ``owner`` holds it; None while somebody else does.

    An owner that takes it again after it ran out gets a new token, even if nobody had it meanwhile.
    """
    row = connection.execute(select(leases).where(leases.c.name == name)).first()
    if row is None:
        mine = Lease(name, owner, 1, now + ttl_s)
        connection.execute(leases.insert().values(name=name, owner=owner, token=1, expires_at=mine.expires_at))
        return mine
    held = row.expires_at > now
    if held and row.owner != owner:
        return None
    mine = Lease(name, owner, row.token if held else row.token + 1, now + ttl_s)
    values = {"owner": owner, "token": mine.token, "expires_at": mine.expires_at}
    connection.execute(update(leases).where(leases.c.name == name).values(**values))
    return mine


def renew(connection: Connection, lease: Lease, *, now: float, ttl_s: float) -> Lease:
    """Hold it for longer. Raises Conflict when it is somebody else's by now."""
    check(connection, lease)
    expires_at = now + ttl_s
    connection.execute(update(leases).where(leases.c.name == lease.name).values(expires_at=expires_at))
    return Lease(lease.name, lease.owner, lease.token, expires_at)


def check(connection: Connection, lease: Lease) -> None:
    """Raise Conflict when the lease changed hands: the write that this stands in is then undone whole.

    A lease that ran out and that nobody took is still good: there is no other writer to fear.
    """
    row = connection.execute(_HELD, {"one": lease.name}).first()
    if row is None or row.token != lease.token or row.owner != lease.owner:
        other = row.owner if row else "nobody"
        raise Conflict(f"{lease.owner} no longer holds {lease.name!r}: {other} does.", code="lease-lost")


def release(connection: Connection, lease: Lease) -> None:
    """Let it go, so that another need not wait until it runs out. Silent if it is not ours any more."""
    mine = (leases.c.name == lease.name) & (leases.c.token == lease.token) & (leases.c.owner == lease.owner)
    connection.execute(update(leases).where(mine).values(expires_at=0.0))


def holder(connection: Connection, name: str, *, now: float) -> Lease | None:
    """Who holds it now."""
    row = connection.execute(select(leases).where(leases.c.name == name, leases.c.expires_at > now)).first()
    return Lease(row.name, row.owner, row.token, row.expires_at) if row else None
