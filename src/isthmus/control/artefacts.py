"""The use cases of datasets and images: what the API's calls about them do. Every method checks what the caller may do.

upload in pieces ─┐
a path here ──────┼─► the store, verified ─► a version: a name for its digest
a reference ──────┘   (data that lies at a site is measured there, and stays)
"""

import asyncio
import builtins
import logging
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from isthmus import codec
from isthmus.control import garbage
from isthmus.control.opening import open_place
from isthmus.control.rights import require
from isthmus.control.sessions import Sessions
from isthmus.data import images
from isthmus.data.collection import Collection, output_of
from isthmus.data.digests import hex_of
from isthmus.data.incoming import CHUNK
from isthmus.data.intake import read_into
from isthmus.data.requirements import Content
from isthmus.data.staging import Staging
from isthmus.data.store import Store
from isthmus.data.uploads import Upload, Uploads
from isthmus.db import artefacts as rows
from isthmus.db import events, replicas
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.artefacts import (
    Artefact,
    ArtefactKind,
    ImageFormat,
    Registration,
    Replica,
    ReplicaState,
    check_name,
    check_version,
    may_be_in,
)
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, IsthmusError, NotFound, TooLarge
from isthmus.domain.sites import SiteSpec
from isthmus.domain.units import Bytes
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import ArtefactPage, Collected, UploadView
from isthmus.runner import canonical

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


