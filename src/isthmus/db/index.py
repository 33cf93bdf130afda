"""Light rows that are kept in memory for placement: artefacts, replicas, names of users."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from isthmus.db.schema import artefacts, replicas, users

_MARK = select(func.max(artefacts.c.id), func.max(artefacts.c.removed_at))
_USERS = select(func.count()).select_from(users)


def artefact_mark(conn: Connection) -> tuple[int, float]:
    """Changes whenever an artefact is registered or removed: (the last id, the last removal)."""
    row = conn.execute(_MARK).one()
    return (row[0] or 0, row[1] or 0.0)


def artefact_facts(conn: Connection) -> Sequence[Any]:
    """Of every artefact: kind, name, version, digest, size, format, zones; the oldest first."""
    columns = (
        artefacts.c.id,
        artefacts.c.kind,
        artefacts.c.name,
        artefacts.c.version,
        artefacts.c.digest,
        artefacts.c.size,
        artefacts.c.format,
        artefacts.c.reference,
        artefacts.c.is_folder,
        artefacts.c.zones,
        artefacts.c.labels,
    )
    return conn.execute(select(*columns).where(artefacts.c.removed_at.is_(None)).order_by(artefacts.c.id)).all()


def present_at(conn: Connection, site_id: int) -> set[str]:
    """The digests of which the site has a verified copy."""
    statement = select(replicas.c.digest).where(replicas.c.site_id == site_id, replicas.c.state == "PRESENT")
    return {row.digest for row in conn.execute(statement)}


def user_count(conn: Connection) -> int:
    return int(conn.execute(_USERS).scalar_one())


def user_names(conn: Connection) -> dict[int, str]:
    return {row.id: row.name for row in conn.execute(select(users.c.id, users.c.name))}
