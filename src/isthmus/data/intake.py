"""Intake: a file or folder of this machine is read into the store's spool, in a thread that can be stopped."""

import asyncio
import threading
from pathlib import Path

from isthmus.data.incoming import Incoming
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
    if path.is_dir():
        for piece in canonical.stream(str(path), incoming.offset):
            if stop.is_set():
                return None
            incoming.write_now(piece)
    else:
        with path.open("rb", buffering=0) as file:
            while incoming.copy_now(file):
                if stop.is_set():
                    return None
    return incoming.seal_now(digest, size)
