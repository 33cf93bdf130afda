"""Rows of replicas, copies of content at sites, and of what live attempts need there.

A replica is known by its content's digest, the site, and the user in whose folder there it lies.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from isthmus.db.schema import attempts, replicas, sites, users, uses
from isthmus.domain.artefacts import ReplicaState


def put(
    connection: Connection,
    digest: str,
    site_id: int,
    user_id: int,
    *,
    state: ReplicaState,
    path: str = "",
    size: int = 0,
    bytes_done: int = 0,
    error: str = "",
    last_used_at: float | None = None,
) -> None:
    """Keep how a copy stands, in place of what was known of it."""
    values = {
        "state": state.value,
        "path": path,
        "size": size,
        "bytes_done": bytes_done,
        "error": error,
        "last_used_at": last_used_at,
    }
    if not connection.execute(update(replicas).where(_this(digest, site_id, user_id)).values(**values)).rowcount:
        connection.execute(replicas.insert().values(digest=digest, site_id=site_id, user_id=user_id, **values))


def get(connection: Connection, digest: str, site_id: int, user_id: int) -> Any | None:
    return connection.execute(select(replicas).where(_this(digest, site_id, user_id))).first()


def of_digest(connection: Connection, digest: str) -> Sequence[Any]:
    """All copies of content, with ``site_name`` and ``user_name``, by site."""
    return connection.execute(_named().where(replicas.c.digest == digest).order_by(sites.c.name)).all()


def at_site(connection: Connection, site_id: int, user_id: int | None = None) -> Sequence[Any]:
    """All copies at a site, or those in one user's folder there."""
    statement = _named().where(replicas.c.site_id == site_id).order_by(replicas.c.digest)
    if user_id is not None:
        statement = statement.where(replicas.c.user_id == user_id)
    return connection.execute(statement).all()


def last_used_at_site(connection: Connection, site_id: int, limit: int) -> Sequence[Any]:
    """Copies at a site, the last used first."""
    statement = _named().where(replicas.c.site_id == site_id).order_by(replicas.c.last_used_at.desc())
    return connection.execute(statement.limit(limit)).all()


def remove(connection: Connection, digest: str, site_id: int, user_id: int) -> None:
    """Forget a copy."""
    connection.execute(delete(replicas).where(_this(digest, site_id, user_id)))


def use(connection: Connection, attempt_id: int, digests: Iterable[str]) -> None:
    """Keep what content an attempt needs. May be said again."""
    had = set(connection.execute(select(uses.c.digest).where(uses.c.attempt_id == attempt_id)).scalars())
    rows = [{"attempt_id": attempt_id, "digest": digest} for digest in sorted(set(digests) - had)]
    if rows:
        connection.execute(uses.insert(), rows)


def needed(connection: Connection) -> set[str]:
    """All content that live attempts need."""
    statement = select(uses.c.digest).join(attempts, attempts.c.id == uses.c.attempt_id)
    return set(connection.execute(statement.where(attempts.c.live).distinct()).scalars())


def others(connection: Connection, digest: str, site_id: int, user_id: int) -> bool:
    """Whether another site or user has a verified copy of this content."""
    elsewhere = (replicas.c.site_id != site_id) | (replicas.c.user_id != user_id)
    verified = replicas.c.state == ReplicaState.PRESENT.value
    statement = select(replicas.c.digest).where(replicas.c.digest == digest, verified, elsewhere).limit(1)
    return connection.execute(statement).first() is not None


def _named() -> Any:
    return (
        select(replicas, sites.c.name.label("site_name"), users.c.name.label("user_name"))
        .join(sites, sites.c.id == replicas.c.site_id)
        .join(users, users.c.id == replicas.c.user_id)
    )


def _this(digest: str, site_id: int, user_id: int) -> ColumnElement[bool]:
    return (replicas.c.digest == digest) & (replicas.c.site_id == site_id) & (replicas.c.user_id == user_id)
