"""The object store in S3 (AWS, MinIO, Ceph, …), by the optional package obstore. See `isthmus.data.store.Store`.

Content comes through the spool on this machine, where it is verified, and is then put whole: obstore sends large files
in parts, and an object appears only when all of them have. Credentials are the environment's (AWS_ACCESS_KEY_ID,
AWS_REGION, AWS_ENDPOINT, …) unless the store is made with others.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isthmus.data.digests import hex_of, name_of
from isthmus.data.incoming import CHUNK, Spool
from isthmus.data.store import Stored
from isthmus.domain.errors import Invalid, NotFound, Unavailable

OBJECTS = "objects/"
NAMED = "named/"  # an empty object for each that was named anew: objects can't be touched


class S3Store:
    """A `Store` at ``s3://bucket/prefix``. ``more`` are obstore's settings for it."""

    def __init__(self, url: str, spool: Path, **more: Any) -> None:
        self.spool = Spool(spool)
        self.url = url
        try:
            import obstore
            from obstore.store import S3Store as Client
        except ModuleNotFoundError:
            hint = "Run: pip install 'isthmus[s3]'"
            raise Unavailable("An object store in S3 needs the package obstore.", hint=hint) from None
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not bucket:
            raise Invalid(f"{url!r} is not a place in S3.", place="store", hint="Write it like s3://bucket/prefix.")
        self._obs = obstore
        self._client = Client(bucket, prefix=prefix.strip("/") or None, **more)

    def prepare(self) -> None:
        """Make the spool's folder. The bucket must be there."""
        self.spool.prepare()

    async def stat(self, digest: str) -> Stored | None:
        found = await self._head(OBJECTS + hex_of(digest))
        if found is None:
            return None
        named = await self._head(NAMED + hex_of(digest))
        at = max(one["last_modified"].timestamp() for one in (found, named) if one is not None)
        return Stored(name_of(hex_of(digest)), int(found["size"]), at)

    async def touch(self, digest: str) -> bool:
        if await self._head(OBJECTS + hex_of(digest)) is None:
            return False
        await self._do("put", NAMED + hex_of(digest), datetime.now(UTC).isoformat().encode())
        return True

    async def take(self, path: Path, digest: str) -> None:
        await self._do("put", OBJECTS + hex_of(digest), path)
        size = (await asyncio.to_thread(path.stat)).st_size
        found = await self._head(OBJECTS + hex_of(digest))
        if found is None or found["size"] != size:
            raise Unavailable(f"{self.url} did not keep all of {digest}.", code="store")
        await asyncio.to_thread(path.unlink)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        found = await self._head(OBJECTS + hex_of(digest))
        if found is None:
            raise NotFound(f"The store has nothing under {name_of(hex_of(digest))}.", code="not-stored")
        end = int(found["size"]) if length is None else min(int(found["size"]), offset + length)
        if offset >= end:
            return
        reply = await self._do("get", OBJECTS + hex_of(digest), options={"range": (offset, end)})
        came = 0
        try:
            async for piece in reply.stream(min_chunk_size=CHUNK):
                came += len(piece)
                yield bytes(piece)
        except OSError as error:
            raise self._failed(error) from error
        except self._obs.exceptions.BaseError as error:
            raise self._failed(error) from error
        if came != end - offset:
            raise Unavailable(f"{self.url} gave {came} of {end - offset} bytes.", code="store")

    def local(self, digest: str) -> Path | None:
        return None

    async def delete(self, digest: str) -> None:
        for prefix in (OBJECTS, NAMED):
            try:
                await self._do("delete", prefix + hex_of(digest))
            except NotFound:
                continue

    async def all(self) -> AsyncIterator[Stored]:
        named: dict[str, float] = {}
        try:
            async for batch in self._obs.list(self._client, NAMED):
                named |= {one["path"].rpartition("/")[2]: one["last_modified"].timestamp() for one in batch}
            async for batch in self._obs.list(self._client, OBJECTS):
                for one in batch:
                    digits = one["path"].rpartition("/")[2]
                    at = max(one["last_modified"].timestamp(), named.get(digits, 0.0))
                    yield Stored(name_of(digits), int(one["size"]), at)
        except self._obs.exceptions.BaseError as error:
            raise self._failed(error) from error

    async def _head(self, key: str) -> Any:
        try:
            return await self._do("head", key)
        except NotFound:
            return None

    async def _do(self, verb: str, *words: Any, **more: Any) -> Any:
        try:
            return await getattr(self._obs, f"{verb}_async")(self._client, *words, **more)
        except FileNotFoundError:
            raise NotFound(f"{self.url} has no {words[0]}.", code="not-stored") from None
        except (OSError, self._obs.exceptions.BaseError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Unavailable:
        said = str(error).partition("\n")[0]
        return Unavailable(f"The object store {self.url} failed: {said}", code="store")
