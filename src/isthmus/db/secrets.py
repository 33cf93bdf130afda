"""Rows of secrets: names and ciphertexts. This module never sees what a secret says."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select, update

from isthmus.db.schema import secrets
from isthmus.db.statements import ONE
from isthmus.domain.errors import NotFound, nearest

_EVERY = select(secrets.c.name, secrets.c.created_at).where(secrets.c.user_id == ONE).order_by(secrets.c.name)


def put(connection: Connection, user_id: int, name: str, ciphertext: bytes, *, now: float) -> bool:
    """Keep a user's secret under this name, in place of an older one. Whether it is new."""
    own = (secrets.c.user_id == user_id) & (secrets.c.name == name)
    changed = connection.execute(update(secrets).where(own).values(ciphertext=ciphertext, created_at=now))
    if changed.rowcount:
        return False
    connection.execute(secrets.insert().values(user_id=user_id, name=name, ciphertext=ciphertext, created_at=now))
    return True


def every(connection: Connection, user_id: int) -> Sequence[Any]:
    """``name`` and ``created_at`` of a user's secrets, by name."""
    return connection.execute(_EVERY, {"one": user_id}).all()


def ciphertexts(connection: Connection, user_id: int, names: Iterable[str]) -> dict[str, bytes]:
    """The user's secrets of these names. Raises NotFound that names one that is missing, and the nearest."""
    wanted = sorted(set(names))
    own = select(secrets.c.name, secrets.c.ciphertext).where(secrets.c.user_id == user_id)
    found = {row.name: row.ciphertext for row in connection.execute(own.where(secrets.c.name.in_(wanted)))}
    for name in wanted:
        if name not in found:
            known = [row.name for row in every(connection, user_id)]
            raise NotFound(f"There is no secret {name!r}.", place="secrets", hint=nearest(name, known))
    return found


def remove(connection: Connection, user_id: int, name: str) -> None:
    """Delete a secret. Raises NotFound with the nearest name."""
    gone = connection.execute(delete(secrets).where(secrets.c.user_id == user_id, secrets.c.name == name))
    if not gone.rowcount:
        known = [row.name for row in every(connection, user_id)]
        raise NotFound(f"There is no secret {name!r}.", place="name", hint=nearest(name, known))


def everything(connection: Connection) -> Sequence[Any]:
    """``id`` and ``ciphertext`` of all users' secrets, to encrypt them anew."""
    return connection.execute(select(secrets.c.id, secrets.c.ciphertext).order_by(secrets.c.id)).all()


def replace(connection: Connection, row_id: int, ciphertext: bytes) -> None:
    """The same secret, encrypted by another key."""
    connection.execute(update(secrets).where(secrets.c.id == row_id).values(ciphertext=ciphertext))
