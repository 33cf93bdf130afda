"""Garbage collection: where there may be some, and the store's own. A site's cache is `isthmus.data.caches`'."""

from collections.abc import Collection

from sqlalchemy import Connection

from isthmus.data.store import Store, Stored
from isthmus.data.uploads import KEEP_S, Uploads
from isthmus.db import artefacts, replicas
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.views import Collected

# What came this lately stays: it may be about to be registered.
GRACE_S = 3600.0


def caches(conn: Connection, site: str | None) -> list[tuple[int, int]]:
    """The (site id, user id) of every cache, or of those at one site. Raises NotFound."""
    sites = [site_rows.get(conn, site)] if site else site_rows.every(conn)
    found = {(row.id, copy.user_id) for row in sites for copy in replicas.at_site(conn, row.id)}
    return sorted(found)


async def of_store(
    db: Database,
    store: Store,
    uploads: Uploads,
    now: float,
    *,
    only: Collection[str] | None = None,
    dry_run: bool = False,
) -> Collected:
    """Take away what nothing names: no version, no collected output, no live attempt, no upload; and uploads that
    were given up. ``only``: digests to look at, and nothing else."""
    if only is None and not dry_run:
        await _drop_uploads(store, uploads, now)
    kept = await db.read(artefacts.referenced) | await db.read(replicas.needed)
    kept |= {upload.what.digest for upload in await uploads.all() if not upload.artefact}
    gone: list[Stored] = []
    async for stored in store.all():
        if stored.digest in kept or (only is not None and stored.digest not in only):
            continue
        again = await store.stat(stored.digest)  # it may have been named anew meanwhile, which makes it young
        if again is None or again.at > now - GRACE_S:
            continue
        if not dry_run:
            await store.delete(stored.digest)
        gone.append(stored)
    return Collected(
        count=len(gone), size=sum(stored.size for stored in gone), digests=tuple(stored.digest for stored in gone)
    )


async def _drop_uploads(store: Store, uploads: Uploads, now: float) -> None:
    parts = store.spool.names()
    known = {upload.id: upload for upload in await uploads.all()}
    for name, at in parts.items():
        if at < now - KEEP_S:
            store.spool.drop(name)
    for upload in known.values():
        if max(upload.begun_at, parts.get(upload.id, 0.0)) < now - KEEP_S:
            await uploads.drop(upload.id)
