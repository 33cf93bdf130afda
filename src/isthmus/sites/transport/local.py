"""This machine: programs are children of this process."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence

from isthmus.domain.errors import Unreachable
from isthmus.sites.transport.base import CHUNK_BYTES, Tail, complete, cut


class LocalTransport:
    """Starts programs here, each in a session of its own: a Ctrl-C in the terminal is not theirs."""

    def __init__(self) -> None:
        self._channels: set[LocalChannel] = set()

    async def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> "LocalChannel":
        return await complete(self._start(argv, env), lambda channel: channel.close())

    async def _start(self, argv: Sequence[str], env: Mapping[str, str] | None) -> "LocalChannel":
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env={**os.environ, **env} if env else None,
                cwd="/",
                start_new_session=True,
                limit=CHUNK_BYTES,
            )
        except OSError as error:
            raise Unreachable(
                f"{argv[0]} could not be started on this machine: {error.strerror}.", code="start-failed"
            ) from error
        channel = LocalChannel(process, self._channels.discard)
        self._channels.add(channel)
        return channel

    async def close(self) -> None:
        for channel in list(self._channels):
            await channel.close()


class LocalChannel:
    """See `Channel`."""

    def __init__(self, process: Process, gone: "Callable[[LocalChannel], None]") -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._tail = Tail()
        self._stderr = asyncio.ensure_future(_drain(process.stderr, self._tail))
        self._gone = gone

    async def write(self, data: bytes) -> None:
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except (OSError, RuntimeError) as error:  # RuntimeError: written to after it was closed
            raise cut("this machine's program", "it has ended") from error

    async def write_eof(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._stdin.close()

    async def read(self, size: int = CHUNK_BYTES) -> bytes:
        return await self._stdout.read(size)

    @property
    def stderr(self) -> str:
        return self._tail.text

    async def wait(self) -> int | None:
        status = await self._process.wait()
        # A child that it left behind may hold stderr open for ever: what is there by now is enough.
        await asyncio.wait([self._stderr], timeout=0.1)
        return status

    async def close(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._stdin.close()
        self._stderr.cancel()
        self._gone(self)
        await self._process.wait()
        # Pipes that a child left behind holds open would keep the transport, and warn when it is collected.
        self._process._transport.close()  # type: ignore[attr-defined]


async def _drain(stream: asyncio.StreamReader, tail: Tail) -> None:
    while data := await stream.read(CHUNK_BYTES):
        tail.feed(data)
