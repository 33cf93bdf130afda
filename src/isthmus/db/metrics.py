"""Rows of metrics: the numbers that commands report, one a row, in the order in which they came."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from isthmus.db.schema import metrics


class Value(NamedTuple):
    """One value of a metric. ``value`` None: it was not a finite number."""

    id: int
    at: float
    step: float | None
    value: float | None


# Rows are many here: they are looked into by number, and become a Value when they are kept.
VALUE = Value._fields.index("value")
_VALUE, _ID = operator.itemgetter(VALUE), operator.itemgetter(0)


def insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add values: rows with ``attempt_id, name, step, at, value``."""
    if rows:
        connection.execute(metrics.insert(), list(rows))


def names(connection: Connection, attempt_id: int) -> list[str]:
    """The metrics of an attempt, in the order of the alphabet."""
    found: list[str] = []
    of_attempt = select(func.min(metrics.c.name)).where(metrics.c.attempt_id == attempt_id)
    # One look into the index for each name, however many values it has.
    name = connection.execute(of_attempt).scalar()
    while name is not None:
        found.append(name)
        name = connection.execute(of_attempt.where(metrics.c.name > name)).scalar()
    return found


def series(
    connection: Connection, attempt_id: int, name: str, *, after: int = 0, points: int = 0
) -> tuple[list[Value], int]:
    """The values of a metric with ids above ``after``, oldest first, and how many there are.

    With ``points``, no more than so many are answered (at least 4): the first and last one, and the lowest and
    the highest of each stretch between, so that no spike is lost in a drawing.
    """
    columns = select(metrics.c.id, metrics.c.at, metrics.c.step, metrics.c.value)
    own = (metrics.c.attempt_id == attempt_id) & (metrics.c.name == name) & (metrics.c.id > after)
    rows = connection.execute(columns.where(own).order_by(metrics.c.id)).all()
    kept = thin(rows, max(points, 4)) if points and len(rows) > max(points, 4) else rows
    return [Value(*row) for row in kept], len(rows)


def thin(rows: Sequence[tuple[Any, ...]], points: int) -> Iterator[tuple[Any, ...]]:
    """At most ``points`` of rows like `Value`: both ends, and the lowest and highest of each equal stretch between."""
    yield rows[0]
    inner = len(rows) - 2
    stretches = (points - 2) // 2
    for number in range(stretches):
        part = rows[1 + inner * number // stretches : 1 + inner * (number + 1) // stretches]
        finite = [row for row in part if row[VALUE] is not None]
        if not finite:
            yield from part[:1]
            continue
        low, high = min(finite, key=_VALUE), max(finite, key=_VALUE)
        yield from sorted({low, high}, key=_ID)
    yield rows[-1]


def last(connection: Connection, attempt_id: int) -> dict[str, Value]:
    """The newest value of each metric of an attempt."""
    found: dict[str, Value] = {}
    for name in names(connection, attempt_id):
        own = (metrics.c.attempt_id == attempt_id) & (metrics.c.name == name)
        columns = select(metrics.c.id, metrics.c.at, metrics.c.step, metrics.c.value)
        row = connection.execute(columns.where(own).order_by(metrics.c.id.desc()).limit(1)).one()
        found[name] = Value(*row)
    return found


def best(connection: Connection, attempt_id: int, name: str, *, highest: bool = False) -> Value | None:
    """The lowest (or highest) finite value of a metric; the earliest of equal ones; None: there is none."""
    own = (metrics.c.attempt_id == attempt_id) & (metrics.c.name == name) & metrics.c.value.is_not(None)
    order = metrics.c.value.desc() if highest else metrics.c.value
    columns = select(metrics.c.id, metrics.c.at, metrics.c.step, metrics.c.value)
    row = connection.execute(columns.where(own).order_by(order, metrics.c.id).limit(1)).first()
    return Value(*row) if row else None
