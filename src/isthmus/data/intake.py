"""Intake: a file or folder of this machine is read into the store's spool, in a thread that can be stopped."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

from isthmus.data.incoming import CHUNK, Incoming
from isthmus.runner import canonical


async def read_into(
    incoming: Incoming, path: Path, *, digest: str = "", size: int | None = None
) -> tuple[Path, str, int]:
    """Copy what ``path`` holds behind what has come already, and seal it: see `Incoming.seal`.

    A folder comes as its canonical stream. Raises OSError and NotCanonical when it can't be read, Invalid when it is
    not what was announced.
    """
    stop = threading.Event()
    reading = asyncio.ensure_future(asyncio.to_thread(_read, incoming, path, digest, size, stop))
    try:
        sealed = await asyncio.shield(reading)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({reading})
        raise
    assert sealed is not None
    return sealed


def _read(
    incoming: Incoming, path: Path, digest: str, size: int | None, stop: threading.Event
) -> tuple[Path, str, int] | None:
    for piece in _pieces(path, incoming.offset):
        if stop.is_set():
            return None
        incoming.write_now(piece)
    return incoming.seal_now(digest, size)


def _pieces(path: Path, offset: int) -> Iterator[bytes]:
    if path.is_dir():
        yield from canonical.stream(str(path), offset)
        return
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while piece := file.read(CHUNK):
            yield piece
