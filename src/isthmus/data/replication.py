"""Replication: the rows of replicas as staging reads and writes them. A replica is a copy in a cache of a site.

Owns what is written down of copies. What lies in a cache is the site's to say; the rows are for people, for
placement, and to find a copy to bring elsewhere.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from sqlalchemy import Connection

from isthmus import codec
from isthmus.data.digests import hex_of
from isthmus.data.requirements import Content
from isthmus.data.routes import Copy, shared_fs
from isthmus.db import artefacts, figures, replicas
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.artefacts import ReplicaState
from isthmus.domain.clock import Clock
from isthmus.domain.errors import IsthmusError
from isthmus.domain.sites import Inventory, SiteSpec, SiteState

log = logging.getLogger(__name__)

NOTE_S = 1.0  # between two writes of a transfer's progress


class Replication:
    """Notes how copies stand."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def copies(self, content: Content) -> list[Copy]:
        """Where the content lies: verified replicas, and where its job left it."""
        return await self._db.read(_copies, content)

    async def use(self, attempt_id: int, contents: Iterable[Content]) -> None:
        """An attempt needs these until it ends."""
        await self._db.write(replicas.use, attempt_id, [content.use for content in contents])

    async def present(self, content: Content, site_id: int, user_id: int) -> None:
        """The copy is there, verified."""
        path = f"cache/{hex_of(content.digest)}"
        await self._put(content, site_id, user_id, ReplicaState.PRESENT, path=path, done=content.size)

    async def failed(self, content: Content, site_id: int, user_id: int, error: BaseException) -> None:
        """It could not be brought. Raises nothing: the reason is on its way to the caller already."""
        try:
            said = str(error)[:1000] or "cancelled"
            await self._put(content, site_id, user_id, ReplicaState.FAILED, error=said)
        except IsthmusError as failure:
            log.warning("the failed copy of %s was not noted: %s", content.label, failure)

    async def coming(self, content: Content, site_id: int, user_id: int, done: int) -> None:
        """So many bytes of it are there."""
        await self._put(content, site_id, user_id, ReplicaState.COMING, done=done)

    async def moved(self, site_id: int, bytes_per_s: float) -> None:
        """A transfer there went so fast. For placement; raises nothing: what was moved is there."""
        try:
            now = self._clock.now().timestamp()
            await self._db.write(figures.add_sample, site_id, figures.BYTES_PER_S, bytes_per_s, now)
        except IsthmusError as failure:
            log.warning("the speed of a transfer was not noted: %s", failure)

    def noting(self, content: Content, site_id: int, user_id: int, also: Callable[[int], None]) -> "Noting":
        """Note a transfer's progress now and then; ``also`` is told at once."""
        return Noting(self, self._clock, content, site_id, user_id, also)

    async def _put(self, content: Content, site_id: int, user_id: int, state: ReplicaState, **more: Any) -> None:
        await self._db.write(_put, content, site_id, user_id, state, now=self._clock.now().timestamp(), **more)


class Noting:
    """The progress of one transfer, written down while it lasts."""

    def __init__(
        self,
        replication: Replication,
        clock: Clock,
        content: Content,
        site_id: int,
        user_id: int,
        also: Callable[[int], None],
    ) -> None:
        self._replication, self._clock = replication, clock
        self._content, self._site_id, self._user_id = content, site_id, user_id
        self._also = also
        self._at = float("-inf")
        self._write: asyncio.Task[None] | None = None

    def __enter__(self) -> "Noting":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._write is not None:
            self._write.cancel()

    def tell(self, done: int) -> None:
        """So many bytes are there."""
        self._also(done)
        now = self._clock.monotonic()
        if self._write is None and now - self._at >= NOTE_S and done < self._content.size:
            self._at = now
            work = self._replication.coming(self._content, self._site_id, self._user_id, done)
            self._write = asyncio.create_task(work)
            self._write.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._write = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("the progress of %s was not noted: %s", self._content.label, task.exception())


def _copies(conn: Connection, content: Content) -> list[Copy]:
    places: list[tuple[int, int, str]] = [
        (row.site_id, row.user_id, row.path)
        for row in replicas.of_digest(conn, content.digest)
        if row.state == ReplicaState.PRESENT.value
    ]
    if content.origin is not None:
        places.append((content.origin.site_id, content.origin.user_id, content.origin.path))
    found: list[Copy] = []
    for site_id, user_id, path in places:
        row = site_rows.by_id(conn, site_id)
        if row.state == SiteState.REMOVED.value:
            continue
        spec = codec.read_json(SiteSpec, row.spec)
        copy = Copy(
            site_id=site_id,
            user_id=user_id,
            path=path,
            site=spec.name,
            zone=spec.zone,
            shared_fs=shared_fs(spec),
            workdir=codec.read_json(Inventory, row.inventory or "{}").workdir,
        )
        found.append(copy)
    return found


def _put(
    conn: Connection,
    content: Content,
    site_id: int,
    user_id: int,
    state: ReplicaState,
    *,
    now: float,
    path: str = "",
    done: int = 0,
    error: str = "",
) -> None:
    if state is ReplicaState.FAILED:
        old = replicas.get(conn, content.digest, site_id, user_id)
        done = old.bytes_done if old is not None else 0
    replicas.put(
        conn,
        content.digest,
        site_id,
        user_id,
        state=state,
        path=path,
        size=content.size,
        bytes_done=done,
        error=error,
        last_used_at=now,
    )


def spare(conn: Connection, digests: Iterable[str], site_id: int, user_id: int, stored: set[str]) -> set[str]:
    """Which of these copies may be removed: not the last verified one of what is registered, unless the store has
    one (``stored``)."""
    return {
        digest
        for digest in digests
        if digest in stored or replicas.others(conn, digest, site_id, user_id) or not artefacts.of_digest(conn, digest)
    }


def give_up(conn: Connection, digests: Iterable[str], site_id: int, user_id: int, stored: set[str]) -> set[str]:
    """Forget those copies that are `spare`; which they are.

    In one write: so two sites that give up their copies at the same time do not both rely on the other's.
    """
    allowed = spare(conn, digests, site_id, user_id, stored)
    for digest in allowed:
        replicas.remove(conn, digest, site_id, user_id)
    return allowed