class Artefacts:
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
        self._db = db
        self._store = store
        self._staging = staging
        self._collection = collection
        self._sessions = sessions
        self._clock = clock
        self._zone = zone
        self._uploads = Uploads(store.spool.folder)

    # ---- registering

    async def begin_upload(self, caller: Caller, kind: ArtefactKind, what: Registration) -> UploadView:
        """Begin an upload. Asked again for the same name, version and digest, it gives the one that was begun.

        Raises Conflict when that version exists with another digest, and Invalid for what can't be registered here
        (the name, or zones that this control plane's store is not in).
        """
        require(caller, Role.MEMBER, Scope.DATA)
        if what.path or what.reference:
            place = "path" if what.path else "reference"
            raise Invalid("An upload has neither a path nor a reference.", place=place)
        what = self._checked(kind, what)
        self._check_zone(what)
        await self._db.read(_check_free, kind, what)
        upload = await self._uploads.begin(caller.user.id, kind, what, self._now())
        return await self._view(upload)

    async def upload(self, caller: Caller, upload: str) -> UploadView:
        """How far an upload is: its ``offset`` is the next byte wanted. Raises NotFound."""
        require(caller, Role.MEMBER, Scope.DATA)
        return await self._view(await self._uploads.get(upload, caller.user.id))

    async def append(
        self, caller: Caller, upload: str, offset: int, chunks: AsyncIterable[bytes], *, limit: int | None = None
    ) -> UploadView:
        """Add bytes that begin at ``offset``; each is kept as it comes, so a cut call can be gone on from.

        Raises Conflict (code ``offset``) unless they begin where the upload is, TooLarge beyond ``limit`` bytes in
        one call or the announced size, Unavailable (code ``disk-full``).
        """
        require(caller, Role.MEMBER, Scope.DATA)
        found = await self._uploads.get(upload, caller.user.id)
        if found.artefact or await self._stored(found):
            raise _wrong_offset(offset, await self._offset(found))
        async with self._store.spool.open(found.id) as incoming:
            if offset != incoming.offset:
                raise _wrong_offset(offset, incoming.offset)
            taken = 0
            async for piece in _gathered(chunks):
                taken += len(piece)
                if limit is not None and taken > limit:
                    raise TooLarge(f"More than {limit} bytes came in one call.", hint="Send it in smaller pieces.")
                if found.what.size is not None and incoming.offset + len(piece) > found.what.size:
                    raise TooLarge(f"More bytes came than the {found.what.size} that were announced.", place="size")
                await incoming.write(piece)
        return await self._view(found)

    async def finish_upload(self, caller: Caller, upload: str, digest: str = "") -> Artefact:
        """Check the digest (``sha256:<hex>``; of the registration if it named one) and register. May be called again.

        Raises Invalid (code ``digest``) when it is another; the upload's bytes are then gone.
        """
        require(caller, Role.MEMBER, Scope.DATA)
        found = await self._uploads.get(upload, caller.user.id)
        if found.artefact:
            return await self._db.read(rows.by_id, found.artefact)
        if digest and found.what.digest and hex_of(digest) != hex_of(found.what.digest):
            raise Invalid("It is not the digest that the upload was begun with.", place="digest", code="digest")
        stored = await self._stored(found)
        if stored is not None:
            await self._store.touch(stored.digest)
            measured = replace(found.what, digest=stored.digest, size=Bytes(stored.size))
            path = self._store.local(stored.digest)
            measured = await self._sniffed(found.kind, measured, path)
        else:
            async with self._store.spool.open(found.id) as incoming:
                path, sealed, size = await incoming.seal(digest or found.what.digest, found.what.size)
                measured = replace(found.what, digest=sealed, size=Bytes(size))
                measured = await self._sniffed(found.kind, measured, path)
                await self._store.take(path, sealed)
        made = await self._db.write(_register, caller, found.kind, measured, self._now())
        await self._uploads.keep(replace(found, artefact=made.id))
        return made

    async def cancel_upload(self, caller: Caller, upload: str) -> None:
        """Forget an upload and its bytes. Silent if gone."""
        require(caller, Role.MEMBER, Scope.DATA)
        try:
            found = await self._uploads.get(upload, caller.user.id)
        except NotFound:
            return
        await self._uploads.drop(found.id)
        await asyncio.to_thread(self._store.spool.drop, found.id)

    async def register(self, caller: Caller, kind: ArtefactKind, what: Registration) -> Artefact:
        """Register from ``what.path`` (admins: the server reads it) or ``what.reference``. May take long."""
        require(caller, Role.MEMBER, Scope.DATA)
        if bool(what.path) == bool(what.reference):
            raise Invalid("Give either a path or a reference.", place="path")
        what = self._checked(kind, what)
        await self._db.read(_check_free, kind, what)
        if what.path:
            return await self._register_path(caller, kind, what)
        if kind is ArtefactKind.IMAGE:
            reference = replace(what, format=ImageFormat.REFERENCE, size=Bytes(0), digest="")
            return await self._db.write(_register, caller, kind, reference, self._now())
        return await self._register_there(caller, what)

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

    async def download(
        self, caller: Caller, kind: ArtefactKind, name: str, *, offset: int = 0, length: int | None = None
    ) -> Download:
        """Its bytes from the store. Raises Conflict when the store has no copy."""
        require(caller, Role.VIEWER, Scope.READ)
        artefact = await self._db.read(rows.resolve, kind, name)
        if not artefact.digest or await self._store.stat(artefact.digest) is None:
            raise Conflict(
                f"The store has no copy of {kind.value} {artefact.name}@{artefact.version}.",
                hint=f"`isthmus {kind.value} replicas {artefact.name}` shows where it lies.",
                code="not-stored",
            )
        return Download(
            name=f"{artefact.name}-{artefact.version}" + (".tar" if artefact.is_folder else ""),
            size=int(artefact.size),
            offset=offset,
            digest=artefact.digest,
            is_folder=artefact.is_folder,
            data=self._store.read(artefact.digest, offset=offset, length=length),
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
        if not may_be_in(content.zones, self._zone):
            raise Forbidden(
                f"{content.label} may only be in {', '.join(content.zones)}; this control plane is in "
                f"{f'zone {self._zone}' if self._zone else 'no declared zone'}.",
                hint="Read it in a job at a site in one of these zones.",
                code="residency",
            )
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

    # ---- within

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _checked(self, kind: ArtefactKind, what: Registration) -> Registration:
        check_name(what.name, "name")
        if what.version:
            check_version(what.version, "version")
        if what.format is not None and kind is not ArtefactKind.IMAGE:
            raise Invalid("Only images have a format.", place="format")
        if what.digest:
            what = replace(what, digest=f"sha256:{hex_of(what.digest)}")
        return replace(what, zones=tuple(sorted(set(what.zones))))

    def _check_zone(self, what: Registration) -> None:
        """Its bytes come into the store: may they be there?"""
        if not may_be_in(what.zones, self._zone):
            here = f"zone {self._zone}" if self._zone else "no declared zone"
            raise Invalid(
                f"It may only be in {', '.join(what.zones)}, and this control plane's store is in {here}.",
                place="zones",
                hint="Register data that lies at a site by the reference SITE:/path, or start this server with --zone.",
                code="residency",
            )

    async def _stored(self, upload: Upload) -> Any:
        """What the store has of the announced digest already: then no byte need be sent."""
        return await self._store.stat(upload.what.digest) if upload.what.digest else None

    async def _offset(self, upload: Upload) -> int:
        stored = await self._stored(upload)
        if stored is not None:
            return int(stored.size)
        return await asyncio.to_thread(self._store.spool.size, upload.id)

    async def _view(self, upload: Upload) -> UploadView:
        return UploadView(
            id=upload.id,
            kind=upload.kind,
            name=upload.what.name,
            version=upload.what.version,
            offset=await self._offset(upload),
            size=upload.what.size,
        )

    async def _sniffed(self, kind: ArtefactKind, what: Registration, path: Path | None) -> Registration:
        """Look into content that came: a folder must be one, and an image's format is what its bytes say."""
        if path is None:
            return what
        if what.is_folder:
            await asyncio.to_thread(_check_folder, path)
        if kind is not ArtefactKind.IMAGE:
            return what
        found = ImageFormat.FOLDER if what.is_folder else await asyncio.to_thread(images.detect, path)
        if what.format is not None and what.format is not found:
            raise Invalid(f"It is of format {found.value}, not {what.format.value}.", place="format")
        return replace(what, format=found)

    async def _register_path(self, caller: Caller, kind: ArtefactKind, what: Registration) -> Artefact:
        if caller.user.role is not Role.ADMIN:
            raise Forbidden(
                "Only an admin may have the server read a path of its own machine.",
                hint="Upload it instead: `isthmus dataset add NAME FILE`.",
                code="role",
            )
        self._check_zone(what)
        path = Path(what.path)
        if not path.is_absolute() or not await asyncio.to_thread(path.exists):
            raise Invalid(f"There is no {what.path!r} on the control plane's machine.", place="path")
        name = secrets.token_hex(16)
        try:
            async with self._store.spool.open(name) as incoming:
                sealed_at, digest, size = await read_into(incoming, path, digest=what.digest, size=what.size)
                is_folder = await asyncio.to_thread(path.is_dir)
                what = replace(what, digest=digest, size=Bytes(size), is_folder=is_folder, path="")
                what = await self._sniffed(kind, what, sealed_at)
                await self._store.take(sealed_at, digest)
        except (OSError, canonical.NotCanonical) as error:
            raise Invalid(f"{what.path} can't be read: {error}", place="path") from error
        finally:
            await asyncio.to_thread(self._store.spool.drop, name)
        return await self._db.write(_register, caller, kind, what, self._now())

    async def _register_there(self, caller: Caller, what: Registration) -> Artefact:
        """Data that lies at a site: measured there; its bytes stay."""
        name, colon, path = what.reference.partition(":")
        if not colon or not path.startswith("/"):
            raise Invalid(
                f"{what.reference!r} is not the place of a dataset.",
                place="reference",
                hint="Write it like SITE:/path/of/the/data.",
            )
        site = await self._db.read(site_rows.get, name)
        spec = codec.read_json(SiteSpec, site.spec)
        if not may_be_in(what.zones, spec.zone):
            where = f"zone {spec.zone}" if spec.zone else "no declared zone"
            raise Invalid(
                f"It may only be in {', '.join(what.zones)}, and {name} is in {where}.", place="zones", code="residency"
            )
        place = await open_place(self._db, self._sessions, site.id, caller.user.id)
        said = await place.site.prepare(
            {"op": "adopt", "path": path, "digest": hex_of(what.digest) if what.digest else ""}
        )
        what = replace(
            what,
            digest=f"sha256:{hex_of(str(said['digest']))}",
            size=Bytes(int(said["size"])),
            is_folder=said["kind"] == "folder",
        )

        def write(conn: Connection) -> Artefact:
            made = _register(conn, caller, ArtefactKind.DATASET, what, self._now())
            replicas.put(
                conn,
                made.digest,
                site.id,
                place.user_id,
                state=ReplicaState.PRESENT,
                path=f"cache/{hex_of(made.digest)}",
                size=int(made.size),
                bytes_done=int(made.size),
                last_used_at=self._now(),
            )
            return made

        return await self._db.write(write)


def _zones_of(job: Any) -> tuple[str, ...]:
    """Where the outputs of a job may be; (): anywhere."""
    return tuple(codec.read_json(tuple[str, ...], job.zones)) if job.zones else ()


def _check_free(conn: Connection, kind: ArtefactKind, what: Registration) -> None:
    """Raise Conflict if the version stands for other content, before anything is brought."""
    if not what.version or not what.digest:
        return
    for known in rows.versions(conn, kind, what.name):
        if known.version == what.version and known.digest != what.digest:
            raise Conflict(
                f"{kind.value} {what.name}@{what.version} stands for other content: {known.digest}.",
                place="version",
                hint="Choose another version, or leave it out for the next one.",
                code="version-exists",
            )


def _register(conn: Connection, caller: Caller, kind: ArtefactKind, what: Registration, now: float) -> Artefact:
    """A version, with its event. Without a version named, the newest one if that is the same."""
    if not what.version:
        newest = next(iter(rows.versions(conn, kind, what.name)), None)
        if newest is not None and _same(newest, what):
            return newest
    made = rows.register(
        conn,
        kind,
        what.name,
        user_id=caller.user.id,
        now=now,
        digest=what.digest,
        size=int(what.size or 0),
        version=what.version,
        is_folder=what.is_folder,
        format=what.format,
        reference=what.reference,
        zones=what.zones,
        labels=what.labels,
        description=what.description,
    )
    named = f"{made.name}@{made.version}"
    events.add(conn, caller.user.name, kind.value, named, "created", now=now, after=made.digest or made.reference)
    return made


def _same(known: Artefact, what: Registration) -> bool:
    return (known.digest, known.reference, known.zones, known.labels, known.description) == (
        what.digest,
        what.reference,
        what.zones,
        what.labels,
        what.description,
    )


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


def _check_folder(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        try:
            canonical.check(file)
        except canonical.NotCanonical as error:
            raise Invalid(
                f"It is no folder's stream: {error.message}",
                place="is_folder",
                hint="The client makes it; docs/site-protocol.md defines it.",
                code="folder",
            ) from None


def _wrong_offset(given: int, wanted: int) -> Conflict:
    return Conflict(
        f"The next byte wanted is number {wanted}, not {given}.", hint=f"Go on from {wanted}.", code="offset"
    )


async def _gathered(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in larger pieces: each is a write in a thread. The last of a cut stream comes too."""
    parts: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= CHUNK:
                yield b"".join(parts)
                parts, size = [], 0
    except Exception:
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)
