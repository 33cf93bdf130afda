"""Rows of the history: who or what changed which thing, from what to what, why. They are only ever added.

Each is told to those who watch the topics ``events`` and ``job:<id>``. Ids grow in the order of commits, so
who reads on after the last id that it saw misses none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select

from isthmus.db.notifications import tell
from isthmus.db.schema import events, jobs
from isthmus.db.times import moment
from isthmus.domain.users import Event, User

TOPIC = "events"

_INSERT = events.insert()


def insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add events: rows with ``at, actor, noun, noun_id, verb, before, after, reason, message, job_id``."""
    if not rows:
        return
    connection.execute(_INSERT, list(rows))
    tell(connection, TOPIC, *{f"job:{row['job_id']}" for row in rows if row["job_id"] is not None})


def add(
    connection: Connection,
    actor: str,
    noun: str,
    noun_id: object,
    verb: str,
    *,
    now: float,
    before: object = "",
    after: object = "",
    reason: str = "",
    message: str = "",
    job_id: int | None = None,
) -> None:
    """Add one event."""
    row = {
        "at": now,
        "actor": actor,
        "noun": noun,
        "noun_id": str(noun_id),
        "verb": verb,
        "before": str(before),
        "after": str(after),
        "reason": reason,
        "message": message,
        "job_id": job_id,
    }
    insert(connection, [row])


def page(
    connection: Connection,
    *,
    after: int = 0,
    before: int = 0,
    limit: int = 100,
    newest: bool = False,
    noun: str = "",
    noun_id: str = "",
    job: int = 0,
    actor: str = "",
    since: float | None = None,
    visible_to: User | None = None,
) -> Sequence[Event]:
    """Events with ids above ``after`` and below ``before``, the oldest first; all that is given must match.

    With ``newest`` the last ``limit`` of them instead of the first. ``visible_to`` leaves those that the user
    caused, and those of the user's own jobs.
    """
    wanted: list[ColumnElement[bool]] = [events.c.id > after]
    if before:
        wanted.append(events.c.id < before)
    if noun:
        wanted.append(events.c.noun == noun)
    if noun_id:
        wanted.append(events.c.noun_id == noun_id)
    if job:
        wanted.append(events.c.job_id == job)
    if actor:
        wanted.append(events.c.actor == actor)
    if since is not None:
        wanted.append(events.c.at >= since)
    if visible_to is not None:
        own = select(jobs.c.id).where(jobs.c.id == events.c.job_id, jobs.c.user_id == visible_to.id)
        wanted.append(or_(events.c.actor == visible_to.name, own.exists()))
    order = events.c.id.desc() if newest else events.c.id
    rows = connection.execute(select(events).where(*wanted).order_by(order).limit(limit)).all()
    return [_event(row) for row in (reversed(rows) if newest else rows)]


def _event(row: Any) -> Event:
    values = {name: value for name, value in row._mapping.items() if name != "at"}
    return Event(at=moment(row.at), **values)
