"""What the control plane may ask of a site, whatever its kind, and the shapes of the answers.

    supervisor ──Site──► SiteSession ──Transport──► proxy ──► batch system
                   └───► FakeSite (isthmus.testing)

Owns the `Site` protocol and its dataclasses; how a site is reached and spoken to stands in `session` and
`transport`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from isthmus.domain.errors import IsthmusError
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Inventory

State = Literal["pending", "running", "ended", "gone", "unknown", ""]
"""What the batch system says of an attempt, "" if not asked. `gone`: it answered, and knows it nowhere."""

EntryKind = Literal["file", "folder", "link", "other"]

Progress = Callable[[int], None]
"""Called with the number of bytes that were sent so far, those of earlier calls included."""

Source = Path | Callable[[int], AsyncIterator[bytes]]
"""Where the bytes of a `put` come from: a local file, or a function from an offset to the bytes after it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a site is reached by SSH: one for each (user, site)."""

    user: str = ""  # the account there; "": the hop's own, else that of this process
    private_key: bytes | None = field(default=None, repr=False)  # of a pair made here, in OpenSSH's format
    host_keys: Mapping[str, str] = field(default_factory=dict)  # "host:port" -> "ssh-ed25519 AAAA…", pinned


@dataclass(frozen=True, slots=True)
class HostKey:
    """The public key that a machine on the way showed, for a person to compare and to pin."""

    host: str
    port: int
    key: str  # "ssh-ed25519 AAAA…"
    fingerprint: str  # "SHA256:…", as ssh-keygen -l shows it

    @property
    def place(self) -> str:
        """The key of `Identity.host_keys`."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answered."""

    version: str
    host: str
    user: str
    python: str
    workdir: str  # absolute
    free_bytes: int
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """Whether the site answered lately, for people to see."""

    health: Health = Health.UNKNOWN
    reason: str = ""  # why not, in a sentence
    since: datetime | None = None  # of this health
    failures: int = 0  # one after another
    retry_in_s: float = 0.0  # until then a call fails at once, with the reason


@dataclass(frozen=True, slots=True)
class Submission:
    """One attempt to be handed to the batch system. `job` is its job.json (docs/site-protocol.md)."""

    key: str
    job: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    batch: str = ""  # the text of batch.sh
    argv: tuple[str, ...] = ()  # extra words for the submit command


@dataclass(frozen=True, slots=True)
class Submitted:
    """The batch system has it, under this id."""

    native_id: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the caller knows of an attempt: only news beyond it come back."""

    native_id: str
    reports: int = 0  # byte offset of the next report wanted
    native_state: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """News of an attempt: what the batch system says, and the reports from `offset` on."""

    native_state: str = ""  # as the batch system wrote it
    state: State = ""
    reason: Reason = Reason.NONE
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    offset: int = 0  # of the first byte of `reports`
    reports: bytes = b""  # JSON lines
    claimed: bool = False  # a runner has taken it


@dataclass(frozen=True, slots=True)
class Polled:
    """Answer of one `poll`. Attempts without news are absent."""

    attempts: Mapping[str, Seen] = field(default_factory=dict)
    queried: bool = False  # whether the batch system was asked, and answered
    query_error: str = ""  # why it did not: then no `state` is set
    others: int = 0  # the user's other jobs there


@dataclass(frozen=True, slots=True)
class Kill:
    """An attempt to end: SIGTERM, and SIGKILL after the grace."""

    native_id: str
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class LogPart:
    """A piece of a log."""

    offset: int  # of the first byte of `data`
    data: bytes
    size: int  # of the whole log by now


@dataclass(frozen=True, slots=True)
class Stat:
    """What lies at a path."""

    size: int
    kind: EntryKind = "file"
    digest: str = ""  # "" when it is not known without reading it all


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder."""

    path: str  # relative to the folder listed
    size: int
    kind: EntryKind
    mtime: float  # UTC seconds


@dataclass(frozen=True, slots=True)
class Cached:
    """An image or dataset in the site's cache."""

    size: int
    used: float  # UTC seconds of the last use


