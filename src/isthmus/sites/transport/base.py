"""What a transport offers: programs started somewhere, each on a channel of bytes.

    transport.open(["sh", "-c", "..."]) ──► Channel: stdin, stdout, the end of stderr, the exit status

A transport starts programs and moves bytes. It knows nothing of proxies, jobs or sites. Its errors are `Unreachable`
(no connection, with why) and `ChannelsFull`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from isthmus.domain.errors import Unreachable

T = TypeVar("T")

TAIL_BYTES = 4096  # of stderr that is kept: enough for what a shell or an interpreter says as it fails
CHUNK_BYTES = 256 * 1024
HIGH_WATER = 1024 * 1024  # bytes that come in ahead of who reads them


class Channel(Protocol):
    """A running program: its stdin and stdout, the end of its stderr, its exit status.

    One task may read while others write. `close` must be called, whatever happened.
    """

    async def write(self, data: bytes) -> None:
        """Send `data` whole to stdin; returns when there is room for more. Raises Unreachable when it was cut."""
        ...

    async def write_eof(self) -> None:
        """Say that no more will be written."""
        ...

    async def read(self, size: int = CHUNK_BYTES) -> bytes:
        """Up to `size` bytes of stdout, as soon as there are any; b"" at its end. Raises Unreachable when cut."""
        ...

    @property
    def stderr(self) -> str:
        """The last few kilobytes of stderr so far."""
        ...

    async def wait(self) -> int | None:
        """The exit status, or minus the signal's number. None: the connection was cut, so nobody knows."""
        ...

    async def close(self) -> None:
        """Kill the program if it still runs, and give the channel back. May be called again."""
        ...


class Transport(Protocol):
    """A way to a machine. Connects when first needed, and again when the connection was lost."""

    async def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Channel:
        """Start a program there. `env` is added to its environment and may be seen by others: no secrets.

        Raises Unreachable, with why and what to do; ChannelsFull when the connection bears no more channels.
        May be cancelled: then nothing is left running.
        """
        ...

    async def close(self) -> None:
        """End the connection and all channels. A later `open` connects again."""
        ...


class ChannelsFull(Exception):
    """The connection bears no more channels now; `freed` returns when one was given back."""

    def __init__(self, limit: int, freed: Callable[[], Awaitable[None]]) -> None:
        super().__init__(f"all {limit} channels of the connection are in use")
        self.limit = limit
        self.freed = freed


class Tail:
    """The last bytes of a stream."""

    def __init__(self, size: int = TAIL_BYTES) -> None:
        self._size = size
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > 2 * self._size:
            del self._bytes[: -self._size]

    @property
    def text(self) -> str:
        return self._bytes[-self._size :].decode(errors="replace").strip()


class Incoming:
    """Bytes between whoever brings them and whoever reads them, with a bound on how far the former gets ahead."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._ahead = 0
        self._paused = False
        self._ended = False
        self._error: Callable[[], Exception] | None = None
        self._readable = asyncio.Event()
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._ahead += len(data)
        if self._ahead > HIGH_WATER and not self._paused and self.pause is not None:
            self._paused = True
            self.pause()
        self._readable.set()

    def end(self, error: Callable[[], Exception] | None = None) -> None:
        """No more will come; with `error`, because it was cut: readers get what came, then that."""
        if not self._ended:
            self._ended, self._error = True, error
            self._readable.set()

    async def read(self, size: int) -> bytes:
        while not self._chunks:
            if self._ended:
                if self._error is not None:
                    raise self._error()
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = [data[size:]] if len(data) > size else []
        data = data[:size]
        self._ahead -= len(data)
        if self._paused and self._ahead < HIGH_WATER // 2 and self.resume is not None:
            self._paused = False
            self.resume()
        return data


class Slots:
    """How many channels may be open at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._freed = asyncio.Event()

    def take(self) -> bool:
        """Take one if there is one."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def give(self) -> None:
        """Give one back. All who wait are woken, in their order: the first who still wants it takes it."""
        self.used -= 1
        self._freed.set()

    async def freed(self) -> None:
        """Return once one may be free; at once if one is."""
        if self.used >= self.limit:
            self._freed.clear()
            await self._freed.wait()


async def complete(start: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """Run `start` to its end, whatever happens to the caller: if it is cancelled meanwhile, `undo` the result."""
    task = asyncio.ensure_future(start)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            _background(_undo(task, undo))
        raise


async def _undo(task: asyncio.Task[T], undo: Callable[[T], Awaitable[None]]) -> None:
    try:
        result = await task
    except (Exception, asyncio.CancelledError):  # noqa: BLE001  # it came to nothing, and nobody waits for it
        return
    await undo(result)


_running: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks by weak references only


def _background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)


def cut(where: str, why: object) -> Unreachable:
    """The error for a connection that was lost in use."""
    reason = str(why).strip().rstrip(".") or type(why).__name__
    return Unreachable(f"The connection to {where} was lost: {reason}.", code="connection-lost")
