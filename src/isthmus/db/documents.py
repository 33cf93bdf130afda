"""Documents of admins, each kept whole with its version: what they say of placement, and the catalogue of prices."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from isthmus.db.notifications import PLACEMENT, tell
from isthmus.db.schema import documents

RULES = "rules"
CATALOGUE = "catalogue"

_ONE = select(documents)


def get(conn: Connection, name: str) -> Any | None:
    """The row of a document: body, version, changed_at, changed_by; None before somebody wrote it."""
    return conn.execute(_ONE.where(documents.c.name == name)).first()


def put(conn: Connection, name: str, body: str, *, now: float, by: str) -> int:
    """Write a document; its new version."""
    before = get(conn, name)
    version = before.version + 1 if before is not None else 1
    values = {"body": body, "version": version, "changed_at": now, "changed_by": by}
    if before is None:
        conn.execute(insert(documents).values(name=name, **values))
    else:
        conn.execute(update(documents).where(documents.c.name == name).values(**values))
    tell(conn, PLACEMENT)
    return version
