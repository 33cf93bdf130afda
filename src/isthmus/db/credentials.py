"""Rows of credentials: who a user is at a site. Private keys are ciphertexts here."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from isthmus.db.schema import credentials, users
from isthmus.db.statements import ONE

_AT_SITE = (
    select(*(column for column in credentials.c if column.name != "ciphertext"), users.c.name.label("user_name"))
    .join(users, users.c.id == credentials.c.user_id)
    .where(credentials.c.site_id == ONE)
    .order_by(users.c.name)
)


def put(
    connection: Connection,
    user_id: int,
    site_id: int,
    *,
    now: float,
    login: str = "",
    public_key: str = "",
    ciphertext: bytes | None = None,
    shared: bool = False,
) -> int:
    """Keep a user's credential at a site, in place of an older one; its id."""
    values = {"login": login, "public_key": public_key, "ciphertext": ciphertext, "shared": shared, "created_at": now}
    own = (credentials.c.user_id == user_id) & (credentials.c.site_id == site_id)
    changed = connection.execute(update(credentials).where(own).values(**values))
    if not changed.rowcount:
        connection.execute(credentials.insert().values(user_id=user_id, site_id=site_id, **values))
    return int(connection.execute(select(credentials.c.id).where(own)).scalar_one())


def own(connection: Connection, user_id: int, site_id: int) -> Any | None:
    """The user's own credential at the site."""
    mine = (credentials.c.user_id == user_id) & (credentials.c.site_id == site_id)
    return connection.execute(select(credentials).where(mine)).first()


def at_site(connection: Connection, site_id: int) -> Sequence[Any]:
    """All credentials at a site with ``user_name``; without their private halves."""
    return connection.execute(_AT_SITE, {"one": site_id}).all()


def change(connection: Connection, credential_id: int, **columns: Any) -> None:
    """Set columns of a credential."""
    connection.execute(update(credentials).where(credentials.c.id == credential_id).values(**columns))


def everything(connection: Connection) -> Sequence[Any]:
    """``id`` and ``ciphertext`` of all that have a private key, to encrypt them anew."""
    columns = select(credentials.c.id, credentials.c.ciphertext)
    return connection.execute(columns.where(credentials.c.ciphertext.is_not(None)).order_by(credentials.c.id)).all()


def replace(connection: Connection, row_id: int, ciphertext: bytes) -> None:
    """The same private key, encrypted by another key."""
    change(connection, row_id, ciphertext=ciphertext)
