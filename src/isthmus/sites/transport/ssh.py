"""A machine over SSH: one connection, through jump hosts where there are some, and a few channels on it."""

import asyncio
import contextlib
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import asyncssh

from isthmus.domain.sites import Reach
from isthmus.sites.base import Identity
from isthmus.sites.transport import hops
from isthmus.sites.transport.base import CHUNK_BYTES, ChannelsFull, Incoming, Slots, Tail, complete, cut

CHANNELS = 6  # at a time: sshd's MaxSessions is 10 by default, and the user may be logged in as well
WINDOW_BYTES = 8 * 1024 * 1024  # under way unacknowledged: 8 MiB keep 1 Gbit/s busy at a round trip of 60 ms
CLOSE_S = 2.0
# A server at its bound (sshd's MaxSessions) still counts a channel that was closed until its program has ended. So one
# that is refused is tried again: once where others are open, for a while where none is.
REFUSED_WAITS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


class SSHTransport:
    """One connection for one identity; opened when needed, and again after it was lost."""

    def __init__(
        self,
        reach: Reach,
        identity: Identity,
        *,
        channels: int = CHANNELS,
        keepalive_s: float = hops.KEEPALIVE_S,
    ) -> None:
        self._reach, self._identity = reach, identity
        self._channels, self._keepalive_s = channels, keepalive_s
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None

    async def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> "SSHChannel":
        link = await self._connected()
        if not link.slots.take():
            raise ChannelsFull(link.slots.limit, link.slots.freed)
        return await complete(link.start(_command(argv, env)), SSHChannel.close)

    async def close(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
        link, self._link = self._link, None
        if link is not None:
            await link.way.close()

    async def _connected(self) -> "Link":
        if self._link is not None:
            if self._link.way.open:
                return self._link
            lost, self._link = self._link, None
            await lost.way.close()
        if self._connecting is None:
            # A task of its own: many may wait for it, and one that is cancelled must not take it from the others.
            self._connecting = asyncio.ensure_future(self._connect())
            self._connecting.add_done_callback(self._connected_or_not)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> "Link":
        way = await hops.connect(self._reach, self._identity, keepalive_s=self._keepalive_s)
        self._link = Link(way, Slots(self._channels))
        return self._link

    def _connected_or_not(self, task: "asyncio.Task[Link]") -> None:
        if self._connecting is task:
            self._connecting = None
        if not task.cancelled():
            task.exception()  # who waits gets it; if nobody does any more, it is of no interest


class Link:
    """An open connection and its channels."""

    def __init__(self, way: hops.Way, slots: Slots) -> None:
        self.way, self.slots = way, slots

    async def start(self, command: str) -> "SSHChannel":
        """Start a command on a new channel, whose slot has been taken; gives it back if it comes to nothing."""
        waits = iter(REFUSED_WAITS_S)
        while True:
            channel = SSHChannel(self.way, self.slots.give)
            try:
                await self.way.last.create_session(
                    cast(Any, lambda it=channel: it), command, encoding=None, window=WINDOW_BYTES
                )
                return channel
            except asyncssh.ChannelOpenError as error:
                others = self.slots.used - 1
                # One that was opened, but not given its program, is no matter of the bound.
                wait = next(waits, None) if self.way.open and not channel.opened else None
                if wait is None or (others and wait > REFUSED_WAITS_S[0]):
                    channel.connection_lost(error)
                    raise self._refused(error, others) from error
            except (OSError, asyncssh.Error) as error:
                channel.connection_lost(None)
                raise cut(self.way.where, self.way.why_lost if not self.way.open else error) from error
            except BaseException:
                channel.connection_lost(None)
                raise
            await asyncio.sleep(wait)

    def _refused(self, error: asyncssh.ChannelOpenError, others: int) -> Exception:
        if not self.way.open:
            return cut(self.way.where, self.way.why_lost)
        if not others:
            return cut(self.way.where, f"it opens no channel ({error.reason})")
        # The server's bound (sshd's MaxSessions) is lower than ours: from now on it holds.
        self.slots.limit = others
        return ChannelsFull(others, self.slots.freed)


class SSHChannel(asyncssh.SSHClientSession[bytes]):
    """See `Channel`. asyncssh calls the public methods without `async`."""

    def __init__(self, way: hops.Way, give: Callable[[], None]) -> None:
        self._way, self._give = way, give
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._tail = Tail()
        self._stdout = Incoming()
        self._status: int | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()

    @property
    def opened(self) -> bool:
        """Whether the server has ever opened it."""
        return self._channel is not None

    # ---- what asyncssh calls

    def connection_made(self, chan: "asyncssh.SSHClientChannel[bytes]") -> None:
        self._channel = chan
        self._stdout.pause, self._stdout.resume = chan.pause_reading, chan.resume_reading

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._tail.feed(data)
        else:
            self._stdout.feed(data)

    def eof_received(self) -> bool:
        self._stdout.end()
        return True  # our side stays open until the program has ended

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def exit_signal_received(self, signal_name: str, core_dumped: bool, msg: str, lang: str) -> None:
        try:
            self._status = -signal.Signals[f"SIG{signal_name}"].value
        except KeyError:
            self._status = -1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._stdout.end(self._lost if self._status is None else None)
        self._writable.set()
        self._give()

    # ---- Channel

    async def write(self, data: bytes) -> None:
        try:
            if self._channel is None or self._closed.is_set():
                raise BrokenPipeError
            self._channel.write(data)
        except OSError as error:
            raise self._lost() from error
        await self._writable.wait()
        if self._closed.is_set() and self._status is None:
            raise self._lost()

    async def write_eof(self) -> None:
        if self._channel is not None and not self._closed.is_set():
            with contextlib.suppress(OSError):
                self._channel.write_eof()

    async def read(self, size: int = CHUNK_BYTES) -> bytes:
        return await self._stdout.read(size)

    @property
    def stderr(self) -> str:
        return self._tail.text

    async def wait(self) -> int | None:
        await self._closed.wait()
        return self._status

    async def close(self) -> None:
        if self._channel is None or self._closed.is_set():
            return
        with contextlib.suppress(OSError):
            # Before OpenSSH 7.9 signals are not delivered: there the end of stdin and stdout must do.
            if self._status is None:
                self._channel.kill()
        self._channel.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._closed.wait()
        self.connection_lost(None)

    def _lost(self) -> Exception:
        if self._way.open and self._closed.is_set():
            return cut(self._way.where, "the program there has ended")
        return cut(self._way.where, self._way.why_lost)


def _command(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    # sshd takes variables that its configuration names only, so env(1) sets them.
    words = ["env", *(f"{name}={value}" for name, value in env.items()), *argv] if env else argv
    return shlex.join(words)
