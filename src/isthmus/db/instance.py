"""Who this control plane is: one row, made when the database is first used."""

import secrets

from sqlalchemy import Connection, select

from isthmus.db.schema import instance


def name(connection: Connection, *, now: float) -> str:
    """The instance's name, 8 hex digits: its folder at each site. Made on first use; call it in a write."""
    row = connection.execute(select(instance.c.name)).first()
    if row:
        return str(row.name)
    made = secrets.token_hex(4)
    connection.execute(instance.insert().values(id=1, name=made, created_at=now))
    return made
