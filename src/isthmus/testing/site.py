"""A site in memory: runs "jobs" instantly or on command, and breaks in every way that a real one does.

site = FakeSite()
await site.submit([Submission(key="1.1-abcd", job={})])
site.start("1.1-abcd")
site.report("1.1-abcd", "metrics", values={"loss": 0.1}, step=1)
site.finish("1.1-abcd", exit_code=0)
"""

import asyncio
import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import BadReply, IsthmusError, NotFound, Refused, Unreachable
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Inventory, NodeType, Queue
from isthmus.domain.units import Bytes
from isthmus.sites.base import (
    Cache,
    Cached,
    Contact,
    Entry,
    Hello,
    Kill,
    Known,
    LogPart,
    Polled,
    Progress,
    Seen,
    Source,
    Stat,
    State,
    Submission,
    Submitted,
)

CHUNK = 65536
NODE = "fake-1"


@dataclass
class FakeAttempt:
    """What the site has of one attempt. A test may look at all of it."""

    submission: Submission
    native_id: str
    native_state: str = "PENDING"
    state: State = "pending"
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    claimed: bool = False
    fenced: bool = False
    kills: int = 0
    reports: bytearray = field(default_factory=bytearray)
    log: bytearray = field(default_factory=bytearray)

    @property
    def over(self) -> bool:
        return self.state in ("ended", "gone")


