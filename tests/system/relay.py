"""A TCP relay on this machine that cuts connections when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

Ends = set[asyncio.StreamWriter]


class Relay:
    """Passes connections on to `host:port`. `cut_after`: each is cut once that many bytes came back from there.

    `cut` cuts those that are open now. `hold` keeps what comes back from going on, as a link that stalls.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.cut_after: int | None = None
        self.came_back = 0
        self.going = asyncio.Event()
        self.going.set()
        self._there = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut all that is open."""
        for writer in list(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        self.going.clear()

    def release(self) -> None:
        self.going.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there_reader, there_writer = await asyncio.open_connection(*self._there)
            mine = {writer, there_writer}
            self._writers |= mine
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, there_writer, mine))
                    group.create_task(self._pass_back(there_reader, writer, mine))
            finally:
                self._writers -= mine

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, both: Ends) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        _abort(both)

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, both: Ends) -> None:
        left = self.cut_after
        with contextlib.suppress(OSError):
            while left != 0 and (data := await reader.read(65536 if left is None else left)):
                await self.going.wait()
                writer.write(data)
                await writer.drain()
                self.came_back += len(data)
                if left is not None:
                    left -= len(data)
        _abort(both)


def _abort(both: Ends) -> None:
    for end in both:
        end.transport.abort()
