"""Rows of metrics: the numbers that commands report, one a row, in the order in which they came."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select

from isthmus.db.schema import metric_blocks, metrics


class Value(NamedTuple):
    """One value of a metric. ``value`` None: it was not a finite number."""

    id: int
    at: float
    step: float | None
    value: float | None


SYSTEM = "system/"  # names of what the runner measures begin so; see `lifecycle`
BLOCK = 32  # values of a block
FEW = 8192  # values that are read faster than their blocks are looked through
MAX_ID = 2**62

_COLUMNS = select(metrics.c.id, metrics.c.at, metrics.c.step, metrics.c.value)
_ENDS = tuple(f"{which}_{field}" for which in ("low", "high") for field in Value._fields)
_BLOCK_COLUMNS = select(
    metric_blocks.c.first_id, metric_blocks.c.last_id, *(metric_blocks.c[name] for name in _ENDS)
).order_by(metric_blocks.c.first_id)

_OWN = metrics.c.attempt_id == bindparam("attempt")
_NAMED = _OWN & (metrics.c.name == bindparam("name"))
_LAST_BLOCK = (
    select(metric_blocks.c.last_id, metric_blocks.c.lowest, metric_blocks.c.highest)
    .where(metric_blocks.c.attempt_id == bindparam("attempt"), metric_blocks.c.name == bindparam("name"))
    .order_by(metric_blocks.c.first_id.desc())
    .limit(1)
)
_VALUES_FROM = select(metrics.c.value).where(_NAMED, metrics.c.id >= bindparam("first")).order_by(metrics.c.id)
_COUNT_AFTER = select(func.count()).where(_NAMED, metrics.c.id > bindparam("last"))
_VALUES_AFTER = _COLUMNS.where(_NAMED, metrics.c.id > bindparam("last")).order_by(metrics.c.id)


def _all_names() -> Select[Any]:
    """One look into the index for each name, however many values it has."""
    name = select(func.min(metrics.c.name).label("name")).where(_OWN).cte("names", recursive=True)
    following = select(func.min(metrics.c.name)).where(_OWN, metrics.c.name > name.c.name).scalar_subquery()
    name = name.union_all(select(following).where(name.c.name.is_not(None)))
    return select(name.c.name).where(name.c.name.is_not(None))


_NAMES = _all_names()

# Rows are many here: they are looked into by number, and become a Value when they are kept.
VALUE = Value._fields.index("value")
_VALUE, _ID = operator.itemgetter(VALUE), operator.itemgetter(0)


def insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add values: rows with ``attempt_id, name, step, at, value``."""
    if not rows:
        return
    connection.execute(metrics.insert(), list(rows))
    for attempt_id, name in {(row["attempt_id"], row["name"]) for row in rows}:
        close_blocks(connection, attempt_id, name)


def names(connection: Connection, attempt_id: int, *, system: bool = False) -> list[str]:
    """The metrics of an attempt, in the order of the alphabet; with ``system`` those that its runner measured."""
    found = connection.execute(_NAMES, {"attempt": attempt_id}).scalars()
    return [name for name in found if name.startswith(SYSTEM) == system]


def series(
    connection: Connection,
    attempt_id: int,
    name: str,
    *,
    after: int = 0,
    points: int = 0,
    between: tuple[float, float] | None = None,
    by_time: bool = False,
) -> tuple[list[Value], int]:
    """The values of a metric with ids above ``after``, oldest first, and how many there are.

    With ``points``, no more than so many are answered (at least 4): the first and last one, and the lowest and
    the highest of each stretch between, so that no spike is lost in a drawing. ``between`` leaves those whose step
    (or time, with ``by_time``) lies there; steps are taken to grow.
    """
    own = (metrics.c.attempt_id == attempt_id) & (metrics.c.name == name) & (metrics.c.id > after)
    key = metrics.c.at if by_time else func.coalesce(metrics.c.step, metrics.c.at)
    if between is not None:
        first, last = _ids_between(connection, attempt_id, name, between, by_time)
        own &= (metrics.c.id >= first) & (metrics.c.id <= last) & key.between(*between)
    elif points:
        told, count = _of_blocks(connection, attempt_id, name, after)
        if count:
            return [Value(*row) for row in thin(told, max(points, 4))], count
    rows = connection.execute(_COLUMNS.where(own).order_by(metrics.c.id)).all()
    kept = thin(rows, max(points, 4)) if points and len(rows) > max(points, 4) else rows
    return [Value(*row) for row in kept], len(rows)


