"""Rows of access tokens: 256 random bits each, of which only the sha256 is kept.

A plain hash is enough for them: nothing is gained by guessing at 256 bits, however quick the hash.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, or_, select, update

from isthmus.db.schema import tokens, users
from isthmus.db.statements import ONE
from isthmus.domain.users import Scope

PREFIX = "ist_"  # so that people and scanners of leaked credentials know one when they see it
TOUCH_S = 60.0

_NAMED = select(tokens, users.c.name.label("user_name"), users.c.role, users.c.disabled).join(
    users, users.c.id == tokens.c.user_id
)
_BY_HASH = _NAMED.where(tokens.c.hash == ONE)


def create(
    connection: Connection,
    user_id: int,
    name: str,
    scopes: Iterable[Scope],
    *,
    now: float,
    expires_at: float | None = None,
) -> tuple[int, str]:
    """Add a token; its id and the token itself, which nobody can read again."""
    plain = PREFIX + secrets.token_urlsafe(32)
    statement = tokens.insert().values(
        user_id=user_id,
        name=name,
        hash=digest(plain),
        scopes=" ".join(sorted(scope.value for scope in scopes)),
        created_at=now,
        expires_at=expires_at,
    )
    return connection.execute(statement.returning(tokens.c.id)).scalar_one(), plain


def digest(plain: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(plain.encode()).hexdigest()


def find(connection: Connection, plain: str) -> Any | None:
    """The row of this token with its user's ``user_name``, ``role`` and ``disabled``; revoked ones as well."""
    return connection.execute(_BY_HASH, {"one": digest(plain)}).first()


def by_id(connection: Connection, token_id: int) -> Any | None:
    return connection.execute(_NAMED.where(tokens.c.id == token_id)).first()


def every(connection: Connection, user_id: int | None = None) -> Sequence[Any]:
    """A user's tokens, or everybody's; the oldest first."""
    statement = _NAMED.order_by(tokens.c.id)
    if user_id is not None:
        statement = statement.where(tokens.c.user_id == user_id)
    return connection.execute(statement).all()


def touch(connection: Connection, token_id: int, *, now: float) -> None:
    """Keep when it was last used, to the minute."""
    old = or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < now - TOUCH_S)
    connection.execute(update(tokens).where(tokens.c.id == token_id, old).values(last_used_at=now))


def revoke(connection: Connection, token_id: int, *, now: float) -> None:
    """End it for good; what was revoked already stays as it is."""
    connection.execute(
        update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    )


def scopes_of(row: Any) -> frozenset[Scope]:
    return frozenset(Scope(word) for word in row.scopes.split())
