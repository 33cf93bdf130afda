"""Rows of users. They are disabled, never deleted: the history names them."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from isthmus.db.schema import users
from isthmus.db.times import moment
from isthmus.domain.errors import Conflict, Invalid, NotFound, nearest
from isthmus.domain.users import Role, User

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}")
RESERVED = frozenset({"supervisor", "server"})  # actors of events that are no users


def create(connection: Connection, name: str, role: Role, *, now: float) -> User:
    """Add a user. Raises Invalid for a bad name and Conflict when there is one."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise Invalid(
            f"{name[:40]!r} is not a user's name.",
            place="name",
            hint="Up to 100 letters, digits and . _ @ + -; 'supervisor' and 'server' are taken.",
        )
    if find(connection, name):
        raise Conflict(f"There is a user {name!r} already.", place="name", code="user-exists")
    statement = users.insert().values(name=name, role=role.value, disabled=False, created_at=now)
    user_id = connection.execute(statement.returning(users.c.id)).scalar_one()
    return User(id=user_id, name=name, role=role, created_at=moment(now))


def find(connection: Connection, name: str) -> User | None:
    row = connection.execute(select(users).where(users.c.name == name)).first()
    return of_row(row) if row else None


def get(connection: Connection, name: str) -> User:
    """The user of this name. Raises NotFound with the nearest name."""
    user = find(connection, name)
    if user is None:
        names = connection.execute(select(users.c.name)).scalars()
        raise NotFound(f"There is no user {name!r}.", place="user", hint=nearest(name, names))
    return user


def every(connection: Connection) -> Sequence[User]:
    """All users, by name."""
    return [of_row(row) for row in connection.execute(select(users).order_by(users.c.name))]


def admins(connection: Connection) -> int:
    """How many admins may act."""
    statement = select(func.count()).where(users.c.role == Role.ADMIN.value, users.c.disabled.is_(False))
    return connection.execute(statement).scalar_one()


def set_role(connection: Connection, user_id: int, role: Role) -> None:
    connection.execute(update(users).where(users.c.id == user_id).values(role=role.value))


def set_disabled(connection: Connection, user_id: int, disabled: bool) -> None:
    connection.execute(update(users).where(users.c.id == user_id).values(disabled=disabled))


def of_row(row: Any) -> User:
    """The user of a row with the columns of `users`."""
    return User(id=row.id, name=row.name, role=Role(row.role), disabled=row.disabled, created_at=moment(row.created_at))
