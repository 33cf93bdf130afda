"""The object store of the control plane: content by its digest, kept once, never changed.

`Store` is the seam: a folder (`FolderStore`) by default, S3 (`isthmus.data.s3`) for growth. What enters was verified
before, by `isthmus.data.incoming`; a folder's content is its canonical stream.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isthmus.data.digests import hex_of, name_of
from isthmus.data.incoming import CHUNK, Spool, no_room
from isthmus.domain.errors import NotFound


@dataclass(frozen=True, slots=True)
class Stored:
    """One object of the store."""

    digest: str
    size: int
    at: float  # UTC seconds: since when it is here


class Store(Protocol):
    """Content by digest. Digests are ``sha256:<hex>``. Every method may be called again and beside the others."""

    spool: Spool

    async def stat(self, digest: str) -> Stored | None:
        """What lies under this digest; None if nothing does."""
        ...

    async def touch(self, digest: str) -> bool:
        """Whether it is here; if so its age begins anew, so that it is not collected as garbage before it is named."""
        ...

    async def take(self, path: Path, digest: str) -> None:
        """Take a verified, flushed file of this machine in; it is gone from where it was. Durable on return."""
        ...

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``offset`` on, at most ``length``. Raises NotFound."""
        ...

    def local(self, digest: str) -> Path | None:
        """Its file on this machine, to be read only; None if it is not here or lies elsewhere."""
        ...

    async def delete(self, digest: str) -> None:
        """Take it out. Silent if gone."""
        ...

    def all(self) -> AsyncIterator[Stored]:
        """Everything in the store, in no order."""
        ...


class FolderStore:
    """A `Store` in a folder: ``objects/ab/cdef…``, read-only files, and ``incoming/`` for what is on its way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root / "incoming")

    def prepare(self) -> None:
        """Make its folders."""
        (self.root / "objects").mkdir(parents=True, exist_ok=True, mode=0o700)
        self.spool.prepare()

    async def stat(self, digest: str) -> Stored | None:
        path = self._path(digest)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return Stored(name_of(hex_of(digest)), status.st_size, status.st_mtime)

    async def touch(self, digest: str) -> bool:
        try:
            os.utime(self._path(digest))
        except FileNotFoundError:
            return False
        return True

    async def take(self, path: Path, digest: str) -> None:
        await asyncio.to_thread(self._take, path, self._path(digest))

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        try:
            handle = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _not_here(digest) from None
        try:
            left = os.fstat(handle).st_size - offset
            if length is not None:
                left = min(left, length)
            while left > 0:
                piece = await asyncio.to_thread(os.pread, handle, min(CHUNK, left), offset)
                offset += len(piece)
                left -= len(piece)
                yield piece
        finally:
            os.close(handle)

    def local(self, digest: str) -> Path | None:
        path = self._path(digest)
        return path if path.exists() else None

    async def delete(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)

    async def all(self) -> AsyncIterator[Stored]:
        for stored in await asyncio.to_thread(lambda: list(self._all())):
            yield stored

    def _all(self) -> Iterator[Stored]:
        for path in (self.root / "objects").glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield Stored(name_of(path.parent.name + path.name), status.st_size, status.st_mtime)

    def _path(self, digest: str) -> Path:
        digits = hex_of(digest)
        return self.root / "objects" / digits[:2] / digits[2:]

    def _take(self, source: Path, target: Path) -> None:
        try:
            target.parent.mkdir(exist_ok=True, mode=0o700)
            os.utime(source)  # its age in the store begins now
            source.chmod(0o444)
            source.replace(target)
            for folder in (target.parent, target.parent.parent):
                _flush(folder)
        except OSError as error:
            raise no_room(error, target) from error


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_here(digest: str) -> NotFound:
    return NotFound(f"The store has nothing under {name_of(hex_of(digest))}.", code="not-stored")
