"""Transfers: one content goes one way to one site; resumable, verified there, its progress kept.

Decides nothing: `isthmus.data.routes` says which ways are allowed. A site that content comes *from* and fails is
told from the one it goes *to*: the first is another way's turn, the second the caller's matter.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.data.digests import hex_of
from isthmus.data.requirements import Content
from isthmus.data.routes import Copy, Route, Way
from isthmus.data.store import Store
from isthmus.domain.clock import Clock
from isthmus.domain.errors import IsthmusError, NotFound, Refused, Unavailable
from isthmus.domain.sites import Inventory, SiteSpec
from isthmus.sites.base import Site

TRIES = 6  # of a source that fails, one after another without a byte between
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site as one user's jobs see it: replicas lie in that user's folder there."""

    site_id: int
    user_id: int  # whose credential: `attempts.user_id`
    spec: SiteSpec
    inventory: Inventory
    site: Site


Opener = Callable[[int, int], Awaitable[Place]]
"""Opens the place of a (site id, user id). Raises IsthmusError."""


class SourceFailed(Exception):
    """Where the bytes came from failed; where they go to may be well."""

    def __init__(self, error: IsthmusError) -> None:
        super().__init__(str(error))
        self.error = error


class Transfers:
    """Moves content into the caches of sites."""

    def __init__(self, store: Store, opener: Opener | None, clock: Clock) -> None:
        self._store = store
        self._opener = opener
        self._clock = clock

    async def go(self, content: Content, place: Place, route: Route, tell: Tell) -> str:
        """Take the route; where the content lies then, for job.json (relative to the work folder, or absolute).

        Raises SourceFailed, or what the site at ``place`` raises.
        """
        digits = hex_of(content.digest)
        if route.way is Way.ADOPT:
            await self._prepare(place, {"op": "adopt", "path": route.path, "digest": digits})
            return route.path
        if route.way is Way.IN_PLACE:
            assert route.copy is not None
            await self._check_there(content, place, route.copy.path)
            return route.copy.path
        if route.way is Way.LINK:
            await self._link(content, digits, place, route)
        elif route.way is Way.SEND:
            await self._send(content, digits, place, tell)
        elif route.way is Way.FORWARD:
            assert route.copy is not None
            await self._forward(content, digits, place, route.copy, tell)
        else:
            raise AssertionError(f"{route.way} moves nothing")
        tell(content.size)
        return f"cache/{digits}"

    async def _check_there(self, content: Content, place: Place, path: str) -> None:
        stat = (await place.site.stat([path])).get(path)
        if stat is None:
            raise SourceFailed(
                NotFound(f"{content.label} is no longer in {path} at {place.spec.name}.", code="missing")
            )

    async def _link(self, content: Content, digits: str, place: Place, route: Route) -> None:
        if route.copy is not None:
            source = f"{route.copy.workdir}/{route.copy.path}"
        else:
            local = self._store.local(content.digest)
            if local is None:
                raise SourceFailed(NotFound(f"The store has no file of {content.label}.", code="missing"))
            source = str(local)
        request: Mapping[str, Any] = {
            "op": "link",
            "to": digits,
            "source": source,
            "digest": digits,
            "size": content.size,
            "unpack": content.is_folder,
        }
        await self._prepare(place, request)

    async def _prepare(self, place: Place, request: Mapping[str, Any]) -> None:
        """Where the site can't take it that way (the user there may not see the path), it is another way's turn."""
        try:
            await place.site.prepare(request)
        except (Refused, NotFound) as error:
            if error.code == "disk-full":
                raise
            raise SourceFailed(error) from error

    async def _send(self, content: Content, digits: str, place: Place, tell: Tell) -> None:
        def source(offset: int) -> AsyncIterator[bytes]:
            return _guarded(self._store.read(content.digest, offset=offset))

        await place.site.put(
            source, f"cache/{digits}", size=content.size, digest=digits, progress=tell, unpack=content.is_folder
        )

    async def _forward(self, content: Content, digits: str, place: Place, copy: Copy, tell: Tell) -> None:
        furthest = failures = 0

        def note(done: int) -> None:
            nonlocal furthest, failures
            if done > furthest:
                furthest, failures = done, 0
            tell(done)

        while True:
            try:
                origin = await self._open(copy)

                def source(offset: int, origin: Place = origin) -> AsyncIterator[bytes]:
                    return _guarded(origin.site.get(copy.path, offset=offset))

                await place.site.put(
                    source, f"cache/{digits}", size=content.size, digest=digits, progress=note, unpack=content.is_folder
                )
                return
            except SourceFailed as failed:
                failures += 1
                if not failed.error.transient or failures >= TRIES:
                    raise
                await self._clock.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failures - 1)))

    async def _open(self, copy: Copy) -> Place:
        if self._opener is None:
            raise SourceFailed(Unavailable(f"{copy.site} can't be reached from here."))
        try:
            return await self._opener(copy.site_id, copy.user_id)
        except IsthmusError as error:
            raise SourceFailed(error) from error


async def _guarded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces; what their source raises is SourceFailed."""
    try:
        async for piece in pieces:
            yield piece
    except IsthmusError as error:
        raise SourceFailed(error) from error
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await asyncio.shield(close())
