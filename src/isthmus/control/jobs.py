"""The use cases of jobs: what the API's calls about jobs do. Every method checks what the caller may do."""

import builtins
import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places, submission
from isthmus.control.knowledge import read_rules
from isthmus.control.lifecycle import Said, Standing, judge
from isthmus.control.live import read_spec
from isthmus.control.logs import Logs
from isthmus.control.needs import Mark, Needs
from isthmus.control.needs import mark as needs_mark
from isthmus.control.recording import ENDED, Record, ended_topic
from isthmus.control.rights import require
from isthmus.control.tokens import AttemptTokens
from isthmus.control.views import attempt_view, job_view, output_view
from isthmus.db import attempts as attempt_rows
from isthmus.db import events, metrics, secrets
from isthmus.db import jobs as job_rows
from isthmus.db import logs as log_rows
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.db.times import moment
from isthmus.domain.clock import Clock
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from isthmus.domain.jobs import JobRequest
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.users import Caller, Event, Role, Scope
from isthmus.domain.views import (
    AttemptView,
    Ends,
    Explanation,
    FilterSaid,
    JobPage,
    JobView,
    LogSlice,
    OutputView,
    Point,
    Progress,
    ScoreSaid,
    Series,
    SiteVerdict,
)
from isthmus.placement import filters
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms, explain
from isthmus.placement.policies import DEADLINE_COST
from isthmus.placement.scores import hourly
from isthmus.placement.snapshot import SiteSnapshot

_ASKED_AT_ONCE = 32  # jobs of a long wait