class FakeSite:
    """A `Site` whose every step is a test's: see the module.

    `instant` runs each attempt to its end within `submit`; `outcome` says with which exit code. `obedient` ends what
    is killed at once. `calls` counts calls by verb, `submissions` those that reached the "batch system" by key.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        instant: bool = False,
        outcome: Callable[[Submission], int] = lambda _: 0,
        obedient: bool = True,
        clock: Clock | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        self.name = name
        self.instant = instant
        self.outcome = outcome
        self.obedient = obedient
        self.clock = clock or SystemClock()
        self.inventory = inventory or Inventory(
            host=name,
            user="tester",
            workdir="/fake",
            batch="fake",
            queues=(Queue(name="main", default=True, nodes=(NodeType(name="node", cpus=8, mem=Bytes(2**34)),)),),
        )
        self.attempts: dict[str, FakeAttempt] = {}
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, bytes] = {}  # those that came by `put(unpack=True)`, as their streams
        self.partial: dict[str, bytes] = {}
        self.prepared: list[dict[str, Any]] = []  # requests of `prepare`
        self.preparations: dict[str, dict[str, Any]] = {}  # what `prepare` answers, by the request's `to`
        self.cached: dict[str, Cached] = {}
        self.calls: Counter[str] = Counter()
        self.submissions: Counter[str] = Counter()
        self.query_error = ""
        self.others = 0
        self.closed = 0
        self._cut = ""
        self._refusals: list[tuple[str | None, IsthmusError]] = []
        self._lost: Counter[str] = Counter()
        self._gates: dict[str, asyncio.Event] = {}
        self._cut_after: int | None = None
        self._polls = 0
        self._news = asyncio.Event()
        self._called = asyncio.Event()
        self._contact = Contact()

    # ---- what a test orders

    def cut(self, reason: str = "No route to host") -> None:
        """Lose the connection: calls fail until `mend`, also those that wait. What runs there goes on."""
        self._cut = reason
        self._contact = Contact(Health.UNREACHABLE, reason, self.clock.now(), self._contact.failures + 1)
        self._wake()

    def mend(self) -> None:
        """Give the connection back."""
        self._cut = ""
        self._contact = Contact(Health.UP, since=self.clock.now())

    def cut_transfer(self, after: int) -> None:
        """Cut the next `put` or `get` after that many bytes."""
        self._cut_after = after

    def refuse(self, message: str, *, key: str | None = None, error: IsthmusError | None = None) -> None:
        """Refuse the next submission (or that of `key`) with these words of the batch system."""
        self._refusals.append((key, error or Refused(message)))

    def lose_reply(self, verb: str, times: int = 1) -> None:
        """Do what the next call of `verb` asks, then raise BadReply as if its answer had been cut."""
        self._lost[verb] += times

    def hold(self, verb: str) -> Callable[[], None]:
        """Do what calls of `verb` ask, but answer only once the returned function was called."""
        gate = self._gates.setdefault(verb, asyncio.Event())

        def release() -> None:
            self._gates.pop(verb, None)
            gate.set()

        return release

    async def called(self, verb: str, times: int = 1, timeout_s: float = 60.0) -> None:
        """Wait until `verb` was called that many times in all. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.calls[verb] < times:
                self._called.clear()
                await self._called.wait()

    def start(self, key: str, node: str = NODE) -> None:
        """The batch system starts the attempt, the runner claims it and reports `started`."""
        attempt = self.attempts[key]
        if attempt.fenced or attempt.over:
            raise AssertionError(f"{key} can't start: it is fenced or over")
        attempt.claimed = True
        attempt.nodes = (node,)
        self.native(key, "RUNNING", "running")
        self.report(key, "started", node=node, pid=4242, native_id=attempt.native_id, cpus=[], gpus=[])

    def report(self, key: str, kind: str, **fields: Any) -> None:
        """The runner writes a report."""
        line = {"kind": kind, "t": self.clock.now().timestamp(), **fields}
        self.attempts[key].reports += json.dumps(line).encode() + b"\n"
        self._wake()

    def write(self, key: str, text: str) -> None:
        """The command prints."""
        self.attempts[key].log += text.encode()

    def finish(
        self,
        key: str,
        exit_code: int | None = 0,
        *,
        signal: int | None = None,
        reason: Reason = Reason.NONE,
        message: str = "",
        outputs: Sequence[Mapping[str, Any]] = (),
        wall_s: float = 1.0,
    ) -> None:
        """The command ends, the runner reports `finished`, and the batch system sees the end."""
        attempt = self.attempts[key]
        if not attempt.claimed:
            self.start(key)
        if signal is not None:
            exit_code = None
            reason = reason or Reason.SIGNAL
        elif exit_code:
            reason = reason or Reason.EXIT_CODE
        attempt.exit_code, attempt.signal = exit_code, signal
        self.report(
            key,
            "finished",
            exit_code=exit_code,
            signal=signal,
            reason=reason.value,
            message=message,
            wall_s=wall_s,
            cpu_s=wall_s,
            peak_mem_bytes=2**20,
            log_bytes=len(attempt.log),
            outputs=[dict(output) for output in outputs],
        )
        self.native(key, "COMPLETED" if exit_code == 0 else "FAILED", "ended")

    def native(
        self, key: str, native_state: str, state: State, reason: Reason = Reason.NONE, message: str = ""
    ) -> None:
        """The batch system says something of the attempt, in its own words; the runner is silent."""
        attempt = self.attempts[key]
        attempt.native_state, attempt.state = native_state, state
        attempt.reason, attempt.message = reason, message
        self._wake()

    def vanish(self, key: str) -> None:
        """The batch system forgets the attempt, and no runner reported its end."""
        self.native(key, "", "gone")

    # ---- Site

    @property
    def contact(self) -> Contact:
        return self._contact

    async def hello(self, *, now: bool = False) -> Hello:
        await self._call("hello")
        return Hello("0", self.inventory.host, self.inventory.user, "3.6.15", self.inventory.workdir, 2**40)

    async def probe(self) -> Inventory:
        await self._call("probe")
        return self.inventory

    async def submit(self, jobs: Sequence[Submission]) -> dict[str, Submitted | IsthmusError]:
        self._reach("submit")
        results: dict[str, Submitted | IsthmusError] = {}
        for job in jobs:
            if job.key not in self.attempts:
                refusal = self._refusal(job.key)
                if refusal is not None:
                    results[job.key] = refusal
                    continue
                self._accept(job)
            results[job.key] = Submitted(self.attempts[job.key].native_id)
        await self._answer("submit")
        return results

    async def poll(self, attempts: Mapping[str, Known], *, wait_s: float = 0.0, query: bool = True) -> Polled:
        self._reach("poll")
        self._polls += 1
        number = self._polls
        self._wake()
        end = self.clock.monotonic() + wait_s
        while True:
            self._news.clear()
            polled = self._look(attempts, query)
            left = end - self.clock.monotonic()
            if polled.attempts or left <= 0 or number != self._polls:
                break
            await self._wait(left)
            self._check()
        await self._answer("poll")
        return polled

    async def kill(self, keys: Mapping[str, Kill], *, fence: bool = False) -> dict[str, IsthmusError | None]:
        self._reach("kill")
        for key in keys:
            attempt = self.attempts.get(key)
            if attempt is None or attempt.over:
                continue
            attempt.kills += 1
            if not attempt.claimed:
                attempt.fenced = attempt.fenced or fence
                self.native(key, "CANCELLED", "ended", Reason.KILLED)
            elif self.obedient:
                self.finish(key, signal=15, reason=Reason.KILLED)
        await self._answer("kill")
        return dict.fromkeys(keys)

    async def locate(self, keys: Mapping[str, str]) -> dict[str, tuple[str, ...] | IsthmusError]:
        await self._call("locate")
        return {key: self.attempts[key].nodes if key in self.attempts else () for key in keys}

    async def logs(self, key: str, *, offset: int = 0, limit: int = CHUNK, name: str = "log") -> LogPart:
        await self._call("logs")
        log = bytes(self.attempts[key].log) if key in self.attempts and name == "log" else b""
        begin = max(0, len(log) + offset) if offset < 0 else offset
        return LogPart(begin, log[begin : begin + limit], len(log))

    async def stat(self, paths: Sequence[str]) -> dict[str, Stat | None]:
        await self._call("stat")
        return {path: self._stat(path) for path in paths}

    async def list(self, path: str, *, depth: int = 1) -> tuple[Entry, ...]:
        await self._call("list")
        top = path.rstrip("/") + "/"
        found = {name[len(top) :]: data for name, data in self.files.items() if name.startswith(top)}
        return tuple(
            Entry(name, len(data), "file", self.clock.now().timestamp())
            for name, data in sorted(found.items())
            if name.count("/") < depth
        )

    async def cache(self, *, have: Sequence[str] = (), remove: Sequence[str] = (), everything: bool = False) -> Cache:
        await self._call("cache")
        for digest in remove:
            self.cached.pop(digest, None)
            self.files.pop(f"cache/{digest}", None)
            self.folders.pop(f"cache/{digest}", None)
        wanted = list(self.cached) if everything else [digest for digest in have if digest in self.cached]
        for digest in have:
            if digest in self.cached:
                self.cached[digest] = Cached(self.cached[digest].size, self.clock.now().timestamp())
        return Cache({digest: self.cached[digest] for digest in wanted}, 2**40)

    async def clean(self, keys: Sequence[str], *, checkpoints: Sequence[int] = ()) -> None:
        await self._call("clean")
        gone = tuple(f"jobs/{key}/" for key in keys) + tuple(f"checkpoints/{job}/" for job in checkpoints)
        for path in [path for path in self.files if path.startswith(gone)]:
            del self.files[path]
        for key in keys:
            self.attempts.pop(key, None)

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
        self._reach("put")
        part = bytearray(self.partial.pop(path, b""))
        async for data in _read(source, len(part)):
            part += data
            if self._cut_now(len(part)):
                self.partial[path] = bytes(part)
                raise Unreachable("The connection was lost while bytes were sent.")
            if progress is not None:
                progress(len(part))
        if len(part) != size or hashlib.sha256(part).hexdigest() != digest:
            raise Refused(f"{path} has another digest than was announced.", code="digest")
        self._keep(path, bytes(part), unpack)
        await self._answer("put")

    async def prepare(self, request: Mapping[str, Any], *, timeout_s: float = 7200.0) -> dict[str, Any]:
        """Answer with what `preparations` holds for the request's `to`; a `link` copies the file that it names."""
        self._reach("prepare")
        self.prepared.append(dict(request))
        name = str(request["to"])
        if request["op"] == "link":
            source = str(request["source"])
            data = self.files[source] if source in self.files else _whole_file(source)
            self._keep(f"cache/{name}", data, bool(request.get("unpack")))
        elif f"cache/{name}" not in self.files:
            self._keep(f"cache/{name}", b"", False)
        await self._answer("prepare")
        return dict(self.preparations.get(name, {}))

    async def get(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        self._reach("get")
        data = self.folders.get(path, self.files.get(path))
        if data is None:
            data = self._tar(path)
        sent = 0
        for begin in range(offset, len(data), CHUNK):
            piece = data[begin : begin + CHUNK]
            sent += len(piece)
            yield piece
            if self._cut_now(sent):
                raise Unreachable("The connection was lost while bytes were read.")

    async def close(self) -> None:
        self.closed += 1

    # ---- within

    async def _call(self, verb: str) -> None:
        self._reach(verb)
        await self._answer(verb)

    def _reach(self, verb: str) -> None:
        self.calls[verb] += 1
        self._called.set()
        self._check()
        if self._contact.health is not Health.UP:
            self._contact = Contact(Health.UP, since=self.clock.now())

    def _check(self) -> None:
        if self._cut:
            raise Unreachable(f"{self.name} can't be reached: {self._cut}.")

    async def _answer(self, verb: str) -> None:
        gate = self._gates.get(verb)
        if gate is not None:
            await gate.wait()
        if self._lost[verb]:
            self._lost[verb] -= 1
            raise BadReply(f"{self.name}: the reply to {verb} was cut.")
        self._check()

    def _refusal(self, key: str) -> IsthmusError | None:
        for number, (wanted, error) in enumerate(self._refusals):
            if wanted in (None, key):
                del self._refusals[number]
                return error
        return None

    def _accept(self, job: Submission) -> None:
        self.submissions[job.key] += 1
        self.attempts[job.key] = FakeAttempt(job, native_id=str(1000 + self.submissions.total()))
        if self.instant:
            self.finish(job.key, self.outcome(job))
        self._wake()

    def _look(self, attempts: Mapping[str, Known], query: bool) -> Polled:
        asked = query and not self.query_error
        seen: dict[str, Seen] = {}
        for key, known in attempts.items():
            attempt = self.attempts.get(key)
            if attempt is None:
                if asked:
                    seen[key] = Seen(state="gone", offset=known.reports)
                continue
            told = asked and (attempt.native_state != known.native_state or attempt.state == "gone")
            if not told and len(attempt.reports) <= known.reports:
                continue
            reports = bytes(attempt.reports[known.reports :])
            if not told:
                seen[key] = Seen(offset=known.reports, reports=reports, claimed=attempt.claimed)
                continue
            seen[key] = Seen(
                native_state=attempt.native_state,
                state=attempt.state,
                reason=attempt.reason,
                message=attempt.message,
                exit_code=attempt.exit_code,
                signal=attempt.signal,
                nodes=attempt.nodes,
                offset=known.reports,
                reports=reports,
                claimed=attempt.claimed,
            )
        return Polled(seen, asked, self.query_error if query else "", self.others)

    async def _wait(self, seconds: float) -> None:
        waiting = {
            asyncio.ensure_future(self._news.wait()),
            asyncio.ensure_future(self.clock.sleep(seconds)),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _wake(self) -> None:
        self._news.set()

    def _keep(self, path: str, data: bytes, folder: bool) -> None:
        (self.folders if folder else self.files)[path] = data
        if path.startswith("cache/"):
            self.cached[path[len("cache/") :]] = Cached(len(data), self.clock.now().timestamp())

    def _stat(self, path: str) -> Stat | None:
        if path in self.folders:
            return Stat(len(self.folders[path]), "folder")
        if path in self.files:
            return Stat(len(self.files[path]), "file")
        if path.endswith(".part") and path[:-5] in self.partial:
            return Stat(len(self.partial[path[:-5]]), "file")
        if any(name.startswith(path.rstrip("/") + "/") for name in self.files):
            return Stat(0, "folder")
        return None

    def _cut_now(self, sent: int) -> bool:
        if self._cut_after is not None and sent >= self._cut_after:
            self._cut_after = None
            return True
        return False

    def _tar(self, path: str) -> bytes:
        top = path.rstrip("/") + "/"
        inside = {name[len(top) :]: data for name, data in self.files.items() if name.startswith(top)}
        if not inside:
            raise NotFound(f"{path} does not exist at {self.name}.", code="not-found")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in sorted(inside.items()):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


def _whole_file(path: str) -> bytes:
    return Path(path).read_bytes()


async def _read(source: Source, offset: int) -> AsyncIterator[bytes]:
    if not isinstance(source, Path):
        async for data in source(offset):
            yield data
        return
    whole = source.read_bytes()
    for begin in range(offset, len(whole), CHUNK):
        yield whole[begin : begin + CHUNK]
