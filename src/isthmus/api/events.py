"""/v1/events: the history, in pages, by long poll, or as a stream of server-sent events."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import AwareDatetime
from starlette.responses import Response, StreamingResponse

from isthmus import codec
from isthmus.api.jobs import WaitS
from isthmus.api.routes import MAX_ID, answer, router
from isthmus.api.services import By, Services, Use
from isthmus.control.identity import EventFilter
from isthmus.domain.users import Caller, Event
from isthmus.domain.views import EventPage

routes = router("/events", "events")

KEEP_ALIVE_S = 15.0  # a comment this often, so that nothing on the way takes a quiet stream for a dead one

Noun = Annotated[str, Query(max_length=20, description="job, site, dataset, image, token, user or secret.")]
NounId = Annotated[str, Query(max_length=220)]
JobId = Annotated[int, Query(ge=0, le=MAX_ID)]
Actor = Annotated[str, Query(max_length=100, description="A user's name, or supervisor.")]
After = Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before.")]


@routes.get("", response_model=EventPage)
async def list_events(
    services: Use,
    caller: By,
    noun: Noun = "",
    noun_id: NounId = "",
    job: JobId = 0,
    actor: Actor = "",
    since: Annotated[AwareDatetime | None, Query()] = None,
    after: After = 0,
    newest: Annotated[bool, Query(description="The last `limit` of them instead of the first.")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    wait_s: WaitS = 0.0,
) -> Response:
    """A page of the history, the oldest first; with `wait_s`, waits that long for an event when there is none."""
    which = _filter(noun, noun_id, job, actor, since, after, newest, limit)
    page = await services.identity.events(caller, which)
    if not page.events and wait_s:
        await services.unless_stopping(_first(services, caller, which, wait_s))
        page = await services.identity.events(caller, which)
    return answer(page)


@routes.get(
    "/stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `id` is the event's id, `event` its noun, `data` an Event.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
)
async def stream(
    services: Use,
    caller: By,
    noun: Noun = "",
    noun_id: NounId = "",
    job: JobId = 0,
    actor: Actor = "",
    after: After = 0,
    last_event_id: Annotated[str, Header(pattern=r"^\d{0,15}$", description="Where to go on.")] = "",
) -> Response:
    """The history from `after` on, and whatever happens from now on. A browser's EventSource goes on by itself."""
    begin = int(last_event_id) if last_event_id else after
    which = _filter(noun, noun_id, job, actor, None, begin, False, 100)
    events = services.identity.follow(caller, which)
    return StreamingResponse(
        _lines(services, events), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _lines(services: Services, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The events as text/event-stream, with a comment now and then; ends when the server stops."""
    yield b": isthmus\n\n"
    stop = asyncio.ensure_future(services.stopping.wait())
    coming: asyncio.Future[Event] = asyncio.ensure_future(_next(events))
    try:
        while not stop.done():
            waiting: set[asyncio.Future[Any]] = {coming, stop}
            await asyncio.wait(waiting, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                event = coming.result()
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.noun.encode(), codec.write_json(event))
                coming = asyncio.ensure_future(_next(events))
            elif not stop.done():
                yield b": still here\n\n"
    finally:
        stop.cancel()
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await coming
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def _next(events: AsyncIterator[Event]) -> Event:
    return await anext(events)


async def _first(services: Services, caller: Caller, which: EventFilter, wait_s: float) -> None:
    events = services.identity.follow(caller, which)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_next(events), wait_s)
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def _filter(
    noun: str,
    noun_id: str,
    job: int,
    actor: str,
    since: datetime | None,
    after: int,
    newest: bool,
    limit: int,
) -> EventFilter:
    return EventFilter(
        noun=noun, noun_id=noun_id, job=job, actor=actor, since=since, after=after, newest=newest, limit=limit
    )