# Of these jobs (second: all that are waited for) those still to wait for; once there are none, the rows to answer with.
Look = Callable[[Connection, Sequence[int], Sequence[int]], tuple[list[int], dict[int, Any]]]


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

    def __init__(self, db: Database, needs: Needs, logs: Logs, tokens: AttemptTokens, clock: Clock) -> None:
        self._db = db
        self._needs = needs
        self._logs = logs
        self._tokens = tokens
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
        row = await self._db.read(_one, job_id)
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
        rows = await self._look_until(wanted, timeout_s, _not_ended, _from_first_that_lives)
        rows = rows or await self._db.read(job_rows.many, wanted)
        return [job_view(rows[job_id]) for job_id in wanted]

    async def wait_any(self, caller: Caller, job_ids: Sequence[int], timeout_s: float) -> builtins.list[JobView]:
        """Those of the jobs that have ended, as soon as there is one; none when the time is over."""
        require(caller, Role.VIEWER, Scope.READ)
        wanted = builtins.list(dict.fromkeys(job_ids))
        rows = await self._look_until(wanted, timeout_s, _unless_one_ended, _unless_one_ended)
        return [job_view(rows[job_id]) for job_id in wanted if job_id in rows]

    async def _look_until(self, wanted: Sequence[int], timeout_s: float, first: Look, again: Look) -> dict[int, Any]:
        """The rows that a look brings when it leaves no job to wait for; none if the time is over before."""
        deadline = self._clock.monotonic() + timeout_s
        with self._db.watch(*_topics(wanted)) as news:
            left, rows = await self._db.read(first, wanted, wanted)
            while left:
                remaining = deadline - self._clock.monotonic()
                if remaining <= 0 or not await _in_time(news, remaining):
                    return {}
                news.clear()
                left, rows = await self._db.read(again, left, wanted)
        return rows

    async def attempts(self, caller: Caller, job_id: int) -> builtins.list[AttemptView]:
        """Its tries, the first first."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[AttemptView]:
            _one(conn, job_id)
            return [attempt_view(row) for row in attempt_rows.of_job(conn, job_id)]

        return await self._db.read(read)

    async def history(self, caller: Caller, job_id: int) -> builtins.list[Event]:
        """What happened to it, the oldest first."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[Event]:
            _one(conn, job_id)
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
        row = await self._db.read(_one, job_id)
        need = self._needs.of(row.spec, row.user_id, row.mem_bytes, row.zones, row.site_name or "")
        snapshots, knowledge = await self._db.read(places.seen, self._now())
        return Explanation(
            job=job_id,
            state=JobState(row.state),
            reason=Reason(row.reason),
            message=row.message,
            sites=_verdicts(need, snapshots.values(), row.site_name or "", JobState(row.state), knowledge.terms()),
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
        return Explanation(sites=_verdicts(need, snapshots.values(), "", JobState.QUEUED, knowledge.terms()))

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
        await self._db.read(_one, job_id)
        return await self._logs.read(job_id, attempt=attempt, offset=offset, limit=limit, name=name, wait_s=wait_s)

    async def metrics(
        self,
        caller: Caller,
        job_id: int,
        *,
        names: Sequence[str] = (),
        points: int = 1000,
        after: int = 0,
        attempt: int = 0,
        system: bool = False,
        between: tuple[float, float] | None = None,
        by_time: bool = False,
    ) -> builtins.list[Series]:
        """The series that its last attempt (or number ``attempt``) reported, thinned to about ``points`` each.

        With ``system`` what its runner measured instead. ``between``: only those with steps (or seconds since 1970,
        with ``by_time``) in this range.
        """
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[Series]:
            _one(conn, job_id)
            rows = attempt_rows.of_job(conn, job_id)
            chosen = [row for row in rows if not attempt or row.number == attempt]
            if not chosen:
                return []
            last = chosen[-1]
            wanted = names or metrics.names(conn, last.id, system=system)
            return [_series(conn, last, name, points, after, between, by_time) for name in wanted]

        return await self._db.read(read)

    async def metric_names(self, caller: Caller, job_id: int, *, attempt: int = 0) -> tuple[tuple[str, ...], ...]:
        """The names of the series of its last attempt (or number ``attempt``): the command's own, and the runner's."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> tuple[tuple[str, ...], ...]:
            rows = [row for row in attempt_rows.of_job(conn, job_id) if not attempt or row.number == attempt]
            if not rows:
                return (), ()
            return tuple(metrics.names(conn, rows[-1].id)), tuple(metrics.names(conn, rows[-1].id, system=True))

        return await self._db.read(read)

    async def last_values(self, caller: Caller, job_ids: Sequence[int], name: str = "") -> dict[int, dict[str, Ends]]:
        """For each job the last, lowest and highest value of its metrics, or of one; of its last attempt."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> dict[int, dict[str, Ends]]:
            found: dict[int, dict[str, Ends]] = {}
            for job_id, attempt_id in attempt_rows.last_of(conn, job_ids).items():
                found[job_id] = {}
                for one in [name] if name else metrics.names(conn, attempt_id):
                    ends = metrics.ends(conn, attempt_id, one)
                    if ends is not None:
                        found[job_id][one] = Ends(last=ends[0], low=ends[1], high=ends[2])
            return found

        return await self._db.read(read)

    async def progress(self, caller: Caller) -> dict[int, Progress]:
        """How far the running jobs say they are; those that say nothing are left out."""
        require(caller, Role.VIEWER, Scope.READ)
        rows = await self._db.read(attempt_rows.progress)
        return {row.job_id: Progress(**json.loads(row.progress)) for row in rows}

    async def outputs(self, caller: Caller, job_id: int) -> builtins.list[OutputView]:
        """The files and folders that it left."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> builtins.list[OutputView]:
            _one(conn, job_id)
            return [output_view(row) for row in attempt_rows.outputs_of(conn, job_id)]

        return await self._db.read(read)

    # ---- what runners push

    async def report(self, key: str, token: str, begin: int, lines: bytes) -> int:
        """Reports pushed by a runner. Answers with the offset wanted next. Raises Unauthenticated, NotFound.

        Reports that a pushed end can't decide alone are left to the supervisor, which asks the site.
        """
        now = self._now()

        def write(conn: Connection) -> int:
            row = self._attempt(conn, key, token)
            if begin > row.reports:
                return int(row.reports)
            spec = read_spec(row.job_spec)
            standing = Standing(
                state=AttemptState(row.state),
                reports=row.reports,
                kill_requested=bool(row.kill_by),
                collects=bool(spec.outputs),
                native_state=row.native_state,
            )
            verdict = judge(standing, Said(), begin, lines, now)
            unit = Record(conn, now, actor=row.site_name)
            unit.verdict(row, verdict, spec.retry)
            unit.flush()
            tell(conn, f"job:{row.job_id}", *([SUPERVISOR] if verdict.state is not None else []))
            return max(int(row.reports), begin + len(lines))

        return await self._db.write(write)

    async def push_log(self, key: str, token: str, begin: int, data: bytes) -> int:
        """Bytes of a log pushed by a runner. Answers with the offset wanted next."""

        def write(conn: Connection) -> int:
            row = self._attempt(conn, key, token)
            return log_rows.append(conn, row.id, begin, data)

        return await self._db.write(write)

    def _attempt(self, conn: Connection, key: str, token: str) -> Any:
        row = attempt_rows.by_keys(conn, [key]).get(key)
        if row is None:
            raise NotFound("There is no such attempt.", place="attempt")
        if not row.live or not self._tokens.matches(row.token_hash, token):
            raise Unauthenticated("This token is not good for this attempt any more.", code="attempt-over")
        return row

    # ---- the rest

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


async def _in_time(news: Any, seconds: float) -> bool:
    import asyncio

    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


def _topics(wanted: Sequence[int]) -> Sequence[str]:
    """One topic a job; of many, any job's, since a watch of thousands of topics would cost more."""
    return [ended_topic(job_id) for job_id in wanted] if len(wanted) <= 100 else [ENDED]


def _not_ended(conn: Connection, ids: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], dict[int, Any]]:
    """Which of them have not ended; where all have, the rows of those that are wanted. Raises NotFound."""
    states = _states(conn, ids)
    left = [job_id for job_id in ids if not JobState(states[job_id]).ended]
    return left, {} if left else job_rows.many(conn, wanted)


