"""`client.events`: what happened, by whom and why; and what happens from now on."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from isthmus.client.connection import Connection
from isthmus.domain.users import Event
from isthmus.domain.views import EventPage

POLL_S = 60.0


class Events:
    """See the module."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        noun: str = "",
        noun_id: str = "",
        job: int = 0,
        actor: str = "",
        since: datetime | None = None,
        after: int = 0,
        newest: bool = False,
        limit: int = 100,
        wait_s: float = 0.0,
    ) -> EventPage:
        """A page of the history, the oldest first; with `wait_s`, waits that long for some."""
        query: dict[str, Any] = {
            "noun": noun,
            "noun_id": noun_id,
            "job": job or None,
            "actor": actor,
            "since": since,
            "after": after or None,
            "newest": newest or None,
            "limit": limit,
            "wait_s": wait_s or None,
        }
        return await self._connection.ask(EventPage, "GET", "/v1/events", query=query, wait_s=wait_s)

    async def follow(self, /, *, after: int | None = None, **filters: Any) -> AsyncIterator[Event]:
        """Events as they happen, from now on or after the event `after`. Ends when the reader does."""
        if after is None:
            page = await self.list(newest=True, limit=1)
            after = page.events[-1].id if page.events else 0
        while True:
            page = await self.list(after=after, wait_s=POLL_S, **filters)
            for event in page.events:
                after = event.id
                yield event
