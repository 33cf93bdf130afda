"""The lines to a site: which proxies run, when they start and end, and what a failure means for the next request.

                ┌─ commands ─► proxy        submit, kill, locate, hello
        Lines ──┼─ poll ─────► proxy        waits for news
                ├─ files ────► proxy        logs, stat, list, cache, clean, probe
                └─ transfers ► put, get     one channel each

Each line is a channel of the one connection, opened when needed and closed when idle. Where the connection bears few
(sshd's MaxSessions), lines share a proxy, and proxies make room for transfers.

`conversation` speaks to one proxy, `launch` knows the command lines, `backoff` when to try again.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from isthmus.domain.errors import BadReply, IsthmusError, Unreachable
from isthmus.sites import replies
from isthmus.sites.backoff import Backoff
from isthmus.sites.conversation import CLOSED, Conversation, NotSent
from isthmus.sites.launch import MISSING, Launch
from isthmus.sites.transport.base import Channel, ChannelsFull, Transport

COMMANDS, POLL, FILES = "commands", "poll", "files"
RETIRING = (FILES, POLL, COMMANDS)  # in this order they make room for transfers

ANSWER_S = 60.0  # for a request that asks no batch system


class Lines:
    """Asks the proxies at a site, and runs the archive's other programs there."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        launch: Launch,
        *,
        batch: str,
        options: Mapping[str, Any],
        backoff: Backoff,
        idle_s: float,
    ) -> None:
        self.name = name
        self.backoff = backoff
        self._transport, self._launch = transport, launch
        self._batch, self._options = batch, options
        self._idle_s = idle_s
        self._conversations: dict[str, Conversation] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._started = asyncio.Event()
        self._installing = asyncio.Lock()
        self._installs = 0
        self._installed = False
        self._opening = self._transfers = 0
        self._used = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, line: str, verb: str, fields: Mapping[str, Any], timeout_s: float = ANSWER_S) -> Any:
        """The `ok` of the reply on that line. Raises Unreachable, BadReply, or what the proxy says no with."""
        while True:
            self._touch()
            conversation = await self._conversation(line)
            try:
                reply = await conversation.ask(verb, fields, timeout_s)
            except NotSent:
                continue  # it was ended for idleness, or to make room, between our two steps
            except (Unreachable, BadReply) as error:
                if not conversation.alive and error.code != CLOSED:
                    self.backoff.lost(error)
                raise
            finally:
                self._touch()
            self.backoff.succeeded()
            return reply

    async def close(self) -> None:
        """End all. The next request starts anew."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        await self._end_conversations()
        await self._transport.close()

    async def _conversation(self, line: str) -> Conversation:
        """A running proxy for this line, started if there is none."""
        async with self._starting.setdefault(line, asyncio.Lock()):
            while True:
                conversation = self._conversations.get(line)
                if conversation is not None and conversation.alive:
                    return conversation
                self.backoff.check()
                try:
                    conversation = self._conversations[line] = await self._start()
                except ChannelsFull as full:
                    shared = next((other for other in self._conversations.values() if other.alive), None)
                    if shared is not None:
                        return shared
                    self._started.clear()
                    await _either(full.freed(), self._started.wait())
                else:
                    self._started.set()
                    return conversation

    async def _start(self) -> Conversation:
        """Start a proxy, sending the archive first if it is missing."""
        self._opening += 1
        try:
            before = self._installs
            conversation = await self._try_to_start()
            if conversation is None:
                await self._install(before)
                conversation = await self._try_to_start()
            if conversation is None:
                raise Unreachable(
                    f"The proxy was put into {self._launch.workdir} at {self.name} and is not there.",
                    hint="Is another program cleaning that folder? Set the site's workdir to another one.",
                    code="no-workdir",
                )
        except IsthmusError as error:
            self.backoff.failed(error)
            raise
        finally:
            self._opening -= 1
        self._installed = True
        self.backoff.succeeded()
        return conversation

    async def _try_to_start(self) -> Conversation | None:
        token = secrets.token_hex(16)
        channel = await self._transport.open(self._launch.program("proxy", token, "--batch", self._batch))
        conversation = Conversation(channel, token, self.name)
        try:
            replies.read(replies.hello, await conversation.ask("hello", {"options": self._options}, ANSWER_S))
        except BadReply as error:
            await conversation.kill()
            if conversation.status == MISSING:
                return None
            if error.code == "proxy-ended":
                raise self._launch.failure(self.name, conversation.status, conversation.stderr) from error
            raise
        except BaseException:
            await asyncio.shield(conversation.kill())
            raise
        return conversation

    async def _install(self, before: int) -> None:
        """Send the archive, unless somebody else has done so since the count of that was `before`."""
        async with self._installing:
            if self._installs != before:
                return
            channel = await self._channel_for(self._launch.install())
            try:
                # If it ends early, its status and stderr tell more.
                with contextlib.suppress(Unreachable):
                    await channel.write(self._launch.archive.data)
                    await channel.write_eof()
                status = await channel.wait()
                if status != 0:
                    raise self._launch.install_failure(self.name, status, channel.stderr)
                self._installs += 1
            finally:
                await asyncio.shield(channel.close())

    async def _channel_for(self, argv: Sequence[str], full: Callable[[], None] = lambda: None) -> Channel:
        """A channel, as soon as the connection bears one more; `full` is called each time that it does not."""
        while True:
            try:
                return await self._transport.open(argv)
            except ChannelsFull as bound:
                full()
                await bound.freed()

    # ---- transfers

    async def _program(self, name: str, *options: str) -> tuple[Channel, str]:
        """A program of the archive on a channel of its own, and its token."""
        self._touch()
        if not self._installed:
            await self._conversation(FILES)
        token = secrets.token_hex(16)
        argv = self._launch.program(name, token, *options)
        self.backoff.check()
        self._opening += 1
        try:
            return await self._channel_for(argv, self._make_room), token
        except Unreachable as error:
            self.backoff.failed(error)
            raise
        finally:
            self._opening -= 1

    def _make_room(self) -> None:
        """Where the proxies have all the channels, end one: another transfer that runs will end by itself."""
        for line in RETIRING if not self._transfers else ():
            conversation = self._conversations.get(line)
            if conversation is not None and conversation.alive:
                del self._conversations[line]
                self._background(conversation.retire())
                return

    @contextlib.asynccontextmanager
    async def transfer(self, name: str, *options: str) -> AsyncIterator[tuple[Channel, str]]:
        """A program of the archive on a channel of its own, and the token that it speaks with."""
        channel, token = await self._program(name, *options)
        self._transfers += 1
        try:
            yield channel, token
            self.backoff.succeeded()
        except Unreachable as error:
            self.backoff.lost(error)
            raise
        finally:
            self._transfers -= 1
            self._touch()
            await asyncio.shield(channel.close())

    def unknown(self, status: int | None, stderr: str) -> IsthmusError:
        """The error for a program that ended without a word of ours."""
        if status is None:
            return Unreachable(f"The connection to {self.name} was lost.", code="connection-lost")
        if status == MISSING:
            self._installs = 0
        self._installed = False
        return self._launch.failure(self.name, status, stderr)

    # ---- idleness

    def _touch(self) -> None:
        loop = asyncio.get_running_loop()
        self._used = loop.time()
        if self._idle is None:
            self._idle = loop.call_later(self._idle_s, self._rest)

    def _rest(self) -> None:
        """Close what was not used for a while."""
        self._idle = None
        loop = asyncio.get_running_loop()
        busy = (
            self._transfers or self._opening or any(conversation.busy for conversation in self._conversations.values())
        )
        left = self._idle_s if busy else self._used + self._idle_s - loop.time()
        if left > 0:
            self._idle = loop.call_later(left, self._rest)
        else:
            self._background(self._rest_now())

    async def _rest_now(self) -> None:
        await self._end_conversations()
        # Somebody may have come back meanwhile.
        if not (self._conversations or self._transfers or self._opening):
            await self._transport.close()

    async def _end_conversations(self) -> None:
        conversations, self._conversations = list(self._conversations.values()), {}
        await asyncio.gather(*(conversation.close() for conversation in conversations))

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _either(*waits: Awaitable[object]) -> None:
    """Return as soon as one of them does."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
