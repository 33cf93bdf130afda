"""Rows of sites. What a site is and what was found there are JSON texts that only their owners read."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.db.schema import credentials, replicas, sites
from isthmus.domain.errors import Conflict, NotFound, nearest
from isthmus.domain.sites import Health, SiteState

# A row of `sites`.
SiteRow = Any

_PRESENT = select(sites).where(sites.c.state != SiteState.REMOVED.value)
_EVERY = _PRESENT.order_by(sites.c.name)
_EVER = select(sites).order_by(sites.c.name)
_ATTENTION = select(sites).where(sites.c.attention).order_by(sites.c.id)


def add(
    connection: Connection,
    name: str,
    spec: str,
    *,
    now: float,
    inventory: str = "{}",
    probed_at: float | None = None,
    health: Health = Health.UNKNOWN,
) -> int:
    """Add a site; its id. The name of a removed one may be taken again. Raises Conflict when there is one.

    Past attempts keep the row that they name, so a site that comes back gets its old row; what lay there and who
    was known there is forgotten, since it may be another machine.
    """
    values = {
        "state": SiteState.ENABLED.value,
        "health": health.value,
        "health_message": "",
        "spec": spec,
        "inventory": inventory,
        "probed_at": probed_at,
        "seen_at": probed_at,
        "retry_at": None,
        "created_at": now,
        "attention": True,
    }
    old = connection.execute(select(sites.c.id, sites.c.state).where(sites.c.name == name)).first()
    if old is not None and old.state != SiteState.REMOVED.value:
        raise Conflict(f"There is a site {name!r} already.", place="name", code="site-exists")
    tell(connection, SUPERVISOR)
    if old is None:
        new: Any = sites.insert().values(name=name, **values).returning(sites.c.id)
        return int(connection.execute(new).scalar_one())
    connection.execute(update(sites).where(sites.c.id == old.id).values(**values))
    connection.execute(delete(replicas).where(replicas.c.site_id == old.id))
    connection.execute(delete(credentials).where(credentials.c.site_id == old.id))
    return int(old.id)


def get(connection: Connection, name: str) -> SiteRow:
    """The site of this name. Raises NotFound with the nearest name; a removed one is not found."""
    row = connection.execute(_PRESENT.where(sites.c.name == name)).first()
    if row is None:
        names = [row.name for row in every(connection)]
        raise NotFound(f"There is no site {name!r}.", place="site", hint=nearest(name, names))
    return row


def by_id(connection: Connection, site_id: int) -> SiteRow:
    """The site with this id, removed or not. Raises NotFound."""
    row = connection.execute(select(sites).where(sites.c.id == site_id)).first()
    if row is None:
        raise NotFound(f"There is no site with id {site_id}.", place="site")
    return row


def every(connection: Connection, *, removed: bool = False) -> Sequence[SiteRow]:
    """All sites by name, with ``removed`` also those that were taken out."""
    return connection.execute(_EVER if removed else _EVERY).all()


def change(connection: Connection, site_id: int, **columns: Any) -> None:
    """Set columns of a site. With ``attention=True`` the supervisor is woken to look at it."""
    connection.execute(update(sites).where(sites.c.id == site_id).values(**columns))
    if columns.get("attention"):
        tell(connection, SUPERVISOR)


def marked(connection: Connection) -> Sequence[SiteRow]:
    """The sites that the supervisor must look at."""
    return connection.execute(_ATTENTION).all()


def take_attention(connection: Connection) -> Sequence[SiteRow]:
    """The sites that the supervisor must look at, each once: the mark is taken off."""
    rows = marked(connection)
    if rows:
        ids = [row.id for row in rows]
        connection.execute(update(sites).where(sites.c.id.in_(ids)).values(attention=False))
    return rows
