"""Figures of sites: the last value of each metric, or why there is none, and what was seen of transfers."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from isthmus.db.schema import figures

# What this control plane saw itself; no metric of an admin's can have such a name.
BYTES_PER_S = ":bytes_per_s"
NEW = 0.3  # the part of a new sample in a moving average

_EVERY = select(figures)


class Figure(NamedTuple):
    """``value`` None: it was never had. ``at`` is when it was; ``error`` why not since."""

    site_id: int
    name: str
    value: float | None
    at: float
    error: str = ""


def every(conn: Connection) -> dict[int, dict[str, Figure]]:
    """All figures, by site and name."""
    found: dict[int, dict[str, Figure]] = {}
    for row in conn.execute(_EVERY):
        found.setdefault(row.site_id, {})[row.name] = Figure(row.site_id, row.name, row.value, row.at, row.error)
    return found


def put(conn: Connection, news: Iterable[Figure]) -> None:
    """Keep new figures. One without a value leaves the last value, and its time, and says why there is no newer."""
    known = every(conn)
    for one in news:
        before = known.get(one.site_id, {}).get(one.name)
        if before is None:
            conn.execute(insert(figures).values(one._asdict()))
            continue
        values: dict[str, Any] = {"error": one.error}
        if one.value is not None:
            values = {"value": one.value, "at": one.at, "error": ""}
        conn.execute(
            update(figures).where(figures.c.site_id == one.site_id, figures.c.name == one.name).values(**values)
        )


def keep_only(conn: Connection, names: Iterable[str]) -> None:
    """Forget the figures of metrics that are no more."""
    conn.execute(delete(figures).where(figures.c.name.not_in([*names, BYTES_PER_S])))


def add_sample(conn: Connection, site_id: int, name: str, value: float, now: float) -> None:
    """Work a sample into a moving average, geometric because speeds spread over orders of magnitude."""
    before = every(conn).get(site_id, {}).get(name)
    if before is not None and before.value and value > 0:
        value = before.value ** (1.0 - NEW) * value**NEW
    put(conn, [Figure(site_id, name, value, now)])
