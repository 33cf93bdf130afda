"""Staging: what a job needs is brought to its site, each content once at a time however many jobs wait for it.

    requirements ─► is it there? ─► routes (pure) ─► transfer ─► preparation of the image ─► Staged, for job.json

Owns who waits for what. Which ways are allowed is `routes`', how bytes move `transfer`'s, what an image needs
`images`', what is known of the sites' caches and what may leave them `caches`', the rows of replicas `replication`'s.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.data import images
from isthmus.data.caches import Caches
from isthmus.data.digests import hex_of
from isthmus.data.flights import Flight, Flights
from isthmus.data.replication import Replication
from isthmus.data.requirements import Content, Requirements
from isthmus.data.routes import Copy, Route, Target, Way, check_zone, routes
from isthmus.data.store import Store
from isthmus.data.transfer import Opener, Place, SourceFailed, Transfers
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import Conflict, IsthmusError, NotFound, Refused, SiteError, Unavailable
from isthmus.domain.views import Collected
from isthmus.sites.base import Cache
from isthmus.sites.kinds import find_kind

__all__ = ["Opener", "Place", "Progress", "Staged", "Staging"]

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived so far and those that will in all."""

KEEP_PARTS_S = 7 * 86400.0  # parts of transfers that nobody went on with go after that long
PART_GRACE_S = 3600.0  # or when asked to, but not before
LEAST_SEEN = 4 << 20  # bytes of a transfer, from which its speed is believed
AT_ONCE = 2  # transfers to one user's folder at a site: a connection bears few channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What goes into job.json: everything named here lies at the site, verified."""

    inputs: tuple[dict[str, str], ...] = ()  # {"path", "source", "mode"}
    container: dict[str, Any] | None = None  # {"engine", "image"}; the caller adds binds, gpu, options
    env: Mapping[str, str] = field(default_factory=dict)  # what the image says; the job's own goes over it


@dataclass(frozen=True, slots=True)
class _Image:
    """How a site runs an image, once all that it takes was done."""

    container: dict[str, Any]
    env: Mapping[str, str]


