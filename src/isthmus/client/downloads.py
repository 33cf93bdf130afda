"""Bringing files and folders here: in pieces, gone on with after a cut, verified before they get their name.

NAME.part   what has come so far; kept when the transfer is cut
NAME        only once the digest of all of it is right
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from isthmus.client.connection import Connection
from isthmus.data import digests
from isthmus.domain.errors import BadReply, Conflict, Invalid, NotFound, nearest
from isthmus.domain.views import OutputView
from isthmus.runner import canonical

Progress = Callable[[int, int], None]
"""Told the bytes so far and those of all; 0 where that is not known."""

PIECE = 32 << 20
FOLDER = "folder"


async def output(connection: Connection, which: OutputView, to: Path, *, progress: Progress | None = None) -> Path:
    """Bring one output to `to`, or into it where it is a folder already. Returns where it lies."""
    path = f"/v1/jobs/{which.job}/outputs/{which.id}/content"
    return await fetch(
        connection,
        path,
        to=to / Path(which.path).name if await asyncio.to_thread(to.is_dir) else to,
        digest=which.digest,
        size=which.size,
        folder=which.kind == FOLDER,
        progress=progress,
    )


async def fetch(
    connection: Connection,
    path: str,
    *,
    to: Path,
    digest: str,
    size: int,
    folder: bool,
    progress: Progress | None = None,
) -> Path:
    """Bring what `path` of the API serves to `to`. Raises Conflict when something else is there already."""
    wanted = digests.hex_of(digest)
    if await asyncio.to_thread(_is_there, to, wanted, folder):
        return to
    part = to.with_name(to.name + ".part")
    to.parent.mkdir(parents=True, exist_ok=True)
    known, done = await asyncio.to_thread(_begun, part)
    with part.open("ab") as file:
        if progress:
            progress(done, size)
        while done < size or not size:
            answer = await connection.send(
                "GET", path, headers={"Range": f"bytes={done}-{done + PIECE - 1}"}, wait_s=600.0
            )
            piece = answer.content
            total = _total(answer.headers.get("content-range", ""), done + len(piece))
            await asyncio.to_thread(_append, file.fileno(), piece)
            known.update(piece)
            done += len(piece)
            if progress:
                progress(done, size)
            if done >= total:
                break
            if not piece:
                raise BadReply(f"The server stopped at byte {done} of {total}.", hint="Try again: it goes on there.")
        await asyncio.to_thread(os.fsync, file.fileno())
    if known.hexdigest() != wanted:
        part.unlink()
        raise BadReply(
            f"What came for {to.name} is not what was recorded: its digest is sha256:{known.hexdigest()[:12]}…, "
            f"not sha256:{wanted[:12]}….",
            hint="It was thrown away; try again.",
            code="wrong-digest",
        )
    await asyncio.to_thread(_finish, part, to, folder)
    return to


def _total(content_range: str, otherwise: int) -> int:
    """The size of all, from ``bytes 0-9/100``."""
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else otherwise


def no_such_output(job: int, path: str, known: Sequence[str]) -> NotFound:
    return NotFound(
        f"Job {job} left no output {path!r}.",
        place="path",
        hint=nearest(path, known) if known else "It left none at all; declare outputs when you submit.",
    )


def _is_there(to: Path, wanted: str, folder: bool) -> bool:
    if not to.exists():
        return False
    if to.is_dir() != folder:
        raise Conflict(f"{to} is there already, and is {'no' if folder else 'a'} folder.", hint="Name another place.")
    if digests.hex_of(digests.measure_now(to).digest) == wanted:
        return True
    raise Conflict(f"{to} is there already, with another content.", hint="Remove it, or name another place.")


def _begun(part: Path) -> "tuple[hashlib._Hash, int]":
    """The digest so far and the length of what an earlier call brought."""
    known = hashlib.sha256()
    length = 0
    if part.exists():
        with part.open("rb") as file:
            while piece := file.read(1 << 20):
                known.update(piece)
                length += len(piece)
    return known, length


def _append(handle: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]


def _finish(part: Path, to: Path, folder: bool) -> None:
    if not folder:
        part.replace(to)
        return
    unpacked = to.with_name(to.name + ".unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with part.open("rb") as file:
            canonical.unpack(file, os.fspath(unpacked))
    except canonical.NotCanonical as error:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise Invalid(f"{to.name} is no folder's stream: {error.message}") from None
    unpacked.rename(to)
    part.unlink()
