"""Incoming: bytes on their way into the store, in a part file that survives everything and can be gone on with.

    Spool.open(name) ─► Incoming.write(bytes)… ─► Incoming.seal(digest) ─► a verified file for the store to take
                  └ goes on where the part file ends

Each name has one writer at a time, in all processes that share the folder. Nothing here knows what the bytes are.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

from isthmus.data.digests import hex_of, name_of
from isthmus.domain.errors import Conflict, Invalid, Unavailable

CHUNK = 1 << 20


class Spool:
    """A folder of part files. ``open`` one to write to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator["Incoming"]:
        """The part file ``name``, made when it is not there. Raises Conflict (code ``busy``) while another has it."""
        incoming = await asyncio.to_thread(Incoming, self._part(name))
        try:
            yield incoming
        finally:
            await asyncio.shield(asyncio.to_thread(incoming.close))

    def size(self, name: str) -> int:
        """How many bytes of it are here."""
        try:
            return self._part(name).stat().st_size
        except FileNotFoundError:
            return 0

    def drop(self, name: str) -> None:
        """Forget it. Silent if gone."""
        self._part(name).unlink(missing_ok=True)

    def names(self) -> dict[str, float]:
        """All part files, with the time of the last byte."""
        found = {}
        for path in self.folder.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                found[path.name[: -len(".part")]] = path.stat().st_mtime
        return found

    def _part(self, name: str) -> Path:
        return self.folder / f"{name}.part"


class Incoming:
    """One part file, open for its only writer. Its methods are called one after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = _locked(path)
        self._known: Any = None  # the running hash, once what was here before has been read
        self.offset = os.fstat(self._handle).st_size

    async def write(self, data: bytes) -> None:
        """Add bytes at the end. Raises Unavailable when the disk is full; what was written stays."""
        await asyncio.to_thread(self.write_now, data)

    async def seal(self, digest: str = "", size: int | None = None) -> tuple[Path, str, int]:
        """Check what has come and flush it to the disk: ``(path, sha256:…, size)``.

        Raises Invalid (code ``digest``, ``size``) when it is not what was announced; the bytes are then gone, unless
        there are just too few.
        """
        return await asyncio.to_thread(self.seal_now, digest, size)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def write_now(self, data: bytes) -> None:
        """As `write`, in the caller's thread."""
        known = self._hash()
        left = memoryview(data)
        try:
            while left:
                count = os.pwrite(self._handle, left[:CHUNK], self.offset)
                known.update(left[:count])
                self.offset += count
                left = left[count:]
        except OSError as error:
            raise no_room(error, self._path) from error

    def copy_now(self, source: BinaryIO) -> bool:
        """Add some bytes of an open file from our offset on, copied by the kernel; False at its end. Blocks."""
        try:
            os.lseek(self._handle, self.offset, os.SEEK_SET)  # not opened to append: sendfile can't do that
            count = os.sendfile(self._handle, source.fileno(), self.offset, 64 * CHUNK)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise no_room(error, self._path) from error
            data = os.pread(source.fileno(), CHUNK, self.offset)  # a file system that can't
            self.write_now(data)
            return bool(data)
        self._known = None  # it is read back when it is sealed
        self.offset += count
        return count > 0

    def seal_now(self, digest: str = "", size: int | None = None) -> tuple[Path, str, int]:
        """As `seal`, in the caller's thread."""
        if size is not None and size != self.offset:
            came = self.offset
            if came > size:
                self._forget()
            raise Invalid(f"{came} bytes came, {size} were announced.", place="size", code="size")
        found = self._hash().hexdigest()
        if digest and hex_of(digest) != found:
            self._forget()
            raise Invalid(
                f"What came has the digest {name_of(found)}, announced was {name_of(hex_of(digest))}.",
                place="digest",
                hint="Send it again; if it happens again, take the digest again.",
                code="digest",
            )
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise no_room(error, self._path) from error
        return self._path, name_of(found), self.offset

    def _forget(self) -> None:
        """Begin anew: what came is not what was meant."""
        os.ftruncate(self._handle, 0)
        self._known, self.offset = None, 0
        self._path.unlink(missing_ok=True)

    def _hash(self) -> Any:
        if self._known is None:
            known = hashlib.sha256()
            place = 0
            while piece := os.pread(self._handle, CHUNK, place):
                known.update(piece)
                place += len(piece)
            self._known = known
        return self._known


def _locked(path: Path) -> int:
    """Open the part file as its only writer. A lock of the kernel's: it goes with its process."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise no_room(error, path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            hint = "Wait for it, ask how far it is, and go on from there."
            raise Conflict("Another call is writing these bytes just now.", hint=hint, code="busy") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # it was taken away between opening and locking


def no_room(error: OSError, path: Path) -> Unavailable:
    """The error to raise when the control plane's own disk fails."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"The disk of the control plane's store is full ({path.parent}).",
            hint="Make room there, or let `isthmus dataset gc` take away what nothing needs.",
            code="disk-full",
        )
    return Unavailable(f"The control plane's store failed: {error.strerror} ({path}).", code="store")
