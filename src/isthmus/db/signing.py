"""Rows of how people sign in: passwords, identities at OpenID providers, links that work once, browser sessions.

Of what is random and long (links, sessions) the sha256 is kept; passwords come here as argon2id hashes.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from isthmus.db.schema import browser_sessions, identities, passwords, sign_in_codes, tokens, users
from isthmus.db.tokens import digest

TOUCH_S = 60.0


# ---- passwords


def password_of(connection: Connection, name: str) -> Any | None:
    """``user_id``, ``name``, ``disabled`` of the user of this name, and the ``hash`` of their password (None: none)."""
    statement = (
        select(users.c.id.label("user_id"), users.c.name, users.c.disabled, passwords.c.hash)
        .outerjoin(passwords, passwords.c.user_id == users.c.id)
        .where(users.c.name == name)
    )
    return connection.execute(statement).first()


def set_password(connection: Connection, user_id: int, hashed: str, *, now: float) -> None:
    """Keep a password's hash in place of an older one."""
    remove_password(connection, user_id)
    connection.execute(passwords.insert().values(user_id=user_id, hash=hashed, changed_at=now))


def remove_password(connection: Connection, user_id: int) -> None:
    connection.execute(delete(passwords).where(passwords.c.user_id == user_id))


def with_password(connection: Connection) -> frozenset[int]:
    """The ids of the users who have a password."""
    return frozenset(row.user_id for row in connection.execute(select(passwords.c.user_id)))


# ---- identities


def user_of_identity(connection: Connection, issuer: str, subject: str) -> int | None:
    """The user that this identity was given to."""
    own = (identities.c.issuer == issuer) & (identities.c.subject == subject)
    return connection.execute(select(identities.c.user_id).where(own)).scalar()


def add_identity(connection: Connection, issuer: str, subject: str, user_id: int, *, now: float) -> None:
    values = {"issuer": issuer, "subject": subject, "user_id": user_id, "created_at": now}
    connection.execute(identities.insert().values(**values))


# ---- links


def add_code(connection: Connection, user_id: int, token_id: int | None, *, now: float, expires_at: float) -> str:
    """A code that signs in once; those that have expired are taken away."""
    connection.execute(delete(sign_in_codes).where(sign_in_codes.c.expires_at <= now))
    code = secrets.token_urlsafe(24)
    values = {"hash": digest(code), "user_id": user_id, "token_id": token_id, "expires_at": expires_at}
    connection.execute(sign_in_codes.insert().values(**values))
    return code


def take_code(connection: Connection, code: str, *, now: float) -> Any | None:
    """``user_id`` and ``token_id`` of a code that is good, which it is not any more."""
    own = sign_in_codes.c.hash == digest(code)
    row = connection.execute(select(sign_in_codes).where(own, sign_in_codes.c.expires_at > now)).first()
    connection.execute(delete(sign_in_codes).where(own))
    return row


# ---- sessions


def add_session(
    connection: Connection,
    user_id: int,
    token_id: int | None,
    *,
    way: str,
    agent: str,
    address: str,
    now: float,
    expires_at: float,
) -> str:
    """Add a session; what the browser is to keep. Sessions that have expired are taken away."""
    connection.execute(delete(browser_sessions).where(browser_sessions.c.expires_at <= now))
    plain = secrets.token_urlsafe(32)
    connection.execute(
        browser_sessions.insert().values(
            hash=digest(plain),
            user_id=user_id,
            token_id=token_id,
            way=way,
            agent=agent[:300],
            address=address[:100],
            created_at=now,
            seen_at=now,
            expires_at=expires_at,
        )
    )
    return plain


def find_session(connection: Connection, plain: str) -> Any | None:
    """The session that the browser names, with its user's ``user_name``, ``role``, ``disabled`` and, where it has
    one, its token's ``scopes``, ``token_expires_at`` and ``revoked_at``."""
    return connection.execute(_sessions().where(browser_sessions.c.hash == digest(plain))).first()


def sessions_of(connection: Connection, user_id: int) -> Sequence[Any]:
    """A user's sessions, the last used first."""
    own = browser_sessions.c.user_id == user_id
    return connection.execute(_sessions().where(own).order_by(browser_sessions.c.seen_at.desc())).all()


def touch_session(connection: Connection, session_id: int, *, now: float, expires_at: float) -> None:
    """Keep when it was last used, to the minute, and let it go on from there."""
    statement = update(browser_sessions).where(browser_sessions.c.id == session_id)
    connection.execute(statement.values(seen_at=now, expires_at=expires_at))


def end_sessions(
    connection: Connection, user_id: int, *, session_id: int | None = None, keep: int | None = None
) -> int:
    """End one session of a user's, or all of them but ``keep``; how many there were."""
    statement = delete(browser_sessions).where(browser_sessions.c.user_id == user_id)
    if session_id is not None:
        statement = statement.where(browser_sessions.c.id == session_id)
    if keep is not None:
        statement = statement.where(browser_sessions.c.id != keep)
    return connection.execute(statement).rowcount


def _sessions() -> Any:
    return (
        select(
            browser_sessions,
            users.c.name.label("user_name"),
            users.c.role,
            users.c.disabled,
            tokens.c.scopes,
            tokens.c.expires_at.label("token_expires_at"),
            tokens.c.revoked_at,
        )
        .join(users, users.c.id == browser_sessions.c.user_id)
        .outerjoin(tokens, tokens.c.id == browser_sessions.c.token_id)
    )
