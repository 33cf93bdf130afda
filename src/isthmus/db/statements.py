"""Statements that are built once and run often: SQLAlchemy takes several times as long to build one as to run it.

    _STATES = select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(SOME))
    rows = in_parts(conn, _STATES, ids)

Owns how long lists of values are cut into statements. Knows no table.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, Row, Table, Update, bindparam, update

PART = 500  # values in one statement: databases bound them

SOME: Any = bindparam("some", expanding=True)
ONE: Any = bindparam("one")


def in_parts(conn: Connection, statement: Executable, values: Sequence[Any]) -> Iterator[Row[Any]]:
    """The rows of a statement that has ``SOME`` in it, for these values."""
    for start in range(0, len(values), PART):
        yield from conn.execute(statement, {"some": values[start : start + PART]})


def change_by_id(conn: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns: each row has an ``id`` and what changes."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        names = tuple(sorted(name for name in row if name != "id"))
        groups.setdefault(names, []).append({"one": row["id"], **{name: row[name] for name in names}})
    for names, values in groups.items():
        conn.execute(_update(table, names), values)


@functools.cache
def _update(table: Table, names: tuple[str, ...]) -> Update:
    return update(table).where(table.c.id == ONE).values({name: bindparam(name) for name in names})
