"""The caches of sites: what is known to lie in them, what is in use there, and what leaves them.

    ask ─► pinned while it is used ─► learnt
    sweep ─► garbage (pure) ─► given up in one write ─► removed

One `Caches` for each control plane process. Against removals by another process stands that what live attempts need
is in the database, and that what was used in the last minutes stays.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from isthmus.data.digests import hex_of, name_of
from isthmus.data.garbage import victims
from isthmus.data.replication import give_up, spare
from isthmus.data.requirements import Content
from isthmus.data.store import Store
from isthmus.data.transfer import Place
from isthmus.db import replicas
from isthmus.db.engine import Database
from isthmus.domain.artefacts import ReplicaState
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Refused
from isthmus.domain.units import show_bytes
from isthmus.domain.views import Collected
from isthmus.sites.base import Cache

FRESH_S = 60.0  # a site is not asked again for so long whether it still has something
SPARE_BYTES = 64 << 20  # of a site's disk are left free


class Caches:
    """Names in a cache are the hex digits of content, or with an ending what was made from it."""

    def __init__(self, db: Database, store: Store, clock: Clock) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._known: dict[tuple[int, int, str], tuple[float, Any]] = {}
        self._pins: Counter[tuple[int, int, str]] = Counter()
        self._unpinned: dict[tuple[int, int, str], float] = {}
        self._sweeps: defaultdict[tuple[int, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    # ---- what is there

    def known(self, place: Place, name: str) -> Any:
        """What was last learnt of an entry; None if that was long ago or never."""
        found = self._known.get((place.site_id, place.user_id, name))
        if found is None or self._clock.monotonic() - found[0] > FRESH_S:
            return None
        return found[1]

    def learn(self, place: Place, name: str, what: Any) -> None:
        """The entry is there; ``what`` is what `known` answers with."""
        self._known[place.site_id, place.user_id, name] = (self._clock.monotonic(), what)

    def forget(self, site_id: int) -> None:
        """Ask that site again."""
        for key in [key for key in self._known if key[0] == site_id]:
            del self._known[key]

    async def ask(self, place: Place, name: str) -> Cache:
        """Ask the site whether it has the entry, which counts as its use now. Not while entries are being removed."""
        async with self._sweeps[place.site_id, place.user_id]:
            return await place.site.cache(have=[name])

    @contextlib.contextmanager
    def pinned(self, place: Place, names: Sequence[str]) -> Iterator[None]:
        """None of these is removed meanwhile."""
        keys = [(place.site_id, place.user_id, name) for name in names]
        self._pins.update(keys)
        try:
            yield
        finally:
            for key in keys:
                self._unpinned[key] = self._clock.monotonic()
                self._pins[key] -= 1
                if not self._pins[key]:
                    del self._pins[key]

    # ---- what leaves

    async def make_room(self, place: Place, content: Content, cache: Cache, *, disk: bool = True) -> None:
        """Before a transfer: keep to the site's bound and, with ``disk``, find out early that there is no room.

        Raises Refused, code ``disk-full``.
        """
        if place.spec.cache:
            await self.sweep(place, bound=max(1, int(place.spec.cache) - content.size))
        if not disk or not cache.free_bytes:
            return
        need = _room(content)
        short = need + SPARE_BYTES - cache.free_bytes
        if short > 0 and int((await self.sweep(place, wanted=short)).size) < short:
            free = (await place.site.cache()).free_bytes
            if free < need:
                raise Refused(
                    f"{content.label} needs {show_bytes(need)} in the work folder at {place.spec.name}; "
                    f"{show_bytes(free)} are free.",
                    hint="Make room there, or set another workdir for the site.",
                    code="disk-full",
                )

    async def evict(self, place: Place, content: Content) -> bool:
        """The disk there is full: remove what may be, as much as the content needs; whether anything was removed."""
        return (await self.sweep(place, wanted=_room(content))).count > 0

    async def sweep(
        self,
        place: Place,
        *,
        unused_since: float | None = None,
        bound: int | None = None,
        wanted: int = 0,
        only: Collection[str] | None = None,
        dry_run: bool = False,
    ) -> Collected:
        """Remove from one user's cache what nothing needs: what was last used before ``unused_since``, then as much as
        it takes to hold ``bound`` bytes (None: the site's) and to free ``wanted``, the longest unused first.

        Never what live attempts use, what is pinned or was used in the last minutes, nor the last copy of what is
        registered. ``only``: digests to look at, and nothing else.
        """
        where = (place.site_id, place.user_id)
        async with self._sweeps[where]:
            began = self._clock.monotonic()
            cache = await place.site.cache(everything=True)
            names = [name for name in cache.entries if _is_content(name)]
            spared = await self._spared(self._db.read, spare, names, place)
            in_use = {use.partition(":")[2] for use in await self._db.read(replicas.needed)}
            going = victims(
                cache.entries,
                in_use=in_use | self._held(where, began),
                sole={name for name in names if name_of(name) not in spared},
                now=self._clock.now().timestamp(),
                unused_since=unused_since,
                bound=int(place.spec.cache) if bound is None else bound,
                wanted=wanted,
                only=None if only is None else {digest.partition(":")[2] for digest in only},
            )
            gone = [one.name for one in going]
            if gone and not dry_run:
                for name in gone:
                    self._known.pop((*where, name), None)  # who wants it from now on asks, and waits for our lock
                content = [name for name in gone if _is_content(name)]
                allowed = await self._spared(self._db.write, give_up, content, place)
                gone = [name for name in gone if not _is_content(name) or name_of(name) in allowed]
                await place.site.cache(remove=gone)
            self._unpinned = {key: at for key, at in self._unpinned.items() if at >= began or key[:2] != where}
        sizes = {one.name: one.size for one in going}
        return Collected(
            count=len(gone),
            size=sum(sizes[name] for name in gone),
            digests=tuple(name_of(name) if _is_content(name) else name for name in gone),
        )

    async def drop_parts(self, place: Place, before: float) -> None:
        """Remove what is left there of transfers that nobody has gone on with since ``before``."""
        where = (place.site_id, place.user_id)
        async with self._sweeps[where]:
            began = self._clock.monotonic()
            rows = await self._db.read(replicas.at_site, *where)
            names = [
                hex_of(row.digest)
                for row in rows
                if row.state != ReplicaState.PRESENT.value and (row.last_used_at or 0.0) < before
            ]
            if not names:
                return
            there = (await place.site.cache(have=names)).entries
            needed = {use.partition(":")[2] for use in await self._db.read(replicas.needed)}
            kept = needed | self._held(where, began)
            stale = [name for name in names if name not in there and name not in kept]
            if stale:
                await place.site.cache(remove=stale)
                await self._db.write(_forget, [name_of(name) for name in stale], *where)

    def _held(self, where: tuple[int, int], began: float) -> set[str]:
        """What is pinned there, or was since ``began``: its attempt may be younger than a look at the database."""
        recent = [key for key, at in self._unpinned.items() if at >= began]
        return {key[2].partition(".")[0] for key in [*self._pins, *recent] if key[:2] == where}

    async def _spared(self, look: Any, which: Any, names: list[str], place: Place) -> set[str]:
        digests = [name_of(name) for name in names]
        stored = {digest for digest in digests if await self._store.stat(digest) is not None}
        allowed: set[str] = await look(which, digests, place.site_id, place.user_id, stored)
        return allowed


def _forget(conn: Connection, digests: list[str], site_id: int, user_id: int) -> None:
    for digest in digests:
        replicas.remove(conn, digest, site_id, user_id)


def _is_content(name: str) -> bool:
    """Whether it is named by its own digest; else it was made or pulled there, and can be again."""
    return len(name) == 64 and "." not in name


def _room(content: Content) -> int:
    """Bytes of disk to bring it there: a folder's stream lies beside the folder until that is whole."""
    return content.size * (2 if content.is_folder else 1)
