"""`client.jobs`: submit, watch, end and explain jobs; read their logs, metrics and outputs."""

import builtins
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from isthmus import codec
from isthmus.client.connection import Connection
from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import JobRequest
from isthmus.domain.users import Event
from isthmus.domain.views import AttemptView, Explanation, JobPage, JobView, LogSlice, OutputView, Series

POLL_S = 60.0  # one long poll; the server answers sooner when there is news

JobLike = JobRequest | Mapping[str, Any]


class Jobs:
    """See the module. Ids are the server's numbers; everything raises the errors of `isthmus.domain.errors`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(self, job: JobLike, *, key: str = "") -> JobView:
        """Submit one job. With the same `key` again, the same job: nothing is submitted twice."""
        if read(job).array is not None:
            raise Invalid("This is an array: several jobs.", place="array", hint="Use submit_many.")
        (made,) = await self.submit_many([job], key=key)
        return made

    async def submit_many(self, jobs: Iterable[JobLike], *, key: str = "") -> builtins.list[JobView]:
        """Submit several jobs, and the jobs of arrays: all of them or none."""
        return await self._submit([read(job) for job in jobs], key, 0.0)

    async def run(self, job: JobLike, *, timeout_s: float | None = None, key: str = "") -> JobView:
        """Submit one job; the job as soon as it has ended or `timeout_s` is over. Quicker than `submit` and `wait`."""
        if read(job).array is not None:
            raise Invalid("This is an array: several jobs.", place="array", hint="Use run_many.")
        (ended,) = await self.run_many([job], timeout_s=timeout_s, key=key)
        return ended

    async def run_many(
        self, jobs: Iterable[JobLike], *, timeout_s: float | None = None, key: str = ""
    ) -> builtins.list[JobView]:
        """Submit several jobs; the jobs as soon as every one has ended or `timeout_s` is over."""
        begin = time.monotonic()
        first_s = POLL_S if timeout_s is None else min(POLL_S, timeout_s)
        found = await self._submit([read(job) for job in jobs], key, first_s)
        if all(job.state.ended for job in found) or first_s == timeout_s:
            return found
        left_s = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - begin))
        return await self.wait_many([job.id for job in found], timeout_s=left_s)

    async def _submit(self, jobs: Sequence[JobRequest], key: str, wait_s: float) -> builtins.list[JobView]:
        return await self._connection.ask(
            list[JobView],
            "POST",
            "/v1/jobs",
            query={"wait_s": wait_s or None},
            body=jobs,
            body_kind=list[JobRequest],
            headers={"Idempotency-Key": key or os.urandom(16).hex()},
            wait_s=wait_s,
        )

    async def get(self, job: int) -> JobView:
        """One job as it is now, with its spec."""
        return await self._connection.ask(JobView, "GET", f"/v1/jobs/{job}")

    async def list(
        self,
        *,
        state: Sequence[str] = (),
        user: str = "",
        site: str = "",
        name: str = "",
        label: Mapping[str, str] | None = None,
        array: int = 0,
        since: datetime | None = None,
        queue: bool = False,
        before: int = 0,
        limit: int = 50,
    ) -> JobPage:
        """A page of jobs, the newest first. `state`: states, or waiting, running, live, ended.

        With `queue`: what is queued, in the order in which it will be placed; of the rest `user` and `name` count.
        """
        labels = [f"{key}={value}" for key, value in (label or {}).items()]
        query = {
            "state": [state] if isinstance(state, str) else [*state],
            "user": user,
            "site": site,
            "name": name,
            "label": labels,
            "array": array or None,
            "since": since,
            "queue": queue or None,
            "before": before or None,
            "limit": limit,
        }
        return await self._connection.ask(JobPage, "GET", "/v1/jobs", query=query)

    async def all(self, /, **filters: Any) -> AsyncIterator[JobView]:
        """Every job that `list` would find, page after page."""
        before = 0
        while True:
            page = await self.list(**{"limit": 500, **filters, "before": before})
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            before = page.next

    async def wait(self, job: int, *, timeout_s: float | None = None) -> JobView:
        """The job, as soon as it has ended or `timeout_s` is over: look at its state."""
        (ended,) = await self.wait_many([job], timeout_s=timeout_s)
        return ended

    async def wait_many(self, jobs: Sequence[int], *, timeout_s: float | None = None) -> builtins.list[JobView]:
        """The jobs, as soon as every one has ended or `timeout_s` is over."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = POLL_S if end is None else max(0.0, min(POLL_S, end - time.monotonic()))
            found = await self._connection.ask(
                list[JobView],
                "POST",
                "/v1/jobs/wait",
                body={"jobs": list(jobs), "wait_s": left},
                wait_s=left,
            )
            if all(job.state.ended for job in found) or (end is not None and time.monotonic() >= end):
                return found

    async def wait_any(self, jobs: Sequence[int], *, timeout_s: float | None = None) -> builtins.list[JobView]:
        """Those of the jobs that have ended, as soon as there is one; none when `timeout_s` is over."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = POLL_S if end is None else max(0.0, min(POLL_S, end - time.monotonic()))
            body = {"jobs": list(jobs), "wait_s": left, "any": True}
            found = await self._connection.ask(list[JobView], "POST", "/v1/jobs/wait", body=body, wait_s=left)
            if found or (end is not None and time.monotonic() >= end):
                return found

    async def kill(self, *jobs: int) -> builtins.list[JobView]:
        """Ask for the end of jobs. What has ended is left as it is."""
        return await self._many("kill", jobs)

    async def retry(self, *jobs: int) -> builtins.list[JobView]:
        """Queue failed or killed jobs again."""
        return await self._many("retry", jobs, again=False)

    async def set_priority(self, jobs: Sequence[int], priority: int) -> builtins.list[JobView]:
        """Give jobs another priority; higher goes first."""
        body = {"jobs": list(jobs), "priority": priority}
        return await self._connection.ask(list[JobView], "POST", "/v1/jobs/priority", body=body)

    async def explain(self, job: int) -> Explanation:
        """Why it is where it is, and what each site says to it."""
        return await self._connection.ask(Explanation, "GET", f"/v1/jobs/{job}/explain")

    async def preview(self, job: JobLike) -> Explanation:
        """What each site would say to a job that is not submitted."""
        return await self._connection.ask(Explanation, "POST", "/v1/jobs/explain", body=read(job))

    async def attempts(self, job: int) -> builtins.list[AttemptView]:
        """Its tries, the first one first."""
        return await self._connection.ask(list[AttemptView], "GET", f"/v1/jobs/{job}/attempts")

    async def history(self, job: int) -> builtins.list[Event]:
        """What happened to it, by whom and why."""
        return await self._connection.ask(list[Event], "GET", f"/v1/jobs/{job}/history")

    async def metrics(
        self, job: int, *, names: Sequence[str] = (), points: int = 1000, after: int = 0
    ) -> builtins.list[Series]:
        """What its command reported, over time; of each series at most `points`, thinned."""
        query = {"name": list(names), "points": points, "after": after or None}
        return await self._connection.ask(list[Series], "GET", f"/v1/jobs/{job}/metrics", query=query)

    async def log(
        self,
        job: int,
        *,
        attempt: int = 0,
        offset: int = 0,
        limit: int = 1 << 20,
        name: str = "log",
        wait_s: float = 0.0,
    ) -> LogSlice:
        """Bytes of its log. `attempt` 0 is the last one; an `offset` below 0 counts from the end."""
        query = {
            "attempt": attempt or None,
            "offset": offset or None,
            "limit": limit,
            "name": name,
            "wait_s": wait_s or None,
        }
        answer = await self._connection.send("GET", f"/v1/jobs/{job}/log", query=query, wait_s=wait_s)
        return LogSlice(
            attempt=int(answer.headers["isthmus-attempt"]),
            offset=int(answer.headers["isthmus-offset"]),
            data=answer.content,
            size=int(answer.headers["isthmus-size"]),
            ended=answer.headers["isthmus-ended"] == "true",
        )

    async def follow(self, job: int, *, attempt: int = 0, offset: int = 0, name: str = "log") -> AsyncIterator[bytes]:
        """Its log as it grows, until the attempt has ended; of attempt 0, on into the next attempts too."""
        following = attempt
        while True:
            part = await self.log(job, attempt=following, offset=offset, name=name, wait_s=POLL_S)
            if part.data:
                yield part.data
            following = following or part.attempt
            offset = part.offset + len(part.data)
            if not part.ended or offset < part.size:
                continue
            if attempt or not await self._goes_on(job, following):
                return
            following, offset = following + 1, 0

    async def _goes_on(self, job: int, attempt: int) -> bool:
        """Whether another attempt follows this one; waits until that is known."""
        while True:
            found = await self.get(job)
            if found.attempts > attempt:
                return True
            if found.state.ended:
                return False
            found = await self._connection.ask(JobView, "GET", f"/v1/jobs/{job}", query={"wait_s": 0.5}, wait_s=0.5)

    async def outputs(self, job: int) -> builtins.list[OutputView]:
        """The files and folders that it left."""
        return await self._connection.ask(list[OutputView], "GET", f"/v1/jobs/{job}/outputs")

    async def download(
        self,
        job: int,
        path: str,
        to: Path | str,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Bring an output here, verified; goes on where an earlier call was cut. A folder comes as a folder.

        `to` is the file to write or an existing folder to put it into. `progress` is told the bytes so far and of all.
        """
        from isthmus.client import downloads

        found = await self.outputs(job)
        output = next((each for each in found if each.path == path), None)
        if output is None:
            raise downloads.no_such_output(job, path, [each.path for each in found])
        return await downloads.output(self._connection, output, Path(to), progress=progress)

    async def _many(self, verb: str, jobs: Sequence[int], *, again: bool = True) -> builtins.list[JobView]:
        return await self._connection.ask(
            list[JobView], "POST", f"/v1/jobs/{verb}", body={"jobs": list(jobs)}, again=again
        )


def read(job: JobLike) -> JobRequest:
    """A request from a dataclass or a mapping such as a job's file holds. Raises Invalid."""
    return job if isinstance(job, JobRequest) else codec.read(JobRequest, job)