class Staging:
    """Brings content to sites. One per control plane process; only the leading supervisor's stages."""

    def __init__(
        self,
        db: Database,
        store: Store,
        opener: Opener | None = None,
        clock: Clock | None = None,
        *,
        zone: str = "",
    ) -> None:
        self._store = store
        self._zone = zone
        clock = self._clock = clock or SystemClock()
        self._transfers = Transfers(store, opener, clock)
        self._replication = Replication(db, clock)
        self._caches = Caches(db, store, clock)
        self._contents: Flights[str] = Flights()
        self._images: Flights[_Image] = Flights()
        self._lanes: defaultdict[tuple[int, int], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def ensure(
        self, place: Place, needs: Requirements, *, attempt_id: int = 0, progress: Progress | None = None
    ) -> Staged:
        """Bring what is missing, verified; return once all of it is there.

        ``attempt_id``, a live one, keeps garbage collection away from what it needs until it ends. May be cancelled (a
        transfer that nobody else waits for stops and can be gone on from) and called again. Raises SiteError with
        ``transient`` to be called again after a while; otherwise an IsthmusError that says why it can't be: code
        ``disk-full`` (Reason.DISK_FULL), or ``residency``, ``missing``, ``digest``, ``image``.
        """
        if needs.missing:
            raise Conflict(" ".join(needs.missing), code="missing")
        contents = list(needs.contents())
        for content in contents:
            check_zone(content, place.spec.name, place.spec.zone)
        with self._caches.pinned(place, [hex_of(content.digest) for content in contents if content.digest]):
            if attempt_id:
                await self._replication.use(attempt_id, contents)
            paths = await self._bring_all(place, contents, _Tally(contents, progress))
            image = await self._image(place, needs.image) if needs.image else None
        return Staged(
            inputs=tuple(
                {"path": need.path, "source": paths[need.content.digest], "mode": need.mode} for need in needs.inputs
            ),
            container=dict(image.container) if image else None,
            env=dict(image.env) if image else {},
        )

    def forget(self, site_id: int) -> None:
        """Forget what is known to be at a site: the next `ensure` asks it again."""
        self._caches.forget(site_id)

    async def collect_garbage(
        self,
        place: Place,
        *,
        unused_since: float | None = None,
        only: Collection[str] | None = None,
        dry_run: bool = False,
    ) -> Collected:
        """Take away from the user's cache at the site what nothing needs, by age and by ``SiteSpec.cache``.

        Never what live attempts use, what is being brought or was used in the last minutes, nor the last copy of what
        is registered. ``only``: digests to look at, and nothing else.
        """
        if not dry_run and only is None:
            now = self._clock.now().timestamp()
            await self._caches.drop_parts(place, min(now - PART_GRACE_S, unused_since or now - KEEP_PARTS_S))
        return await self._caches.sweep(place, unused_since=unused_since, only=only, dry_run=dry_run)

    # ---- content

    async def _bring_all(self, place: Place, contents: list[Content], tally: "_Tally") -> dict[str, str]:
        """Where each lies, by digest."""
        wanted = [content for content in contents if content.digest]
        if not wanted:
            return {}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    content.digest: group.create_task(self._bring(place, content, tally.of(content)))
                    for content in wanted
                }
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        return {digest: task.result() for digest, task in tasks.items()}

    async def _bring(self, place: Place, content: Content, tell: Progress) -> str:
        known = self._caches.known(place, hex_of(content.digest))
        if known is not None:
            tell(content.size, content.size)
            return str(known)

        async def work(flight: Flight[str]) -> str:
            return await self._bring_once(place, content, flight)

        return await self._contents.join((place.site_id, place.user_id, content.digest), work, tell)

    async def _bring_once(self, place: Place, content: Content, flight: Flight[str]) -> str:
        name = hex_of(content.digest)
        where = (place.site_id, place.user_id)
        target = Target.of(*where, place.spec)
        cache = await self._caches.ask(place, name)
        if name in cache.entries and not _lies_outside(content, target):
            path = f"cache/{name}"
            flight.tell(content.size, content.size)
        else:
            # What our rows say to be in this cache is not: that was just asked.
            copies = [copy for copy in await self._replication.copies(content) if not _in_cache_of(copy, target)]
            stored = await self._store.stat(content.digest) is not None
            ways = routes(content, target, copies=copies, stored=stored, zone=self._zone)
            try:
                path = await self._take_ways(place, content, ways, cache, flight)
            except (IsthmusError, asyncio.CancelledError) as error:
                await asyncio.shield(self._replication.failed(content, *where, error))
                raise
        outside = _lies_outside(content, target) and path != f"cache/{name}"
        if outside or path == f"cache/{name}":
            await self._replication.present(content, *where)
        if not outside:  # what others may change is looked at each time
            self._caches.learn(place, name, path)
        return path

    async def _take_ways(
        self, place: Place, content: Content, ways: list[Route], cache: Cache, flight: Flight[str]
    ) -> str:
        """The first way that leads there: where the content lies then."""
        failures: list[tuple[Way, IsthmusError]] = []
        evicted = spoilt = False
        pending = list(reversed(ways))
        while pending:
            route = pending.pop()
            try:
                return await self._go(place, content, route, cache, flight)
            except SourceFailed as failed:
                failures.append((route.way, failed.error))
            except Refused as error:
                if error.code == "disk-full":
                    if not evicted and await self._caches.evict(place, content):
                        evicted = True
                        pending.append(route)
                        continue
                    raise _full(error) from error
                if error.code != "digest":
                    raise
                if not spoilt:
                    spoilt = True  # what an earlier call left there may have been spoilt: it is gone now
                    pending.append(route)
                    continue
                failures.append((route.way, error))
        said = " ".join(f"By {way}: {error}" for way, error in failures)
        transient = any(error.transient and error.code != "digest" for _, error in failures)
        digest = all(error.code == "digest" for _, error in failures)
        code = "source" if transient else "digest" if digest else "missing"
        kind = Unavailable if transient else Conflict
        raise kind(f"{content.label} could not be brought to {place.spec.name}. {said}", code=code)

    async def _go(self, place: Place, content: Content, route: Route, cache: Cache, flight: Flight[str]) -> str:
        where = (place.site_id, place.user_id)
        if route.way in (Way.ADOPT, Way.IN_PLACE):
            return await self._transfers.go(content, place, route, lambda done: None)
        async with self._lanes[where]:
            await self._caches.make_room(place, content, cache, disk=route.way is not Way.LINK)

            moved = _Moved(self._clock)

            def tell(done: int) -> None:
                moved.tell(done)
                flight.tell(done, content.size)

            with self._replication.noting(content, *where, tell) as noting:
                path = await self._transfers.go(content, place, route, noting.tell)
            if route.way is not Way.LINK and moved.bytes_per_s:
                await self._replication.moved(place.site_id, moved.bytes_per_s)
            return path

    # ---- images

    async def _image(self, place: Place, content: Content) -> _Image:
        login_runs = not find_kind(place.spec.kind).own_queue
        recipe: images.Recipe | None = images.recipe(content, place.spec, place.inventory, login_runs=login_runs)
        failure: IsthmusError | None = None
        while recipe is not None:
            try:
                return await self._cook(place, recipe)
            except (Refused, NotFound) as error:
                if error.code == "disk-full":
                    raise _full(error) from error
                failure = error
                recipe = recipe.otherwise
        assert failure is not None
        raise Conflict(f"{content.label} can't be made ready at {place.spec.name}: {failure}", code="image")

    async def _cook(self, place: Place, recipe: images.Recipe) -> _Image:
        if recipe.prepare is None:
            return _Image({"engine": recipe.engine, "image": recipe.image}, {})
        known = self._caches.known(place, recipe.to)
        if isinstance(known, _Image):
            return known
        request = recipe.prepare

        async def work(_: Flight[_Image]) -> _Image:
            await self._caches.ask(place, recipe.to)  # it counts as used now
            answer = await place.site.prepare(request)
            image = images.loaded_name(str(answer.get("output"))) if recipe.image_from_output else recipe.image
            made = _Image({"engine": recipe.engine, "image": image}, dict(answer.get("env") or {}))
            self._caches.learn(place, recipe.to, made)
            return made

        with self._caches.pinned(place, [recipe.to]):
            return await self._images.join((place.site_id, place.user_id, recipe.to), work)