def _of_blocks(connection: Connection, attempt_id: int, name: str, after: int) -> tuple[list[tuple[Any, ...]], int]:
    """The lowest and highest of each block, with all that stand in none, and how many values they are for.

    Nothing where the values are so few that reading them all is as quick.
    """
    own = (metric_blocks.c.attempt_id == attempt_id) & (metric_blocks.c.name == name)
    blocks = connection.execute(_BLOCK_COLUMNS.where(own, metric_blocks.c.first_id > after)).all()
    if len(blocks) * BLOCK <= FEW:
        return [], 0
    rows: list[tuple[Any, ...]] = []
    for block in blocks:
        low, high = tuple(block[2:6]), tuple(block[6:10])
        rows.extend((low, high) if low[0] < high[0] else (high, low) if high[0] < low[0] else (low,))
    mine = _COLUMNS.where(metrics.c.attempt_id == attempt_id, metrics.c.name == name).order_by(metrics.c.id)
    head = connection.execute(mine.where(metrics.c.id > after, metrics.c.id <= blocks[0].first_id)).all()
    tail = connection.execute(mine.where(metrics.c.id >= blocks[-1].last_id)).all()
    count = len(head) + len(tail) - 2 + len(blocks) * BLOCK
    seen = {row[0] for row in rows}
    edges = [tuple(row) for row in (*head, *tail) if row[0] not in seen]
    return sorted([*edges, *rows], key=_ID), count


def _ids_between(
    connection: Connection, attempt_id: int, name: str, between: tuple[float, float], by_time: bool
) -> tuple[int, int]:
    """Ids that hold all values with steps (or times) in that range, found by the blocks: the rest need not be read."""
    own = (metric_blocks.c.attempt_id == attempt_id) & (metric_blocks.c.name == name)
    first, last = 0, MAX_ID
    for block in connection.execute(_BLOCK_COLUMNS.where(own)):
        ends = (block[3], block[7]) if by_time else (_or(block[4], block[3]), _or(block[8], block[7]))
        if max(ends) < between[0]:
            first = block.first_id
        elif min(ends) > between[1]:
            last = block.last_id
            break
    return first, last


def _or(step: float | None, at: float) -> float:
    return at if step is None else step


def close_blocks(connection: Connection, attempt_id: int, name: str) -> None:
    """Add the blocks that are full now."""
    which = {"attempt": attempt_id, "name": name}
    before = connection.execute(_LAST_BLOCK, which).first()
    which["last"] = before.last_id if before else 0
    if connection.execute(_COUNT_AFTER, which).scalar_one() < BLOCK:
        return
    rows = connection.execute(_VALUES_AFTER, which).all()
    blocks = []
    lowest, highest = (before.lowest, before.highest) if before else (None, None)
    for start in range(0, len(rows) - BLOCK + 1, BLOCK):
        part = rows[start : start + BLOCK]
        finite = [row for row in part if row[VALUE] is not None] or part[:1]
        low = min(finite, key=_VALUE)
        high = max(finite, key=_VALUE)
        lowest, highest = _extreme(min, lowest, low[VALUE]), _extreme(max, highest, high[VALUE])
        block = {"attempt_id": attempt_id, "name": name, "first_id": part[0][0], "last_id": part[-1][0]}
        block |= {"lowest": lowest, "highest": highest}
        for which_end, row in (("low", low), ("high", high)):
            block |= {f"{which_end}_{field}": value for field, value in zip(Value._fields, row, strict=True)}
        blocks.append(block)
    connection.execute(metric_blocks.insert(), blocks)


def _extreme(which: Callable[[list[float]], float], *values: float | None) -> float | None:
    finite = [value for value in values if value is not None]
    return which(finite) if finite else None


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


def ends(connection: Connection, attempt_id: int, name: str) -> tuple[float | None, float | None, float | None] | None:
    """The last, the lowest and the highest value of a metric; None: it has none."""
    which = {"attempt": attempt_id, "name": name}
    block = connection.execute(_LAST_BLOCK, which).first()
    # The last value of the last block, and those that stand in none yet.
    values = connection.execute(_VALUES_FROM, {**which, "first": block.last_id if block else 0}).scalars().all()
    if not values:
        return None
    low, high = (block.lowest, block.highest) if block else (None, None)
    return values[-1], _extreme(min, low, *values), _extreme(max, high, *values)


def best(connection: Connection, attempt_id: int, name: str, *, highest: bool = False) -> Value | None:
    """The lowest (or highest) finite value of a metric; the earliest of equal ones; None: there is none."""
    own = (metrics.c.attempt_id == attempt_id) & (metrics.c.name == name) & metrics.c.value.is_not(None)
    order = metrics.c.value.desc() if highest else metrics.c.value
    columns = select(metrics.c.id, metrics.c.at, metrics.c.step, metrics.c.value)
    row = connection.execute(columns.where(own).order_by(order, metrics.c.id).limit(1)).first()
    return Value(*row) if row else None
