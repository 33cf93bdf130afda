"""Live pages: one watch of the history for all browsers, told to each as server-sent events.

Changes are gathered for a moment, so that a storm of them is one message; what a message holds (the cells of the rows
that changed) is rendered once, however many look. A page that needs more than cells asks for its regions again.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response, StreamingResponse

from isthmus.api.services import Services
from isthmus.control.history import EventFilter
from isthmus.domain.errors import IsthmusError, Unauthenticated
from isthmus.domain.users import Caller, Event, Role, User
from isthmus.domain.views import JobView
from isthmus.panel.rendering import Renderer
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

GATHER_S = 1.0
MANY = 200  # rows that change at once before pages are told to ask for themselves
KEEP_ALIVE_S = 20.0
PROGRESS_S = 3.0  # between looks at how far running jobs say they are
BACKLOG = 20  # messages that a browser may be behind before it must begin anew

# It watches for all. Jobs are everybody's to see; who may see which event is decided where events are shown.
WATCHER = Caller(user=User(id=0, name="panel", role=Role.ADMIN))


@dataclass(slots=True, eq=False)
class Listener:
    """One open page."""

    messages: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(BACKLOG))
    lost: bool = False  # it was too slow: what it shows is not what is


class Live:
    """Watches while somebody looks, and tells them."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.renderer = Renderer()
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None
        self._progress: dict[int, Any] = {}

    @contextlib.contextmanager
    def listening(self) -> Any:
        """A listener, for as long as a page is open."""
        listener = Listener()
        self._listeners.add(listener)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="panel-live")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        page = await self.services.identity.events(WATCHER, EventFilter(newest=True, limit=1))
        after = page.events[-1].id if page.events else 0
        gathered: list[Event] = []
        looking = asyncio.create_task(self._look_at_progress())
        events = self.services.identity.follow(WATCHER, EventFilter(after=after, limit=500))
        coming: asyncio.Future[Event] = asyncio.ensure_future(_next(events))
        try:
            while True:
                await asyncio.wait({coming}, timeout=None)
                until = asyncio.get_running_loop().time() + GATHER_S
                # The first change of a while is told at once; those that follow, a moment later together.
                while coming.done():
                    gathered.append(coming.result())
                    coming = asyncio.ensure_future(_next(events))
                    await asyncio.sleep(0)
                    if not coming.done():
                        await asyncio.wait({coming}, timeout=0.05)
                    if len(gathered) > 5 * MANY:
                        break
                await self._tell(gathered)
                gathered = []
                await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
        finally:
            looking.cancel()
            coming.cancel()
            await asyncio.gather(coming, looking, return_exceptions=True)

    async def _tell(self, events: Sequence[Event]) -> None:
        ids = list(dict.fromkeys(event.job_id for event in events if event.job_id))
        nouns = sorted({event.noun for event in events})
        message: dict[str, Any] = {"last": events[-1].id, "nouns": nouns, "changed": ids[:1000]}
        if len(ids) <= MANY:
            message["cells"] = await self._cells(ids)
        created = [event.job_id for event in events if event.verb == "created" and event.job_id]
        if created:
            message["new"] = len(created)
        self._send(message)

    async def _cells(self, ids: Sequence[int]) -> dict[int, dict[str, str]]:
        if not ids:
            return {}
        jobs = await self.services.jobs.many(WATCHER, ids)
        return {job.id: cells_of(self.renderer, job) for job in jobs}

    async def _look_at_progress(self) -> None:
        """Progress is no event: it would be most of the history. It is asked for while somebody looks."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            with contextlib.suppress(IsthmusError):
                found = await self.services.measurements.progress(WATCHER)
                moved = [job for job, progress in found.items() if self._progress.get(job) != progress]
                self._progress = found
                if moved:
                    self._send({"cells": await self._cells(moved[:MANY])})

    def _send(self, message: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\n\n"
        for listener in self._listeners:
            try:
                listener.messages.put_nowait(data)
            except asyncio.QueueFull:
                listener.lost = True


def cells_of(renderer: Renderer, job: JobView) -> dict[str, str]:
    """What changes in a row of a table as its job goes on."""
    macro = renderer.macro
    return {
        "state": str(macro("parts.html", "state")(job)),
        "why": str(macro("parts.html", "why")(job)),
        "place": str(macro("parts.html", "place")(job)),
        "wait": str(macro("parts.html", "wait")(job)),
        "run": str(macro("parts.html", "run")(job)),
        "priority": str(job.priority),
    }


async def _next(events: AsyncIterator[Event]) -> Event:
    return await anext(events)


@pages.get("/live")
async def stream(visitor: Visitor) -> Response:
    """What changes, as server-sent events, until the page is closed or the session is over."""
    live: Live = visitor.panel.parts["live"]
    session = visitor.request.cookies.get(visitor.panel.cookie("session"), "")
    return StreamingResponse(
        _lines(live, session), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


@pages.get("/live-check")
async def check(visitor: Visitor) -> Response:
    """Whether the session is good: a stream that is refused does not say why."""
    return Response(status_code=204)


async def _lines(live: Live, session: str) -> AsyncIterator[bytes]:
    stop = asyncio.ensure_future(live.services.stopping.wait())
    with live.listening() as listener:
        yield b"retry: 1000\nevent: hello\ndata: {}\n\n"
        coming: asyncio.Future[bytes] = asyncio.ensure_future(listener.messages.get())
        try:
            while not stop.done() and not listener.lost:
                waiting: set[asyncio.Future[Any]] = {coming, stop}
                await asyncio.wait(waiting, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    yield coming.result()
                    coming = asyncio.ensure_future(listener.messages.get())
                elif not stop.done():
                    try:
                        await live.services.signing.visit(session)
                    except Unauthenticated:
                        yield b"event: over\ndata: {}\n\n"
                        return
                    yield b": still here\n\n"
        finally:
            stop.cancel()
            coming.cancel()
            await asyncio.gather(stop, coming, return_exceptions=True)
