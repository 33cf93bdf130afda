"""Bytes to and from a site, on a channel of their own: `put`, `get` and other programs that speak once.

Owns the streams; which program runs and what its failure means for the session is the session's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from isthmus.domain.errors import BadReply, Invalid, IsthmusError, NotFound, Unreachable
from isthmus.sites import replies, wire
from isthmus.sites.base import Progress, Source
from isthmus.sites.transport.base import Channel

PIECE_BYTES = 1024 * 1024
LAST_WORDS_S = 10.0  # for what a program said before it ended to arrive
VERIFY_S = 1800.0  # for the site to read back what it got and compare its digest, after the last byte

Unknown = Callable[[int | None, str], IsthmusError]
"""The error for a program that ended, with this exit status and stderr, without a word of ours."""


class SourceFailed(Exception):
    """What was to be sent could not be read: no fault of the site's. `error` says why."""

    def __init__(self, error: IsthmusError) -> None:
        super().__init__(error.message)
        self.error = error


async def send(
    channel: Channel,
    token: str,
    source: Source,
    *,
    offset: int,
    size: int,
    progress: Progress | None,
    unknown: Unknown,
) -> None:
    """Send the bytes of `source` from `offset` on to a running `put`, and read what it says at the end.

    Raises SourceFailed, also when the source has not `size` bytes; what the site says no with; or Unreachable.
    """
    sent = offset
    if progress is not None:
        progress(sent)
    async for data in _pieces(source, offset):
        sent += len(data)
        if sent > size:
            break
        await _write(channel, data, token, unknown)
        if progress is not None:
            progress(sent)
    if sent != size:
        raise SourceFailed(
            Invalid(
                f"It has {'more than' if sent > size else 'only'} {min(sent, size)} bytes instead of {size}.",
                place=str(source) if isinstance(source, Path) else "",
                hint="Was it changed while it was sent? Register it anew.",
            )
        )
    await channel.write_eof()
    reply = await _reply(channel, token, unknown, VERIFY_S)
    if not replies.read(lambda said: said["complete"], reply):
        raise BadReply(f"The site has {reply.get('size')} of {size} bytes.", code="cut")


async def receive(channel: Channel, token: str, *, offset: int, unknown: Unknown) -> AsyncIterator[bytes]:
    """The bytes that a running `get` sends. Raises at the end unless all of them came."""
    frames = wire.Frames(token)
    header: dict[str, Any] | None = None
    left = 0
    while data := await channel.read():
        if header is None:
            first = frames.first(data)
            if first is None:
                continue
            header, data = _ok(await wire.decode(first[0])), first[1]
            if header["size"] is not None:
                left = int(header["size"]) - offset
            if not data:
                continue
        if header["size"] is not None:
            left -= len(data)
            if left < 0:
                raise BadReply("The site sent more bytes than it announced.", code="garbled")
        yield data
    status = await channel.wait()
    if header is None or status != 0:
        raise unknown(status, channel.stderr)
    if left:
        raise BadReply(f"{left} bytes did not come.", code="cut")


async def ask_once(
    channel: Channel, token: str, request: Mapping[str, Any], *, timeout_s: float, unknown: Unknown
) -> dict[str, Any]:
    """One request to a program that reads stdin to its end, and its reply."""
    await _write(channel, await wire.encode(dict(request)), token, unknown)
    await channel.write_eof()
    return await _reply(channel, token, unknown, timeout_s)


async def _write(channel: Channel, data: bytes, token: str, unknown: Unknown) -> None:
    try:
        await channel.write(data)
    except Unreachable:
        # Why it took no more it has said before it ended, unless the connection was cut.
        await _reply(channel, token, unknown, LAST_WORDS_S)
        raise


async def _reply(channel: Channel, token: str, unknown: Unknown, timeout_s: float) -> dict[str, Any]:
    frames = wire.Frames(token)
    try:
        async with asyncio.timeout(timeout_s):
            while data := await channel.read():
                for frame in frames.feed(data):
                    return _ok(await wire.decode(frame))
            last = frames.last()
            if last is not None:
                return _ok(await wire.decode(last))
            raise unknown(await channel.wait(), channel.stderr)
    except TimeoutError as error:
        raise Unreachable(f"The site did not answer within {timeout_s:g} s.", code="timeout") from error


def _ok(said: Any) -> dict[str, Any]:
    if "error" in said:
        raise error_of(said)
    ok: dict[str, Any] = replies.read(lambda it: dict(it["ok"]), said)
    return ok


def error_of(said: Mapping[str, Any]) -> IsthmusError:
    return replies.read(lambda it: replies.error_of(it["error"]), said)


async def _pieces(source: Source, offset: int) -> AsyncIterator[bytes]:
    pieces = _file(source, offset) if isinstance(source, Path) else source(offset)
    while True:
        try:
            data = await anext(pieces)
        except StopAsyncIteration:
            return
        except IsthmusError as error:
            raise SourceFailed(error) from error
        yield data


async def _file(path: Path, offset: int) -> AsyncIterator[bytes]:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}.") from error
    with file:
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield data
