"""One running proxy, spoken to: requests go out one after another without waiting, replies find who asked.

    ask() ─┐                  ┌─► reply 1
    ask() ─┼─► channel ──────►┼─► reply 2
    ask() ─┘   (one proxy)    └─► …

Whatever comes that is not a whole reply of ours ends the conversation: all who wait get the error, nobody a guess.
It is never mended; the session starts another proxy.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.domain.errors import BadReply, IsthmusError, SiteError, Unreachable
from isthmus.sites import wire
from isthmus.sites.replies import error_of
from isthmus.sites.transport.base import Channel

GOODBYE_S = 1.0  # for a proxy to end by itself once nothing more is asked
CLOSED = "closed"  # the code of the error for what was asked of a conversation that we ended ourselves


@dataclass
class _Request:
    verb: str
    timeout_s: float
    reply: asyncio.Future[Any]


class NotSent(Exception):
    """The conversation has ended before the request went out: ask another one."""


class Conversation:
    """Requests to one proxy on one channel. `close` must be called, unless `alive` has become False."""

    def __init__(self, channel: Channel, token: str, where: str) -> None:
        self.where = where
        self._channel = channel
        self._frames = wire.Frames(token)
        self._pending: dict[int, _Request] = {}
        self._number = 0
        self._over: SiteError | None = None
        self._asking = 0
        self._closing = self._retired = False
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.status: int | None = None
        self.stderr = ""
        self._listener = asyncio.ensure_future(self._listen())

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._over is None and not self._closing and not self._retired

    @property
    def busy(self) -> bool:
        """Whether requests have no reply yet."""
        return bool(self._pending or self._asking)

    async def ask(self, verb: str, fields: Mapping[str, Any], timeout_s: float) -> Any:
        """The `ok` of the reply. The time runs from when all earlier requests are answered.

        Raises NotSent when it has ended already, Unreachable or BadReply when it ends before the reply, and what the
        proxy says no with. May be cancelled: the request may be done all the same.
        """
        if not self.alive:
            raise NotSent
        return await self._ask(verb, fields, timeout_s)

    async def _ask(self, verb: str, fields: Mapping[str, Any], timeout_s: float) -> Any:
        self._number += 1
        number = self._number
        self._asking += 1
        try:
            line = await wire.encode({"id": number, "verb": verb, **fields})
        finally:
            self._asking -= 1
        if self._over is not None or self._closing:
            raise NotSent
        request = _Request(verb, timeout_s, asyncio.get_running_loop().create_future())
        self._pending[number] = request
        self._quiet.clear()
        if len(self._pending) == 1:
            self._watch()
        try:
            await self._channel.write(line)
        except Unreachable as error:
            # The listener knows better why, as soon as it has read what the proxy said last.
            await asyncio.wait([self._listener], timeout=GOODBYE_S)
            self._end(error)
        return await request.reply

    async def close(self) -> None:
        """Let the proxy answer what it was asked and end; kill it if it takes long. May be called again."""
        self._closing = True
        if self._over is None:
            await self._channel.write_eof()
            await asyncio.wait([self._listener], timeout=GOODBYE_S)
        await self.kill()

    async def retire(self) -> None:
        """Take no new requests, wait for the replies to the old ones, then close."""
        self._retired = True
        if self._pending:
            with contextlib.suppress(IsthmusError, NotSent):  # a poll that waits ends early when something else comes
                await self._ask("hello", {}, 60.0)
        await self._quiet.wait()
        await self.close()

    async def kill(self) -> None:
        """End it at once."""
        self._closing = True
        if not self._listener.done():
            self._listener.cancel()
            await asyncio.wait([self._listener])
        self._end(self._closed())
        await self._channel.close()

    async def _listen(self) -> None:
        error: SiteError = self._closed()
        try:
            error = await self._hear()
        except SiteError as failure:
            error = failure
        except (KeyError, TypeError, ValueError, AttributeError) as failure:
            error = BadReply(f"The reply from {self.where} is garbled: {failure!r}.", code="garbled")
        finally:
            self.stderr = self._channel.stderr
            self._end(error)
            await asyncio.shield(self._channel.close())

    async def _hear(self) -> SiteError:
        while data := await self._channel.read():
            for frame in self._frames.feed(data):
                self._answer(await wire.decode(frame))
        last = self._frames.last()
        if last is not None:
            self._answer(await wire.decode(last))
        self.status = await self._channel.wait()
        said = self._channel.stderr
        ended = "was cut off" if self.status is None else f"ended ({_status(self.status)})"
        return BadReply(
            f"The proxy at {self.where} {ended} before it answered" + (f"; it said: {said}" if said else "."),
            code="proxy-ended",
        )

    def _answer(self, reply: dict[str, Any]) -> None:
        # Read it whole before anybody is told: what is garbled must fail whoever still waits.
        request, error = self._pending[reply["id"]], None
        if "error" in reply:
            error = error_of(reply["error"])
        ok = None if error else reply["ok"]
        del self._pending[reply["id"]]
        if not request.reply.done():
            if error is not None:
                request.reply.set_exception(error)
            else:
                request.reply.set_result(ok)
        self._watch()

    def _watch(self) -> None:
        """Give the request that is answered next its time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            self._quiet.set()
            return
        request = next(iter(self._pending.values()))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(request.timeout_s, self._too_late, request)

    def _too_late(self, request: _Request) -> None:
        self._end(
            Unreachable(
                f"{self.where} did not answer {request.verb!r} within {request.timeout_s:g} s.",
                hint="Is a file system there hanging, or the login node overloaded?",
                code="timeout",
            )
        )
        self._listener.cancel()

    def _closed(self) -> Unreachable:
        return Unreachable(f"The proxy at {self.where} was ended.", code=CLOSED)

    def _end(self, error: SiteError) -> None:
        if self._over is None:
            self._over = error
        if self._timer is not None:
            self._timer.cancel()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.reply.done():
                request.reply.set_exception(again(self._over))
        self._quiet.set()


def again(error: IsthmusError) -> IsthmusError:
    """The same error for another who waits: an exception that was raised carries the story of that raise."""
    copy = type(error)(error.message, hint=error.hint, place=error.place, code=error.code)
    copy.transient = error.transient
    return copy


def _status(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status}"
