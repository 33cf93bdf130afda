"""Registering: content comes into the store, or is measured where it lies, and gets a name and a version.

upload in pieces ─┐
a path here ──────┼─► the store, verified ─► a version: a name for its digest
a reference ──────┘   (data that lies at a site is measured there, and stays)
"""

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from isthmus import codec
from isthmus.control.opening import open_place
from isthmus.control.rights import require
from isthmus.control.sessions import Sessions
from isthmus.data import images
from isthmus.data.digests import hex_of
from isthmus.data.incoming import CHUNK
from isthmus.data.intake import read_into
from isthmus.data.store import Store
from isthmus.data.uploads import Upload, Uploads
from isthmus.db import artefacts as rows
from isthmus.db import events, replicas
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.artefacts import (
    Artefact,
    ArtefactKind,
    ImageFormat,
    Registration,
    ReplicaState,
    check_name,
    check_version,
    may_be_in,
)
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from isthmus.domain.sites import SiteSpec
from isthmus.domain.units import Bytes
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import UploadView
from isthmus.runner import canonical


class Registering:
    """The part of `isthmus.control.artefacts.Artefacts` by which content comes in."""

    def __init__(self, db: Database, store: Store, sessions: Sessions, clock: Clock, *, zone: str = "") -> None:
        self._db = db
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._zone = zone
        self._uploads = Uploads(store.spool.folder)

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
        if not digest and not found.what.digest:
            raise Invalid("Nobody said which digest it must have.", place="digest", code="digest")
        if digest and found.what.digest and hex_of(digest) != hex_of(found.what.digest):
            raise Invalid("It is not the digest that the upload was begun with.", place="digest", code="digest")
        stored = await self._stored(found)
        if stored is not None:
            await self._store.touch(stored.digest)
            measured = replace(found.what, digest=stored.digest, size=Bytes(stored.size))
            measured = await self._sniffed(found.kind, measured, self._store.local(stored.digest))
        else:
            async with self._store.spool.open(found.id) as incoming:
                path, sealed, size = await incoming.seal(digest or found.what.digest, found.what.size)
                measured = replace(found.what, digest=sealed, size=Bytes(size))
                measured = await self._sniffed(found.kind, measured, path)
                await self._store.take(path, sealed)
        made = await self._db.write(_register, caller, found.kind, measured, self._now())
        await self._uploads.keep(replace(found, what=measured, artefact=made.id))
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
        """What the store has of the announced digest already: then no byte need be sent.

        Only what can be looked into, or was when it was registered before.
        """
        if not upload.what.digest:
            return None
        stored = await self._store.stat(upload.what.digest)
        if stored is None or self._store.local(upload.what.digest) is not None:
            return stored
        known = await self._db.read(rows.of_digest, upload.what.digest)
        alike = [one for one in known if (one.kind, one.is_folder) == (upload.kind, upload.what.is_folder)]
        return stored if alike else None

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
            known = [one for one in await self._db.read(rows.of_digest, what.digest) if one.kind is kind]
            return replace(what, format=known[0].format)
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
        if not path.is_absolute() or not await asyncio.to_thread(lambda: path.is_file() or path.is_dir()):
            raise Invalid(f"There is no file or folder {what.path!r} on the control plane's machine.", place="path")
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
        if not colon or not path.startswith("/") or path.startswith("//"):
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
