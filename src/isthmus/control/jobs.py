"""The use cases of jobs: what the API's calls about jobs do. SKELETON: the bodies follow; the signatures stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from isthmus.domain.jobs import JobRequest
from isthmus.domain.users import Caller, Event
from isthmus.domain.views import AttemptView, Explanation, JobPage, JobView, LogSlice, OutputView, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list. An empty field does not filter."""

    states: tuple[str, ...] = ()
    user: str = ""
    site: str = ""
    name: str = ""  # a substring
    label: tuple[tuple[str, str], ...] = ()
    array: int = 0
    since: datetime | None = None  # submitted at this time or later
    before: int = 0  # ids smaller than this: the key of the next page; the newest come first
    limit: int = 50


class Jobs:
    """Jobs as people ask about them. Every method checks what the caller may do."""

    async def submit(self, caller: Caller, requests: Sequence[JobRequest], *, request_key: str = "") -> list[JobView]:
        """Accept the jobs whole or not at all. With a request key, asking twice gives the same jobs."""
        raise NotImplementedError

    async def get(self, caller: Caller, job_id: int) -> JobView: ...

    async def list(self, caller: Caller, which: JobFilter) -> JobPage: ...

    async def wait(self, caller: Caller, job_ids: Sequence[int], timeout_s: float) -> list[JobView]:
        """The jobs, as soon as every one has ended or the time is over."""

    async def attempts(self, caller: Caller, job_id: int) -> list[AttemptView]: ...

    async def history(self, caller: Caller, job_id: int) -> list[Event]: ...

    async def kill(self, caller: Caller, job_ids: Sequence[int]) -> list[JobView]:
        """Ask for their end; what has ended already is left as it is."""

    async def retry(self, caller: Caller, job_ids: Sequence[int]) -> list[JobView]:
        """Queue FAILED or KILLED jobs again. Raises Conflict for others."""

    async def set_priority(self, caller: Caller, job_ids: Sequence[int], priority: int) -> list[JobView]: ...

    async def explain(self, caller: Caller, job_id: int) -> Explanation:
        """For each site why it does or does not fit, and why the job waits."""

    async def preview(self, caller: Caller, request: JobRequest) -> Explanation:
        """The same for a job that is not submitted yet."""

    async def logs(
        self,
        caller: Caller,
        job_id: int,
        *,
        attempt: int = 0,
        offset: int = 0,
        limit: int = 1 << 20,
        name: str = "log",
        wait_s: float = 0,
    ) -> LogSlice:
        """Bytes of the log from offset; with wait_s, waits that long for some. offset < 0 counts from the end."""

    async def metrics(
        self, caller: Caller, job_id: int, *, names: Sequence[str] = (), points: int = 1000, after: int = 0
    ) -> list[Series]: ...

    async def outputs(self, caller: Caller, job_id: int) -> list[OutputView]: ...

    async def report(self, key: str, token: str, begin: int, lines: bytes) -> int:
        """Reports pushed by a runner. Answers with the offset wanted next. Raises Unauthenticated, NotFound."""

    async def push_log(self, key: str, token: str, begin: int, data: bytes) -> int: ...
