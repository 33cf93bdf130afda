"""The history as people see it: pages of events, and events as they come.

Admins see everything; others see what they did themselves and what their own jobs went through.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from isthmus.db import events
from isthmus.db.engine import Database
from isthmus.domain.users import Caller, Event, Role
from isthmus.domain.views import EventPage


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list. An empty field does not filter."""

    noun: str = ""
    noun_id: str = ""
    job: int = 0
    actor: str = ""
    since: datetime | None = None
    after: int = 0  # ids greater than this; the oldest come first
    before: int = 0  # ids smaller than this; 0: all
    newest: bool = False  # instead: the newest `limit` of them, still the oldest first
    limit: int = 100


async def page(db: Database, caller: Caller, which: EventFilter) -> EventPage:
    """Some of the history, the oldest first."""
    found = await db.read(_read, caller, which, which.after)
    more = len(found) == which.limit and not which.newest
    return EventPage(events=tuple(found), next=found[-1].id if more else None)


async def follow(
    db: Database, caller: Caller, which: EventFilter, check: Callable[[Connection], None]
) -> AsyncIterator[Event]:
    """Events after ``which.after`` and all that come from now on; ends only when the reader does.

    ``check`` is called before each look and raises when the caller may see no more.
    """
    after = which.after

    def read(connection: Connection) -> Sequence[Event]:
        check(connection)
        return _read(connection, caller, which, after)

    with db.watch(events.TOPIC) as news:
        while True:
            news.clear()
            found = await db.read(read)
            for event in found:
                after = event.id
                yield event
            if len(found) < which.limit:
                await news.wait()


def _read(connection: Connection, caller: Caller, which: EventFilter, after: int) -> Sequence[Event]:
    return events.page(
        connection,
        after=after,
        before=which.before,
        limit=which.limit,
        newest=which.newest and after == which.after,
        noun=which.noun,
        noun_id=which.noun_id,
        job=which.job,
        actor=which.actor,
        since=which.since.timestamp() if which.since else None,
        visible_to=None if caller.user.role is Role.ADMIN else caller.user,
    )