def _unless_one_ended(conn: Connection, ids: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], dict[int, Any]]:
    """All of them while none has ended; then none, and the rows of those that have. Raises NotFound."""
    ended = [job_id for job_id, state in _states(conn, ids).items() if JobState(state).ended]
    return ([], job_rows.many(conn, ended)) if ended else (list(ids), {})


def _states(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    states = job_rows.states(conn, ids)
    missing = [job_id for job_id in ids if job_id not in states]
    if missing:
        raise NotFound(f"There is no job {missing[0]}.", place="job")
    return states


def _from_first_that_lives(
    conn: Connection, ids: Sequence[int], wanted: Sequence[int]
) -> tuple[list[int], dict[int, Any]]:
    """As `_not_ended`, but those after one that has not ended are not asked, since all are waited for."""
    for start in range(0, len(ids), _ASKED_AT_ONCE):
        states = job_rows.states(conn, ids[start : start + _ASKED_AT_ONCE])
        living = [job_id for job_id, state in states.items() if not JobState(state).ended]
        if living:
            return [*living, *ids[start + _ASKED_AT_ONCE :]], {}
    return [], job_rows.many(conn, wanted)


def _one(conn: Connection, job_id: int) -> Any:
    row = job_rows.many(conn, [job_id]).get(job_id)
    if row is None:
        raise NotFound(f"There is no job {job_id}.", place="job")
    return row


def _series(
    conn: Connection,
    attempt: Any,
    name: str,
    points: int,
    after: int,
    between: tuple[float, float] | None,
    by_time: bool,
) -> Series:
    values, count = metrics.series(conn, attempt.id, name, after=after, points=points, between=between, by_time=by_time)
    return Series(
        name=name,
        attempt=attempt.number,
        points=tuple(Point(at=moment(value.at), value=value.value, step=value.step) for value in values),
        count=count,
        last_id=max((value.id for value in values), default=after),
    )


def _verdicts(
    need: Need, sites: Collection[SiteSnapshot], current: str, state: JobState, terms: Terms
) -> tuple[SiteVerdict, ...]:
    """What each site has to say to a job that is at ``current``, or waits."""
    snapshots = {site.name: site for site in sites}
    found = explain(need, snapshots.values(), terms)
    best = max((verdict for verdict in found if verdict.free), key=lambda one: one.score, default=None)
    verdicts = []
    for verdict in found:
        site = snapshots[verdict.site]
        queue = filters.choose_queue(need, site) if verdict.fits else None
        node = filters.choose_node(need, queue) if queue else None
        chosen = verdict.site == current if current and state is not JobState.QUEUED else verdict is best
        hour = hourly(need, site)
        wait = site.wait(queue.name if queue else "") if verdict.fits else None
        told = ", ".join(f"{part.name} {part.value:.2f}" for part in verdict.scores if part.value is not None)
        verdicts.append(
            SiteVerdict(
                site=verdict.site,
                fits=verdict.fits,
                now=verdict.free,
                chosen=chosen,
                reasons=verdict.why or (*_policy(need, site), f"score {verdict.score:.2f}: {told}"),
                queue=queue.name if queue else "",
                node_type=node.name if node else "",
                wait_s=wait.seconds if wait else None,
                cost_h=hour,
                cost=hour * need.time / 3600 if need.time else None,
                policy=verdict.policy,
                score=verdict.score,
                filters=tuple(FilterSaid(name=one.name, why=one.why, lasting=one.lasting) for one in verdict.checks),
                scores=tuple(
                    ScoreSaid(name=one.name, value=one.value, weight=one.weight, note=one.note)
                    for one in verdict.scores
                ),
            )
        )
    return tuple(verdicts)


def _policy(need: Need, site: SiteSnapshot) -> tuple[str, ...]:
    if not need.sized or site.policy != DEADLINE_COST:
        return ()
    return (f"policy {site.policy}: it decides when the job runs there, and on how many GPUs",)
