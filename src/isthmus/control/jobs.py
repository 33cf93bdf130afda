"""The use cases of jobs: what the API's calls about jobs do. Every method checks what the caller may do."""

import builtins
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places, submission, waiting
from isthmus.control.explaining import verdicts
from isthmus.control.knowledge import read_rules
from isthmus.control.logs import Logs
from isthmus.control.needs import Mark, Needs
from isthmus.control.needs import mark as needs_mark
from isthmus.control.recording import Record
from isthmus.control.rights import require
from isthmus.control.views import attempt_view, job_view, output_view
from isthmus.db import attempts as attempt_rows
from isthmus.db import events, secrets
from isthmus.db import jobs as job_rows
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound
from isthmus.domain.jobs import JobRequest
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from isthmus.domain.users import Caller, Event, Role, Scope
from isthmus.domain.views import (
    AttemptView,
    Explanation,
    JobPage,
    JobView,
    LogSlice,
    OutputView,
)


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
    queue: bool = False  # only QUEUED ones, in the order in which they are placed; of the rest user and name count
    before: int = 0  # ids smaller than this: the key of the next page; the newest come first
    limit: int = 50


class Jobs:
    """Jobs as people ask about them."""

    def __init__(self, db: Database, needs: Needs, logs: Logs, clock: Clock) -> None:
        self._db = db
        self._needs = needs
        self._logs = logs
        self._clock = clock

    async def submit(self, caller: Caller, requests: Sequence[JobRequest], *, request_key: str = "") -> list[JobView]:
        """Accept the jobs whole or not at all. With a request key, asking twice gives the same jobs."""
        require(caller, Role.MEMBER, Scope.JOBS)
        if not requests:
            raise Invalid("There is no job in the request.", place="jobs")
        ground, mark = await self._db.read(self._ground, caller, submission.named_jobs(requests))
        await self._needs.refresh(mark)
        accepted = submission.examine(requests, caller, self._needs, ground)

        def write(conn: Connection) -> list[JobView]:
            ids = submission.insert(conn, accepted, caller, request_key, self._now())
            rows = job_rows.many(conn, ids)
            return [job_view(rows[job_id]) for job_id in ids]

        return await self._db.write(write)

    async def get(self, caller: Caller, job_id: int) -> JobView:
        """One job with its spec. Raises NotFound."""
        require(caller, Role.VIEWER, Scope.READ)
        row = await self._db.read(known, job_id)
        return job_view(row, spec=True)

    async def list(self, caller: Caller, which: JobFilter) -> JobPage:
        """A page of jobs, the newest first."""
        require(caller, Role.VIEWER, Scope.READ)
        if which.queue:
            many = which.limit + 1
            rows = await self._db.read(
                job_rows.queue, user=which.user, name=which.name, behind=which.before, limit=many
            )
            return _page(rows, which.limit)
        rows = await self._db.read(
            job_rows.page,
            states=which.states,
            user=which.user,
            site=which.site,
            name=which.name,
            labels=which.label,
            array=which.array,
            since=which.since.timestamp() if which.since else None,
            before=which.before,
            limit=which.limit + 1,
        )
        return _page(rows, which.limit)

    async def many(self, caller: Caller, job_ids: Sequence[int]) -> builtins.list[JobView]:
        """These jobs, in their order; what does not exist is left out."""
        require(caller, Role.VIEWER, Scope.READ)
        rows = await self._db.read(job_rows.many, job_ids)
        return [job_view(rows[job_id], spec=True) for job_id in dict.fromkeys(job_ids) if job_id in rows]

    async def wait(self, caller: Caller, job_ids: Sequence[int], timeout_s: float) -> builtins.list[JobView]:
        """The jobs, as soon as every one has ended or the time is over."""
        require(caller, Role.VIEWER, Scope.READ)
        wanted = builtins.list(dict.fromkeys(job_ids))
        rows = await waiting.for_all(self._db, self._clock, wanted, timeout_s)
        return [job_view(rows[job_id]) for job_id in wanted]

    async def wait_any(self, caller: Caller, job_ids: Sequence[int], timeout_s: float) -> builtins.list[JobView]:
        """Those of the jobs that have ended, as soon as there is one; none when the time is over."""
        require(caller, Role.VIEWER, Scope.READ)
        wanted = builtins.list(dict.fromkeys(job_ids))
        rows = await waiting.for_one(self._db, self._clock, wanted, timeout_s)
        return [job_view(rows[job_id]) for job_id in wanted if job_id in rows]

    async def attempts(self, caller: Caller, job_id: int) -> builtins.list[AttemptView]:
        """Its tries, the first first."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[AttemptView]:
            known(conn, job_id)
            return [attempt_view(row) for row in attempt_rows.of_job(conn, job_id)]

        return await self._db.read(read)

    async def history(self, caller: Caller, job_id: int) -> builtins.list[Event]:
        """What happened to it, the oldest first."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[Event]:
            known(conn, job_id)
            return builtins.list(events.page(conn, job=job_id, limit=10_000))

        return await self._db.read(read)

    async def kill(self, caller: Caller, job_ids: Sequence[int]) -> builtins.list[JobView]:
        """Ask for their end; what has ended already is left as it is."""

        def change(conn: Connection, unit: Record, row: Any) -> None:
            state = JobState(row.state)
            if state.ended or row.kill_by:
                return
            if state is JobState.QUEUED:
                unit.job(
                    row.id,
                    state,
                    JobState.KILLED,
                    Reason.KILLED,
                    f"by {caller.user.name}",
                    kill_by=caller.user.name,
                    attention=True,
                )
                return
            unit.job_columns(row.id, kill_by=caller.user.name, attention=True)
            unit.event("job", row.id, "kill", job_id=row.id, before=state.value)

        return await self._change(caller, job_ids, change)

    async def retry(self, caller: Caller, job_ids: Sequence[int]) -> builtins.list[JobView]:
        """Queue FAILED or KILLED jobs again. Raises Conflict for others."""

        def change(conn: Connection, unit: Record, row: Any) -> None:
            state = JobState(row.state)
            if state not in (JobState.FAILED, JobState.KILLED):
                raise Conflict(f"Job {row.id} is {state.value}: only FAILED and KILLED ones are tried again.")
            unit.job(
                row.id,
                state,
                JobState.QUEUED,
                Reason.NONE,
                f"again, by {caller.user.name}",
                kill_by=None,
                wake_at=None,
                ended_at=None,
                started_at=None,
                exit_code=None,
                waiting_for=0,
                attention=True,
            )

        return await self._change(caller, job_ids, change)

    async def set_priority(self, caller: Caller, job_ids: Sequence[int], priority: int) -> builtins.list[JobView]:
        """Higher goes first. Changes the order of what waits; what runs goes on."""
        if not -1_000_000 <= priority <= 1_000_000:
            raise Invalid("It must be from -1000000 to 1000000.", place="priority")

        def change(conn: Connection, unit: Record, row: Any) -> None:
            if row.priority == priority:
                return
            unit.job_columns(row.id, priority=priority, attention=True)
            unit.event("job", row.id, "priority", job_id=row.id, before=str(row.priority), after=str(priority))

        return await self._change(caller, job_ids, change)

    async def explain(self, caller: Caller, job_id: int) -> Explanation:
        """For each site why it does or does not fit, and why the job waits."""
        require(caller, Role.VIEWER, Scope.READ)
        await self._needs.refresh()
        row = await self._db.read(known, job_id)
        need = self._needs.of(row.spec, row.user_id, row.mem_bytes, row.zones, row.site_name or "")
        snapshots, knowledge = await self._db.read(places.seen, self._now())
        return Explanation(
            job=job_id,
            state=JobState(row.state),
            reason=Reason(row.reason),
            message=row.message,
            sites=verdicts(need, snapshots.values(), row.site_name or "", JobState(row.state), knowledge.terms()),
        )

    async def preview(self, caller: Caller, request: JobRequest) -> Explanation:
        """The same for a job that is not submitted yet."""
        require(caller, Role.MEMBER, Scope.JOBS)
        ground, mark = await self._db.read(self._ground, caller, submission.named_jobs([request]))
        await self._needs.refresh(mark)
        accepted = submission.examine([dataclasses.replace(request, wait_for_site=True)], caller, self._needs, ground)
        one = accepted[0]
        need = self._needs.need(one.spec, caller.user.id, 0, one.zones)
        snapshots, knowledge = await self._db.read(places.seen, self._now())
        return Explanation(sites=verdicts(need, snapshots.values(), "", JobState.QUEUED, knowledge.terms()))

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
        require(caller, Role.VIEWER, Scope.READ)
        await self._db.read(known, job_id)
        return await self._logs.read(job_id, attempt=attempt, offset=offset, limit=limit, name=name, wait_s=wait_s)

    async def outputs(self, caller: Caller, job_id: int) -> builtins.list[OutputView]:
        """The files and folders that it left."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[OutputView]:
            known(conn, job_id)
            return [output_view(row) for row in attempt_rows.outputs_of(conn, job_id)]

        return await self._db.read(read)

    async def _change(self, caller: Caller, job_ids: Sequence[int], change: Any) -> builtins.list[JobView]:
        """Apply ``change`` to jobs of the caller's (an admin's: anybody's), all or none."""
        require(caller, Role.MEMBER, Scope.JOBS)
        wanted = builtins.list(dict.fromkeys(job_ids))

        def write(conn: Connection) -> builtins.list[JobView]:
            rows = job_rows.many(conn, wanted)
            unit = Record(conn, self._now(), caller.user.name)
            for job_id in wanted:
                row = rows.get(job_id)
                if row is None:
                    raise NotFound(f"There is no job {job_id}.", place="job")
                if row.user_id != caller.user.id and caller.user.role is not Role.ADMIN:
                    raise Forbidden(f"Job {job_id} is {row.user_name}'s.", place="job")
                change(conn, unit, row)
            unit.flush()
            tell(conn, SUPERVISOR, *(f"job:{job_id}" for job_id in wanted[:1000]))
            rows = job_rows.many(conn, wanted)
            return [job_view(rows[job_id]) for job_id in wanted]

        return await self._db.write(write)

    def _ground(self, conn: Connection, caller: Caller, named: Sequence[int]) -> tuple[submission.Ground, Mark]:
        ground = submission.Ground(
            sites=places.every(conn, read_rules(conn, self._now())),
            secrets=frozenset(row.name for row in secrets.every(conn, caller.user.id)),
            states=job_rows.states(conn, named),
            zones=submission.inherited_zones(conn, named),
            now=self._now(),
        )
        return ground, needs_mark(conn)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _page(rows: Sequence[Any], limit: int) -> JobPage:
    shown = rows[:limit]
    return JobPage(jobs=tuple(job_view(row) for row in shown), next=shown[-1].id if len(rows) > limit else None)


def known(conn: Connection, job_id: int) -> Any:
    """The row of a job. Raises NotFound."""
    row = job_rows.many(conn, [job_id]).get(job_id)
    if row is None:
        raise NotFound(f"There is no job {job_id}.", place="job")
    return row
