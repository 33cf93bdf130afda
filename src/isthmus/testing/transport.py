"""A transport whose programs are functions: what runs "there" is a coroutine of the test.

async def echo(program: FakeProgram) -> int:
    while line := await program.readline():
        program.write(line)
    return 0

transport = FakeTransport(echo)
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from isthmus.domain.errors import Unreachable
from isthmus.sites.transport.base import CHUNK_BYTES, ChannelsFull, Slots, Tail, cut

Function = Callable[["FakeProgram"], Awaitable[int]]


class FakeProgram:
    """The program's own side: its arguments, stdin, stdout and stderr."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None) -> None:
        self.argv = list(argv)
        self.env = dict(env or {})
        self._stdin = asyncio.StreamReader(limit=2**30)
        self._stdout = asyncio.StreamReader(limit=2**30)
        self._tail = Tail()

    async def readline(self) -> bytes:
        """The next line of stdin, b"" at its end."""
        line: bytes = await self._stdin.readline()
        return line

    async def read(self, size: int = -1) -> bytes:
        return await self._stdin.read(size)

    def write(self, data: bytes) -> None:
        """To stdout."""
        self._stdout.feed_data(data)

    def write_stderr(self, text: str) -> None:
        self._tail.feed(text.encode())


class Cut(Exception):
    """Raised by a program's function: the connection is lost here, so that no exit status arrives."""


class FakeTransport:
    """A `Transport` that runs `function` for every program.

    `opened` holds all programs ever started, `limit` bounds the channels open at a time, each of `refusals` is
    raised by one `open`.
    """

    def __init__(self, function: Function, *, limit: int = 6) -> None:
        self.function = function
        self.opened: list[FakeProgram] = []
        self.refusals: list[Unreachable] = []
        self.closed = 0
        self.slots = Slots(limit)
        self._channels: set[FakeChannel] = set()

    async def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> "FakeChannel":
        await asyncio.sleep(0)
        if self.refusals:
            raise self.refusals.pop(0)
        if not self.slots.take():
            raise ChannelsFull(self.slots.limit, self.slots.freed)
        program = FakeProgram(argv, env)
        self.opened.append(program)
        channel = FakeChannel(program, self.function, self._gone)
        self._channels.add(channel)
        return channel

    async def close(self) -> None:
        self.closed += 1
        for channel in list(self._channels):
            await channel.close()

    def _gone(self, channel: "FakeChannel") -> None:
        self._channels.discard(channel)
        self.slots.give()


class FakeChannel:
    """A `Channel` to a `FakeProgram`."""

    def __init__(self, program: FakeProgram, function: Function, gone: Callable[["FakeChannel"], None]) -> None:
        self._program, self._gone = program, gone
        self._cut = False
        self._open = True
        self._running = asyncio.ensure_future(self._run(function))

    async def _run(self, function: Function) -> int | None:
        try:
            return await function(self._program)
        except Cut:
            self._cut = True
            return None
        except asyncio.CancelledError:
            return -9
        finally:
            self._program._stdout.feed_eof()

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self._running.done():
            raise cut("the fake program", "it has ended")
        self._program._stdin.feed_data(data)

    async def write_eof(self) -> None:
        if not self._program._stdin.at_eof():
            self._program._stdin.feed_eof()

    async def read(self, size: int = CHUNK_BYTES) -> bytes:
        data: bytes = await self._program._stdout.read(size)
        if not data and self._cut:
            raise cut("the fake program", "the test cut it")
        return data

    @property
    def stderr(self) -> str:
        return self._program._tail.text

    async def wait(self) -> int | None:
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        if not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._open:
            self._open = False
            self._gone(self)
