"""A site as the control plane uses it, whatever its kind.

Owns what each method asks, on which line, how long it may take, and how many go in one request. `lines` keeps the
proxies, `transfer` moves bytes, `replies` reads what comes back.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
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
from isthmus.sites.conversation import again
from isthmus.sites.launch import Launch
from isthmus.sites.lines import COMMANDS, FILES, POLL, Lines
from isthmus.sites.transport.base import Transport

IDLE_S = 60.0
BATCH_S = 180.0  # for a request that asks the batch system: its own commands may take that long when it is busy
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
        self._options = dict(options or {})
        self._lines = Lines(
            name,
            transport,
            launch,
            batch=batch,
            options=self._options,
            backoff=backoff or Backoff(),
            idle_s=idle_s,
        )

    @property
    def contact(self) -> Contact:
        return self._lines.backoff.contact

    # ---- jobs

    async def hello(self, *, now: bool = False) -> Hello:
        if now:
            self._lines.backoff.forget()
        return replies.read(replies.hello, await self._lines.ask(COMMANDS, "hello", {}))

    async def probe(self) -> Inventory:
        reply = await self._lines.ask(FILES, "probe", {"options": self._options}, BATCH_S)
        return replies.read(replies.inventory, reply)

    async def submit(self, jobs: Sequence[Submission]) -> dict[str, Submitted | IsthmusError]:
        results: dict[str, Submitted | IsthmusError] = {}
        parts = list(_parts(jobs))
        for number, part in enumerate(parts):
            fields = {"jobs": [_submission(job) for job in part]}
            try:
                reply = await self._lines.ask(COMMANDS, "submit", fields, BATCH_S + JOB_S * len(part))
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
        return await replies.polled(await self._lines.ask(POLL, "poll", fields, wait_s + BATCH_S))

    async def kill(self, keys: Mapping[str, Kill], *, fence: bool = False) -> dict[str, IsthmusError | None]:
        wanted = {key: {"native_id": kill.native_id, "grace_s": kill.grace_s} for key, kill in keys.items()}
        reply = await self._lines.ask(COMMANDS, "kill", {"keys": wanted, "fence": fence}, BATCH_S)
        killed = _whole(replies.read(replies.results(lambda said: None), reply), keys)
        return dict(killed)

    async def locate(self, keys: Mapping[str, str]) -> dict[str, tuple[str, ...] | IsthmusError]:
        wanted = {key: {"native_id": native_id} for key, native_id in keys.items()}
        reply = await self._lines.ask(COMMANDS, "locate", {"keys": wanted}, BATCH_S)
        return _whole(replies.read(replies.results(replies.nodes), reply), keys)

    async def logs(self, key: str, *, offset: int = 0, limit: int = 65536, name: str = "log") -> LogPart:
        fields = {"key": key, "offset": offset, "limit": limit, "name": name}
        return replies.read(replies.log_part, await self._lines.ask(FILES, "logs", fields))

    # ---- files

    async def stat(self, paths: Sequence[str]) -> dict[str, Stat | None]:
        return replies.read(replies.stats, await self._lines.ask(FILES, "stat", {"paths": list(paths)}))

    async def list(self, path: str, *, depth: int = 1) -> tuple[Entry, ...]:
        return replies.read(
            replies.entries, await self._lines.ask(FILES, "list", {"path": path, "depth": depth}, BATCH_S)
        )

    async def cache(self, *, have: Sequence[str] = (), remove: Sequence[str] = (), everything: bool = False) -> Cache:
        if remove:
            await self._lines.ask(FILES, "cache", {"remove": list(remove)}, CLEAN_S)
        fields: dict[str, Any] = {"list": True} if everything else {"have": list(have)}
        return replies.read(replies.cache, await self._lines.ask(FILES, "cache", fields, BATCH_S))

    async def clean(self, keys: Sequence[str], *, checkpoints: Sequence[int] = ()) -> None:
        await self._lines.ask(FILES, "clean", {"keys": list(keys), "checkpoints": list(checkpoints)}, CLEAN_S)

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
            async with self._lines.transfer("put", *words, *(["--unpack"] if unpack else [])) as (channel, token):
                await transfer.send(
                    channel, token, source, offset=offset, size=size, progress=progress, unknown=self._lines.unknown
                )
        except transfer.SourceFailed as failure:
            raise failure.error from failure

    async def get(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        async with self._lines.transfer("get", "--path", path, "--offset", str(offset)) as (channel, token):
            async for data in transfer.receive(channel, token, offset=offset, unknown=self._lines.unknown):
                yield data

    async def prepare(self, request: Mapping[str, Any], *, timeout_s: float = 7200.0) -> dict[str, Any]:
        async with self._lines.transfer("prepare") as (channel, token):
            return await transfer.ask_once(channel, token, request, timeout_s=timeout_s, unknown=self._lines.unknown)

    async def close(self) -> None:
        await self._lines.close()


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