class _Tally:
    """Adds up the progress of several contents for one listener."""

    def __init__(self, contents: list[Content], progress: Progress | None) -> None:
        self._total = sum(content.size for content in contents)
        self._done: dict[str, int] = {}
        self._progress = progress

    def of(self, content: Content) -> Progress:
        def tell(done: int, total: int) -> None:
            self._done[content.digest] = done
            if self._progress is not None:
                self._progress(sum(self._done.values()), self._total)

        return tell


class _Moved:
    """How fast a transfer goes, from its first bytes on: what lay there before it was resumed does not count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] = (0, 0.0)

    def tell(self, done: int) -> None:
        self._last = (done, self._clock.monotonic())
        if self._first is None:
            self._first = self._last

    @property
    def bytes_per_s(self) -> float:
        """0 where too little was moved to say."""
        if self._first is None:
            return 0.0
        moved, took_s = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return moved / took_s if moved >= LEAST_SEEN and took_s > 0 else 0.0


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one to raise: what will not go away by itself before what may."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [failures]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return min(leaves, key=lambda one: 2 if isinstance(one, SiteError) and one.transient else 1)


def _full(error: IsthmusError) -> Refused:
    """A full disk ends the attempt: whether and when there is another is the retry policy's to say."""
    return Refused(error.message, hint=error.hint, code="disk-full")


def _lies_outside(content: Content, target: Target) -> bool:
    """Whether it lies at that site outside of our folder: a path that is looked at again each time."""
    site, colon, _ = content.reference.partition(":")
    return bool(colon) and site == target.site


def _in_cache_of(copy: Copy, target: Target) -> bool:
    return (copy.site_id, copy.user_id) == (target.site_id, target.user_id) and copy.path.startswith("cache/")
