"""A site as the control plane uses it, whatever its kind: requests to proxies that it starts, keeps and ends.

                  ┌─ commands ─► proxy        submit, kill, locate, hello
    SiteSession ──┼─ poll ─────► proxy        waits for news
                  ├─ files ────► proxy        logs, stat, list, cache, clean, probe
                  └─ transfers ► put, get     one channel each

Each line above is a channel of the one connection, opened when needed and closed when idle. Where the connection
bears few (sshd's MaxSessions), lines share a proxy, and proxies make room for transfers.

Owns when proxies start and end, and what a failure means for the next request. `conversation` speaks to one proxy,
`launch` knows the command lines, `transfer` moves bytes, `replies` reads what comes back.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from isthmus.domain.errors import BadReply, IsthmusError, Unreachable
from isthmus.domain.sites import Inventory
from isthmus.sites import replies, transfer, wire
from isthmus.sites.backoff import Backoff
from isthmus.sites.base import (
    Cache,
    Contact,
    Entry,
    Hello,
    Kill,
    Known,
    LogPart,
    Polled,
    Progress,
    Source,
    Stat,
    Submission,
    Submitted,
)
from isthmus.sites.conversation import CLOSED, Conversation, NotSent, again
from isthmus.sites.launch import MISSING, Launch
from isthmus.sites.transport.base import Channel, ChannelsFull, Transport

COMMANDS, POLL, FILES = "commands", "poll", "files"
RETIRING = (FILES, POLL, COMMANDS)  # in this order they make room for transfers

IDLE_S = 60.0
ANSWER_S = 60.0  # for a request that asks no batch system
BATCH_S = 180.0  # for one that does: its own commands may take that long when it is busy
JOB_S = 5.0  # more for each submission
CLEAN_S = 600.0
SUBMIT_AT_ONCE = 250  # jobs in one request: kills and look-ups go between
SUBMIT_BYTES = 4 * 1024 * 1024


class SiteSession:
    """A `Site` behind a transport. Nothing happens before the first call; `close` ends all."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        launch: Launch,
        *,
        batch: str = "process",
        options: Mapping[str, Any] | None = None,
        backoff: Backoff | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self.name = name
        self._transport, self._launch = transport, launch
        self._batch, self._options = batch, dict(options or {})
        self._backoff = backoff or Backoff()
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

    @property
    def contact(self) -> Contact:
        return self._backoff.contact

    # ---- jobs

    async def hello(self, *, now: bool = False) -> Hello:
        if now:
            self._backoff.forget()
        return replies.read(replies.hello, await self._ask(COMMANDS, "hello", {}))

    async def probe(self) -> Inventory:
        reply = await self._ask(FILES, "probe", {"options": self._options}, BATCH_S)
        return replies.read(replies.inventory, reply)

    async def submit(self, jobs: Sequence[Submission]) -> dict[str, Submitted | IsthmusError]:
        results: dict[str, Submitted | IsthmusError] = {}
        parts = list(_parts(jobs))
        for number, part in enumerate(parts):
            fields = {"jobs": [_submission(job) for job in part]}
            try:
                reply = await self._ask(COMMANDS, "submit", fields, BATCH_S + JOB_S * len(part))
                results |= _whole(replies.read(replies.results(replies.submitted), reply), [job.key for job in part])
            except (Unreachable, BadReply) as error:
                if not results:
                    raise
                # What came before is known and stays so.
                results |= {job.key: again(error) for rest in parts[number:] for job in rest}
                break
        return results

    async def poll(self, attempts: Mapping[str, Known], *, wait_s: float = 0.0, query: bool = True) -> Polled:
        fields = {"attempts": wire.Each(attempts, _known), "wait_s": wait_s, "query": query}
        return await replies.polled(await self._ask(POLL, "poll", fields, wait_s + BATCH_S))

    async def kill(self, keys: Mapping[str, Kill], *, fence: bool = False) -> dict[str, IsthmusError | None]:
        wanted = {key: {"native_id": kill.native_id, "grace_s": kill.grace_s} for key, kill in keys.items()}
        reply = await self._ask(COMMANDS, "kill", {"keys": wanted, "fence": fence}, BATCH_S)
        killed = _whole(replies.read(replies.results(lambda said: None), reply), keys)
        return dict(killed)

    async def locate(self, keys: Mapping[str, str]) -> dict[str, tuple[str, ...] | IsthmusError]:
        wanted = {key: {"native_id": native_id} for key, native_id in keys.items()}
        reply = await self._ask(COMMANDS, "locate", {"keys": wanted}, BATCH_S)
        return _whole(replies.read(replies.results(replies.nodes), reply), keys)

    async def logs(self, key: str, *, offset: int = 0, limit: int = 65536, name: str = "log") -> LogPart:
        fields = {"key": key, "offset": offset, "limit": limit, "name": name}
        return replies.read(replies.log_part, await self._ask(FILES, "logs", fields))

    # ---- files

    async def stat(self, paths: Sequence[str]) -> dict[str, Stat | None]:
        return replies.read(replies.stats, await self._ask(FILES, "stat", {"paths": list(paths)}))

    async def list(self, path: str, *, depth: int = 1) -> tuple[Entry, ...]:
        return replies.read(replies.entries, await self._ask(FILES, "list", {"path": path, "depth": depth}, BATCH_S))

    async def cache(self, *, have: Sequence[str] = (), remove: Sequence[str] = (), everything: bool = False) -> Cache:
        if remove:
            await self._ask(FILES, "cache", {"remove": list(remove)}, CLEAN_S)
        fields: dict[str, Any] = {"list": True} if everything else {"have": list(have)}
        return replies.read(replies.cache, await self._ask(FILES, "cache", fields, BATCH_S))

    async def clean(self, keys: Sequence[str], *, checkpoints: Sequence[int] = ()) -> None:
        await self._ask(FILES, "clean", {"keys": list(keys), "checkpoints": list(checkpoints)}, CLEAN_S)

    async def put(
        self,
        source: Source,
        path: str,
        *,
        size: int,
        digest: str,
        unpack: bool = False,
        progress: Progress | None = None,
    ) -> None:
        there = await self.stat([path, f"{path}.part"])
        done, part = there.get(path), there.get(f"{path}.part")
        if done is not None and (done.digest == digest or path == f"cache/{digest}"):
            if progress is not None:
                progress(size)
            return
        offset = part.size if part is not None and part.size <= size else 0
        words = ["--path", path, "--offset", str(offset), "--size", str(size), "--digest", digest]
        try:
            async with self._transfer("put", *words, *(["--unpack"] if unpack else [])) as (channel, token):
                await transfer.send(
                    channel, token, source, offset=offset, size=size, progress=progress, unknown=self._unknown
                )
        except transfer.SourceFailed as failure:
            raise failure.error from failure

    async def get(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        async with self._transfer("get", "--path", path, "--offset", str(offset)) as (channel, token):
            async for data in transfer.receive(channel, token, offset=offset, unknown=self._unknown):
                yield data

    async def prepare(self, request: Mapping[str, Any], *, timeout_s: float = 7200.0) -> dict[str, Any]:
        async with self._transfer("prepare") as (channel, token):
            return await transfer.ask_once(channel, token, request, timeout_s=timeout_s, unknown=self._unknown)

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        await self._end_conversations()
        await self._transport.close()

    # ---- proxies

    async def _ask(self, line: str, verb: str, fields: Mapping[str, Any], timeout_s: float = ANSWER_S) -> Any:
        while True:
            self._touch()
            conversation = await self._conversation(line)
            try:
                reply = await conversation.ask(verb, fields, timeout_s)
            except NotSent:
                continue  # it was ended for idleness, or to make room, between our two steps
            except (Unreachable, BadReply) as error:
                if not conversation.alive and error.code != CLOSED:
                    self._backoff.lost(error)
                raise
            finally:
                self._touch()
            self._backoff.succeeded()
            return reply

    async def _conversation(self, line: str) -> Conversation:
        """A running proxy for this line, started if there is none."""
        async with self._starting.setdefault(line, asyncio.Lock()):
            while True:
                conversation = self._conversations.get(line)
                if conversation is not None and conversation.alive:
                    return conversation
                self._backoff.check()
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
            self._backoff.failed(error)
            raise
        finally:
            self._opening -= 1
        self._installed = True
        self._backoff.succeeded()
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
        self._backoff.check()
        self._opening += 1
        try:
            return await self._channel_for(argv, self._make_room), token
        except Unreachable as error:
            self._backoff.failed(error)
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
    async def _transfer(self, name: str, *options: str) -> AsyncIterator[tuple[Channel, str]]:
        channel, token = await self._program(name, *options)
        self._transfers += 1
        try:
            yield channel, token
            self._backoff.succeeded()
        except Unreachable as error:
            self._backoff.lost(error)
            raise
        finally:
            self._transfers -= 1
            self._touch()
            await asyncio.shield(channel.close())

    def _unknown(self, status: int | None, stderr: str) -> IsthmusError:
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


def _parts(jobs: Sequence[Submission]) -> list[list[Submission]]:
    parts: list[list[Submission]] = []
    size = 0
    for job in jobs:
        weight = len(job.batch) + len(str(job.job.get("script", "")))
        if not parts or size + weight > SUBMIT_BYTES or len(parts[-1]) >= SUBMIT_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(job)
        size += weight
    return parts


def _known(known: Known) -> dict[str, Any]:
    return {"native_id": known.native_id, "reports": known.reports, "native_state": known.native_state}


def _submission(job: Submission) -> dict[str, Any]:
    return {
        "key": job.key,
        "job": job.job,
        "secrets": job.secrets,
        "batch": job.batch,
        "argv": list(job.argv),
    }


def _whole(results: dict[str, Any], keys: Any) -> dict[str, Any]:
    """Each key once, or the reply is not to this request."""
    missing = [key for key in keys if key not in results]
    if missing:
        raise BadReply(f"The proxy's reply leaves out {missing[0]!r}.", code="garbled")
    return {key: results[key] for key in keys}