@dataclass(frozen=True, slots=True)
class Cache:
    """The site's cache: complete and verified entries by digest."""

    entries: Mapping[str, Cached] = field(default_factory=dict)
    free_bytes: int = 0


class Site(Protocol):
    """A place that runs jobs. Every method may be called at the same time as the others, and again.

    All raise `Unreachable` when the site can't be reached (what runs there goes on), `BadReply` when its
    answer was cut or not ours (what the request did is unknown: ask again, every request is idempotent), and
    `Refused`, `Invalid` or `NotFound` when it said no. A batch's items fail one by one: their errors are
    values, not raised.
    """

    @property
    def contact(self) -> Contact:
        """Whether the site answered lately. Does not ask it."""
        ...

    async def hello(self, *, now: bool = False) -> Hello:
        """Who answers there. `now` forgets the back-off of an unreachable site and tries at once."""
        ...

    async def probe(self) -> Inventory:
        """What the site has."""
        ...

    async def submit(self, jobs: Sequence[Submission]) -> dict[str, Submitted | IsthmusError]:
        """Hand attempts to the batch system. Idempotent by key: a second time gives the first one's id."""
        ...

    async def poll(self, attempts: Mapping[str, Known], *, wait_s: float = 0.0, query: bool = True) -> Polled:
        """News of these attempts, as soon as there are any, after `wait_s` at the latest.

        `query=False` leaves the batch system alone and looks at the reports only. May be cancelled; a later
        call ends an earlier one that still waits.
        """
        ...

    async def kill(self, keys: Mapping[str, Kill], *, fence: bool = False) -> dict[str, IsthmusError | None]:
        """End attempts. Silent if gone. `fence`: one that no runner has claimed yet never starts.

        Returns when the end was ordered, not when it came: `poll` tells that.
        """
        ...

    async def locate(self, keys: Mapping[str, str]) -> dict[str, tuple[str, ...] | IsthmusError]:
        """On which nodes attempts run: key -> native id in, key -> nodes out."""
        ...

    async def logs(self, key: str, *, offset: int = 0, limit: int = 65536, name: str = "log") -> LogPart:
        """A piece of an attempt's log (`log`) or of the batch system's own (`batch.log`).

        A negative offset counts from the end. A log that does not exist yet is empty.
        """
        ...

    async def stat(self, paths: Sequence[str]) -> dict[str, Stat | None]:
        """What lies at these paths, relative to the work folder or absolute within it."""
        ...

    async def list(self, path: str, *, depth: int = 1) -> tuple[Entry, ...]:
        """The entries of a folder, down to `depth` levels."""
        ...

    async def cache(self, *, have: Sequence[str] = (), remove: Sequence[str] = (), everything: bool = False) -> Cache:
        """Which of the digests `have` lie in the cache (these count as used now), or `everything`.

        `remove` comes first.
        """
        ...

    async def clean(self, keys: Sequence[str], *, checkpoints: Sequence[int] = ()) -> None:
        """Remove the folders of ended attempts and the checkpoints of jobs. Silent if gone."""
        ...

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
        """Bring a file there; it exists under `path` only once its sha256 was verified.

        Goes on where an earlier call was cut. `digest` is 64 hex digits. With `unpack` the bytes are a folder's
        canonical stream (docs/site-protocol.md, Digests), and `path` becomes that folder. Raises Refused with code
        `digest` when other bytes came, `disk-full` when there is no room.
        """
        ...

    async def prepare(self, request: Mapping[str, Any], *, timeout_s: float = 7200.0) -> dict[str, Any]:
        """Have the site make an entry of its cache: `isthmus.proxy.prepare` says what a request holds.

        Takes its own channel, as `put` does, and may take long; `timeout_s` is how long it is waited for. Safe to be
        called again: what is made already is answered at once, what is being made is waited for.
        """
        ...

    def get(self, path: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a file, or of a folder's canonical stream, from `offset` on.

        Raises after the last chunk if the stream was cut: what came before is good to go on from.
        """
        ...

    async def close(self) -> None:
        """End the connection. What runs there goes on; the next call connects again."""
        ...
