"""The use cases of datasets and images: what the API's calls about them do. Every method checks what the caller may do.

How content comes in is `registering`'s; what may be taken away is decided by `isthmus.data` and `garbage`.
"""

import builtins
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from isthmus import codec
from isthmus.control import garbage
from isthmus.control.opening import open_place
from isthmus.control.registering import Registering
from isthmus.control.rights import require
from isthmus.control.sessions import Sessions
from isthmus.data.collection import Collection, output_of, part
from isthmus.data.requirements import Content, content_of
from isthmus.data.staging import Staging
from isthmus.data.store import Store
from isthmus.db import artefacts as rows
from isthmus.db import events, replicas
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.artefacts import Artefact, ArtefactKind, Replica, ReplicaState, may_be_in
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Forbidden, IsthmusError, NotFound
from isthmus.domain.units import Bytes
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import ArtefactPage, Collected, ReplicaAt
from isthmus.sites.base import Site

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactFilter:
    """Which artefacts to list. An empty field does not filter."""

    name: str = ""  # a part of it
    label: tuple[tuple[str, str], ...] = ()
    removed: bool = False  # the removed ones too
    before: int = 0  # ids smaller than this: the key of the next page; the newest come first
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way to a person: ``size`` in all (those of the whole thing), ``offset`` of the first one here."""

    name: str  # a file name to keep them under; a folder comes as NAME.tar
    size: int
    offset: int
    digest: str
    is_folder: bool
    data: AsyncIterator[bytes]


class Artefacts(Registering):
    """Datasets, images and job outputs as people ask about them.

    ``name`` in `get`, `replicas` and `remove` is ``NAME`` (its newest version) or ``NAME@VERSION``.
    """

    def __init__(
        self,
        db: Database,
        store: Store,
        staging: Staging,
        collection: Collection,
        sessions: Sessions,
        clock: Clock,
        *,
        zone: str = "",
    ) -> None:
        super().__init__(db, store, sessions, clock, zone=zone)
        self._staging = staging
        self._collection = collection

    # ---- asking

    async def list(self, caller: Caller, kind: ArtefactKind, which: ArtefactFilter) -> ArtefactPage:
        """A page of them, the newest first."""
        require(caller, Role.VIEWER, Scope.READ)
        found = await self._db.read(
            rows.page,
            kind,
            name=which.name,
            labels=which.label,
            removed=which.removed,
            before=which.before,
            limit=which.limit + 1,
        )
        shown = found[: which.limit]
        return ArtefactPage(artefacts=tuple(shown), next=shown[-1].id if len(found) > which.limit else None)

    async def get(self, caller: Caller, kind: ArtefactKind, name: str) -> Artefact:
        """One of them. Raises NotFound with the nearest name."""
        require(caller, Role.VIEWER, Scope.READ)
        return await self._db.read(rows.resolve, kind, name)

    async def versions(self, caller: Caller, kind: ArtefactKind, name: str) -> builtins.list[Artefact]:
        """All versions of that name, the newest first. Raises NotFound."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[Artefact]:
            rows.resolve(conn, kind, name)
            return [*rows.versions(conn, kind, name.partition("@")[0])]

        return await self._db.read(read)

    async def replicas(self, caller: Caller, kind: ArtefactKind, name: str) -> builtins.list[Replica]:
        """Its copies: in the store of the control plane (site "") and at sites."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> tuple[Artefact, Sequence[Any]]:
            artefact = rows.resolve(conn, kind, name)
            return artefact, replicas.of_digest(conn, artefact.digest) if artefact.digest else ()

        artefact, found = await self._db.read(read)
        copies = [
            Replica(
                artefact=artefact.id,
                site=row.site_name,
                state=ReplicaState(row.state),
                path=row.path,
                bytes_done=Bytes(row.bytes_done),
                last_used_at=moment(row.last_used_at),
                error=row.error,
            )
            for row in found
        ]
        stored = await self._store.stat(artefact.digest) if artefact.digest else None
        if stored is not None:
            here = Replica(artefact=artefact.id, site="", state=ReplicaState.PRESENT, bytes_done=Bytes(stored.size))
            copies.insert(0, here)
        return copies

    async def replicas_at(self, caller: Caller, site: str, limit: int = 200) -> builtins.list[ReplicaAt]:
        """The copies at a site, the last used first."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[ReplicaAt]:
            found = replicas.last_used_at_site(conn, site_rows.get(conn, site).id, limit)
            names = rows.names_of(conn, [row.digest for row in found])
            return [
                ReplicaAt(
                    digest=row.digest,
                    names=tuple(names.get(row.digest, ())),
                    state=ReplicaState(row.state),
                    size=row.size,
                    bytes_done=row.bytes_done,
                    last_used_at=moment(row.last_used_at),
                    error=row.error,
                )
                for row in found
            ]

        return await self._db.read(read)

    async def jobs_using(self, caller: Caller, artefact: Artefact) -> builtins.list[int]:
        """Jobs that used this version, or will, the newest first; no more than 50."""
        require(caller, Role.VIEWER, Scope.READ)
        return [*await self._db.read(rows.jobs_using, artefact)]

    async def download(
        self, caller: Caller, kind: ArtefactKind, name: str, *, offset: int = 0, length: int | None = None
    ) -> Download:
        """Its bytes: from the store or, where that has no copy, from a site where the caller's jobs have one.

        Raises Conflict where neither has, Forbidden where residency does not let them come here.
        """
        require(caller, Role.VIEWER, Scope.READ)
        artefact = await self._db.read(rows.resolve, kind, name)
        if artefact.digest and await self._store.stat(artefact.digest) is not None:
            data = self._store.read(artefact.digest, offset=offset, length=length)
        else:
            site, path = await self._at_a_site(caller, content_of(artefact))
            data = part(site.get(path, offset=offset), length)
        return Download(
            name=f"{artefact.name}-{artefact.version}" + (".tar" if artefact.is_folder else ""),
            size=int(artefact.size),
            offset=offset,
            digest=artefact.digest,
            is_folder=artefact.is_folder,
            data=data,
        )

    async def _at_a_site(self, caller: Caller, content: Content) -> tuple[Site, str]:
        """A site where the content lies as the caller's, and its path there. Raises Conflict, Forbidden."""
        for row in await self._db.read(replicas.of_digest, content.digest) if content.digest else ():
            if row.state != ReplicaState.PRESENT.value:
                continue
            self._check_may_come(content)
            try:
                place = await open_place(self._db, self._sessions, row.site_id, caller.user.id)
            except IsthmusError as error:
                log.info("%s is not asked for %s: %s", row.site_name, content.label, error)
                continue
            if place.user_id == row.user_id:
                return place.site, row.path
        noun, _, named = content.label.partition(" ")
        raise Conflict(
            f"The store has no copy of {content.label}, nor has a site that you may ask.",
            hint=f"`isthmus {noun} replicas {named.partition('@')[0]}` shows where it lies.",
            code="not-stored",
        )

    def _check_may_come(self, content: Content) -> None:
        if may_be_in(content.zones, self._zone):
            return
        raise Forbidden(
            f"{content.label} may only be in {', '.join(content.zones)}; this control plane is in "
            f"{f'zone {self._zone}' if self._zone else 'no declared zone'}.",
            hint="Read it in a job at a site in one of these zones.",
            code="residency",
        )

    async def output(
        self, caller: Caller, job_id: int, output: int, *, offset: int = 0, length: int | None = None
    ) -> Download:
        """The bytes of a job's output (``output`` is OutputView.id): from the store or, where it was not collected,
        from the site. Raises Forbidden where residency does not let them come here, and what the site raises."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> tuple[Any, Content]:
            job = job_rows.many(conn, [job_id]).get(job_id)
            if job is None:
                raise NotFound(f"There is no job {job_id}.", place="job")
            return output_of(conn, job_id, output, _zones_of(job))

        row, content = await self._db.read(read)
        self._check_may_come(content)
        stored = await self._store.stat(content.digest) is not None
        place = None
        if not stored:
            place = await open_place(self._db, self._sessions, row.site_id, row.user_id)
        name = content.label.partition(" ")[2].rpartition(" of job ")[0].rstrip("/").rpartition("/")[2]
        return Download(
            name=name + (".tar" if content.is_folder else ""),
            size=content.size,
            offset=offset,
            digest=content.digest,
            is_folder=content.is_folder,
            data=self._collection.open(content, place, offset=offset, length=length, stored=stored),
        )

    # ---- removing

    async def remove(self, caller: Caller, kind: ArtefactKind, name: str, *, force: bool = False) -> Artefact:
        """Take a version out: new jobs can't name it. Its bytes go with the next gc.

        Raises Conflict while jobs that have not ended name it, unless forced; Forbidden unless it is the caller's own
        or the caller an admin.
        """
        require(caller, Role.MEMBER, Scope.DATA)
        return await self._db.write(_remove, caller, kind, name, force, self._now())

    async def gc(
        self,
        caller: Caller,
        kinds: Sequence[ArtefactKind] = (),
        *,
        site: str | None = None,
        unused_since: datetime | None = None,
        dry_run: bool = False,
    ) -> Collected:
        """Take away copies that nothing needs: at one site, in the store (``site=""``), or everywhere (None).

        At a site: what was not used since ``unused_since`` or is over the site's cache bound, the longest unused
        first; never what a live job uses, nor the last copy of what is registered. In the store: bytes that nothing
        registered, kept or live names. Admins only. No kinds: all. Everywhere, a site that can't be reached is
        left out.
        """
        require(caller, Role.ADMIN, Scope.DATA)
        only = await self._db.read(rows.of_kinds, kinds) if kinds else None
        since = unused_since.timestamp() if unused_since else None
        found: builtins.list[Collected] = []
        if not site:
            found.append(
                await garbage.of_store(self._db, self._store, self._uploads, self._now(), only=only, dry_run=dry_run)
            )
        if site != "":
            for site_id, user_id in await self._db.read(garbage.caches, site):
                try:
                    place = await open_place(self._db, self._sessions, site_id, user_id)
                    found.append(
                        await self._staging.collect_garbage(place, unused_since=since, only=only, dry_run=dry_run)
                    )
                except IsthmusError as error:
                    if site:
                        raise
                    log.warning("the cache at site %s is left as it is: %s", site_id, error)
        total = Collected(
            count=sum(one.count for one in found),
            size=sum(one.size for one in found),
            digests=tuple(dict.fromkeys(digest for one in found for digest in one.digests)),
        )
        if total.count and not dry_run:
            await self._db.write(
                events.add,
                caller.user.name,
                "dataset",
                site if site is not None else "*",
                "collected",
                now=self._now(),
                message=f"{total.count} copies, {total.size} bytes",
            )
        return total


def _zones_of(job: Any) -> tuple[str, ...]:
    """Where the outputs of a job may be; (): anywhere."""
    return tuple(codec.read_json(tuple[str, ...], job.zones)) if job.zones else ()


def _remove(conn: Connection, caller: Caller, kind: ArtefactKind, name: str, force: bool, now: float) -> Artefact:
    artefact = rows.resolve(conn, kind, name)
    named = f"{artefact.name}@{artefact.version}"
    if caller.user.role is not Role.ADMIN and artefact.owner != caller.user.name:
        raise Forbidden(
            f"{kind.value} {named} is {artefact.owner}'s; only they and admins may remove it.", code="owner"
        )
    using = rows.open_jobs_naming(conn, artefact.name, artefact.version)
    if using and not force:
        some = ", ".join(str(job) for job in using)
        raise Conflict(
            f"Jobs that have not ended name {kind.value} {named}: {some}.",
            hint="Wait for them, kill them, or remove it with --force: they will fail then.",
            code="in-use",
        )
    rows.remove(conn, artefact.id, now=now)
    events.add(conn, caller.user.name, kind.value, named, "removed", now=now, before=artefact.digest)
    return artefact
