"""Rows of saved views: filters of the list of jobs that a user gave a name."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from isthmus.db.schema import saved_views


def of_user(connection: Connection, user_id: int) -> Sequence[Any]:
    """A user's views, by name."""
    statement = select(saved_views).where(saved_views.c.user_id == user_id).order_by(saved_views.c.name)
    return connection.execute(statement).all()


def put(connection: Connection, user_id: int, name: str, query: str, *, now: float) -> None:
    """Keep a view, in place of an older one of this name."""
    remove(connection, user_id, name)
    values = {"user_id": user_id, "name": name, "query": query, "created_at": now}
    connection.execute(saved_views.insert().values(**values))


def remove(connection: Connection, user_id: int, name: str) -> bool:
    """Whether there was one."""
    own = (saved_views.c.user_id == user_id) & (saved_views.c.name == name)
    return connection.execute(delete(saved_views).where(own)).rowcount > 0
