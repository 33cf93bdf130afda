"""This machine: programs are children of this process."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from isthmus.domain.errors import Unreachable
from isthmus.sites.transport.base import CHUNK_BYTES, Incoming, Tail, complete, cut

STDIN, STDOUT, STDERR = range(3)
LINGER_S = 0.2  # for output still in the pipes of a program that has ended


class LocalTransport:
    """Starts programs here, each in a session of its own: a Ctrl-C in the terminal is not theirs."""

    def __init__(self) -> None:
        self._channels: set[LocalChannel] = set()

    async def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> "LocalChannel":
        return await complete(self._start(argv, env), LocalChannel.close)

    async def _start(self, argv: Sequence[str], env: Mapping[str, str] | None) -> "LocalChannel":
        channel = LocalChannel(self._channels.discard)
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: channel,
                *argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **env} if env else None,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(
                f"{argv[0]} could not be started on this machine: {error.strerror}.", code="start-failed"
            ) from error
        self._channels.add(channel)
        return channel

    async def close(self) -> None:
        for channel in list(self._channels):
            await channel.close()


class LocalChannel(asyncio.SubprocessProtocol):
    """See `Channel`. asyncio calls the methods without a docstring that are not `async`.

    Not asyncio's own `Process`: before Python 3.12 its `wait` waits for the end of the pipes too, which a child that
    the program left behind may hold open for ever.
    """

    def __init__(self, gone: Callable[["LocalChannel"], None]) -> None:
        self._gone = gone
        self._process: asyncio.SubprocessTransport | None = None
        self._stdout, self._tail = Incoming(), Tail()
        self._open = {STDOUT, STDERR}
        self._status: int | None = None
        self._over = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._process = transport
        stdout = transport.get_pipe_transport(STDOUT)
        assert isinstance(stdout, asyncio.ReadTransport)
        self._stdout.pause, self._stdout.resume = stdout.pause_reading, stdout.resume_reading

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == STDOUT:
            self._stdout.feed(data)
        else:
            self._tail.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == STDIN:
            self._writable.set()
        if fd == STDOUT:
            self._stdout.end()
        self._open.discard(fd)
        if self._status is not None and not self._open:
            self._finish()

    def process_exited(self) -> None:
        assert self._process is not None
        self._status = self._process.get_returncode()
        if self._open:
            asyncio.get_running_loop().call_later(LINGER_S, self._finish)
        else:
            self._finish()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _finish(self) -> None:
        self._stdout.end()
        self._writable.set()
        self._over.set()

    async def write(self, data: bytes) -> None:
        """As `Channel` says."""
        stdin = self._stdin()
        if stdin is None or stdin.is_closing():
            raise cut("this machine's program", "it has ended")
        stdin.write(data)
        await self._writable.wait()
        if stdin.is_closing():
            raise cut("this machine's program", "it has ended")

    async def write_eof(self) -> None:
        """As `Channel` says."""
        stdin = self._stdin()
        if stdin is not None:
            stdin.close()

    async def read(self, size: int = CHUNK_BYTES) -> bytes:
        """As `Channel` says."""
        return await self._stdout.read(size)

    @property
    def stderr(self) -> str:
        """As `Channel` says."""
        return self._tail.text

    async def wait(self) -> int | None:
        """As `Channel` says."""
        await self._over.wait()
        return self._status

    async def close(self) -> None:
        """As `Channel` says."""
        assert self._process is not None
        if self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.get_pid(), signal.SIGKILL)
        await self._over.wait()
        self._process.close()
        self._gone(self)

    def _stdin(self) -> asyncio.WriteTransport | None:
        assert self._process is not None
        stdin = self._process.get_pipe_transport(STDIN)
        return stdin if isinstance(stdin, asyncio.WriteTransport) else None
