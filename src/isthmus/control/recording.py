"""Recording: every change of a job or an attempt, with its event, in one transaction.

A `Record` is a unit of work inside one database transaction: it checks each transition, collects the rows, follows what
an end means for the jobs that depend on it, and writes everything at once in `flush`.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from isthmus.control.lifecycle import Again, Verdict, follow_up
from isthmus.control.live import STOPPED, STOPS
from isthmus.db import attempts as attempt_rows
from isthmus.db import events, metrics
from isthmus.db import jobs as job_rows
from isthmus.db.notifications import SUPERVISOR as TO_SUPERVISOR
from isthmus.db.notifications import tell
from isthmus.domain.jobs import Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState, JobState, attempt_may_go, check_job

SUPERVISOR = "supervisor"
ENDED = "ended"  # the topic that is told of when any job ends


def ended_topic(job_id: int) -> str:
    """What is told of when this job ends."""
    return f"ended:{job_id}"


class Record:
    """One transaction's changes. Make it, call its verbs, then ``flush``."""

    def __init__(self, conn: Connection, now: float, actor: str = SUPERVISOR) -> None:
        self._conn = conn
        self._now = now
        self._actor = actor
        self._jobs: list[dict[str, Any]] = []
        self._attempts: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._metrics: list[dict[str, Any]] = []
        self._outputs: list[dict[str, Any]] = []
        self._ended: dict[int, JobState] = {}
        self._attention = False

    @property
    def ended(self) -> dict[int, JobState]:
        """Jobs that ended in this record, dependants included once it is flushed."""
        return self._ended

    def event(
        self,
        noun: str,
        noun_id: object,
        verb: str,
        *,
        job_id: int | None = None,
        at: float | None = None,
        **fields: str,
    ) -> None:
        """Note something that changes no state."""
        self._events.append(
            {
                "at": self._now if at is None else at,
                "actor": self._actor,
                "noun": noun,
                "noun_id": str(noun_id),
                "verb": verb,
                "before": "",
                "after": "",
                "reason": "",
                "message": "",
                "job_id": job_id,
                **fields,
            }
        )

    def job(self, job_id: int, before: JobState, after: JobState, reason: Reason, message: str, **columns: Any) -> None:
        """A job goes from one state to another. Raises Conflict if it can't."""
        check_job(before, after, f"job {job_id}")
        changes: dict[str, Any] = {"state": after.value, "reason": reason.value, "message": message, **columns}
        if after.ended:
            changes.setdefault("ended_at", self._now)
            self._ended[job_id] = after
        self._jobs.append({"id": job_id, **changes})
        self._attention = self._attention or bool(columns.get("attention"))
        self.event(
            "job",
            job_id,
            "state",
            job_id=job_id,
            before=before.value,
            after=after.value,
            reason=reason.value,
            message=message,
        )

    def job_columns(self, job_id: int, **columns: Any) -> None:
        """Set columns of a job that are no state."""
        self._jobs.append({"id": job_id, **columns})

    def attempt_columns(self, attempt_id: int, **columns: Any) -> None:
        self._attempts.append({"id": attempt_id, **columns})

    def submitted(self, row: attempt_rows.AttemptRow, native_id: str) -> None:
        """The batch system has the attempt."""
        if not attempt_may_go(AttemptState(row.state), AttemptState.SUBMITTED):
            self._attempts.append({"id": row.id, "native_id": native_id})
            return
        self._attempts.append(
            {
                "id": row.id,
                "native_id": native_id,
                "state": AttemptState.SUBMITTED.value,
                "submitted_at": self._now,
            }
        )
        if JobState(row.job_state) in (JobState.QUEUED, JobState.STAGING):
            self.job(
                row.job_id,
                JobState(row.job_state),
                JobState.PENDING,
                Reason.SITE_QUEUE,
                f"{row.site_name}: {native_id}",
            )

    def waiting(self, row: attempt_rows.AttemptRow, why: str) -> None:
        """Why an attempt is not at its site yet."""
        if JobState(row.job_state) in (JobState.QUEUED, JobState.STAGING):
            self.job_columns(row.job_id, message=f"{row.site_name}: {why}" if why else "")

    def verdict(self, row: attempt_rows.AttemptRow, verdict: Verdict, retry: Retry, *, native_id: str = "") -> None:
        """What news made of an attempt, and what it means for its job. ``native_id`` where it may not be noted yet."""
        _stopped_by_policy(row, verdict)
        changes: dict[str, Any] = {"id": row.id, "heard_at": self._now, "reports": verdict.reports}
        if native_id and not row.native_id and verdict.state is not None:
            changes["native_id"], changes["submitted_at"] = native_id, self._now
        if verdict.native_state != row.native_state:
            changes["native_state"] = verdict.native_state
        if verdict.nodes and verdict.nodes != row.nodes:
            changes["nodes"] = verdict.nodes[:2000]
        if verdict.usage:
            changes["usage"] = json.dumps({**json.loads(row.usage), **verdict.usage})
        if verdict.progress is not None:
            changes["progress"] = json.dumps(verdict.progress)
        if verdict.started_at is not None:
            changes["started_at"] = verdict.started_at
        self._metrics.extend(
            {"attempt_id": row.id, "name": one.name, "step": one.step, "at": one.at, "value": one.value}
            for one in verdict.metrics
        )
        before = AttemptState(row.state)
        job_state = self._passed_running(row, verdict)
        if verdict.state is not None and attempt_may_go(before, verdict.state):
            changes["state"] = verdict.state.value
            if verdict.state.ended:
                self._end_attempt(changes, row, verdict)
                self._end_job(row, job_state, verdict, retry)
            else:
                self._outputs_of(row, verdict)
                self._move_job(row, job_state, verdict)
        elif verdict.waiting and job_state is JobState.PENDING:
            self.job_columns(row.job_id, message=f"{row.site_name}: {verdict.waiting}")
        self._attempts.append(changes)

    def _passed_running(self, row: attempt_rows.AttemptRow, verdict: Verdict) -> JobState:
        """The job's state before the verdict's: where its start and its end came together, it ran in between."""
        state = JobState(row.job_state)
        ended = verdict.state is not None and verdict.state.rank > AttemptState.RUNNING.rank
        if verdict.started_at is None or not ended or state not in (JobState.STAGING, JobState.PENDING):
            return state
        fields = {"before": state.value, "after": JobState.RUNNING.value}
        self.event("job", row.job_id, "state", job_id=row.job_id, at=verdict.started_at, **fields)
        return JobState.RUNNING

    def collected(self, row: attempt_rows.AttemptRow, failure: str, retry: Retry) -> None:
        """The outputs of an attempt were checked and brought home, or ``failure`` says why not."""
        verdict = Verdict(
            state=AttemptState.FAILED if failure else AttemptState.COMPLETED,
            reason=Reason.OUTPUT if failure else Reason.NONE,
            message=failure,
            exit_code=0,
            reports=row.reports,
            native_state=row.native_state,
            ended_at=self._now,
        )
        self.verdict(row, verdict, retry)

    def give_up(
        self, row: attempt_rows.AttemptRow, state: AttemptState, reason: Reason, message: str, retry: Retry
    ) -> None:
        """End an attempt by our own decision: refused, not staged, lost, or killed before it was submitted."""
        verdict = Verdict(
            state=state,
            reason=reason,
            message=message,
            reports=row.reports,
            native_state=row.native_state,
            ended_at=self._now,
        )
        self.verdict(row, verdict, retry)

    def flush(self) -> None:
        """Write it all; follow the dependencies of what ended until nothing more ends by it."""
        job_rows.change(self._conn, self._jobs)
        self._jobs = []
        fresh = list(self._ended)
        while fresh:
            fresh = self._follow_dependencies(fresh)
            job_rows.change(self._conn, self._jobs)
            self._jobs = []
        attempt_rows.change(self._conn, self._attempts)
        attempt_rows.add_outputs(self._conn, self._outputs)
        if self._metrics:
            metrics.insert(self._conn, self._metrics)
        if self._events:
            events.insert(self._conn, self._events)
        if self._attention:
            tell(self._conn, TO_SUPERVISOR)
        if self._ended:
            tell(self._conn, ENDED, *(ended_topic(job_id) for job_id in self._ended))

    def _move_job(self, row: attempt_rows.AttemptRow, job_state: JobState, verdict: Verdict) -> None:
        assert verdict.state is not None
        after = verdict.state.job
        columns: dict[str, Any] = {}
        if verdict.started_at is not None:
            columns = {"started_at": verdict.started_at, "node": verdict.nodes[:200]}
        if after is not job_state:
            self.job(row.job_id, job_state, after, Reason.NONE, "", **columns)
        elif columns:
            self.job_columns(row.job_id, **columns)

    def _outputs_of(self, row: attempt_rows.AttemptRow, verdict: Verdict) -> None:
        if verdict.state is AttemptState.COLLECTING:
            self._outputs.extend(
                {
                    "job_id": row.job_id,
                    "attempt_id": row.id,
                    "path": one["path"],
                    "kind": one.get("kind", "file"),
                    "size": one["size"],
                    "digest": one["digest"],
                    "collected": False,
                }
                for one in verdict.outputs
            )

    def _end_attempt(self, changes: dict[str, Any], row: attempt_rows.AttemptRow, verdict: Verdict) -> None:
        assert verdict.state is not None
        changes.update(
            live=False,
            token_hash="",
            reason=verdict.reason.value,
            message=verdict.message,
            exit_code=verdict.exit_code,
            signal=verdict.signal,
            ended_at=verdict.ended_at or self._now,
        )
        self.event(
            "attempt",
            row.key,
            "state",
            job_id=row.job_id,
            before=row.state,
            after=verdict.state.value,
            reason=verdict.reason.value,
            message=verdict.message,
        )

    def _end_job(self, row: attempt_rows.AttemptRow, job_state: JobState, verdict: Verdict, retry: Retry) -> None:
        """The job ends with its attempt, or is queued again by its retry policy."""
        assert verdict.state is not None
        columns: dict[str, Any] = {"exit_code": verdict.exit_code}
        if verdict.started_at is not None:
            columns["started_at"] = verdict.started_at
        if verdict.nodes:
            columns["node"] = verdict.nodes[:200]
        again = None
        if verdict.state in (AttemptState.FAILED, AttemptState.LOST, AttemptState.KILLED) and not row.kill_by:
            plan = json.loads(row.plan)
            if verdict.reason is Reason.PREEMPTED and plan.get(STOPPED):
                again = Again(0.0, row.job_mem_bytes)
            else:
                again = follow_up(retry, verdict.reason, row.number - int(plan.get(STOPS, 0)), row.job_mem_bytes)
        if again is not None:
            self.job(
                row.job_id,
                job_state,
                JobState.QUEUED,
                Reason.BACKOFF if again.delay_s else Reason.NONE,
                f"attempt {row.number} at {row.site_name}: {verdict.reason.sentence} {verdict.message}".strip(),
                wake_at=self._now + again.delay_s,
                mem_bytes=again.mem_bytes,
                attention=True,
                **columns,
            )
            return
        after = JobState.FAILED if verdict.state is AttemptState.LOST else verdict.state.job
        if row.kill_by and after is JobState.FAILED and verdict.reason in (Reason.LOST, Reason.SUBMIT, Reason.STAGE):
            after = JobState.KILLED
        message = verdict.message
        if after is JobState.KILLED and row.kill_by:
            message = f"by {row.kill_by}"
        # The supervisor knows what it wrote itself; what others record it must look at.
        self.job(row.job_id, job_state, after, verdict.reason, message, attention=self._actor != SUPERVISOR, **columns)

    def _follow_dependencies(self, ended: Sequence[int]) -> list[int]:
        met: list[tuple[int, int]] = []
        failed: dict[int, str] = {}
        for one in job_rows.dependents(self._conn, ended):
            state = self._ended[one.on_job_id]
            good = state is JobState.COMPLETED
            if one.condition == "ended" or good == (one.condition == "completed"):
                met.append((one.job_id, one.on_job_id))
            else:
                failed[one.job_id] = f"job {one.on_job_id} is {state.value}, it waits for {one.condition}"
        freed = [pair for pair in met if pair[0] not in failed]
        job_rows.meet(self._conn, freed)
        self._attention = self._attention or bool(freed)
        for job_id, message in failed.items():
            if job_id not in self._ended:
                self.job(job_id, JobState.QUEUED, JobState.FAILED, Reason.DEPENDENCY_FAILED, message, attention=True)
        return list(failed)


def _stopped_by_policy(row: attempt_rows.AttemptRow, verdict: Verdict) -> None:
    """An attempt that a policy stopped did not fail, and nobody killed it: it gave way."""
    ended = verdict.state in (AttemptState.KILLED, AttemptState.FAILED, AttemptState.LOST)
    if not ended or row.kill_by or not json.loads(row.plan).get(STOPPED):
        return
    if verdict.reason in (Reason.KILLED, Reason.SIGNAL, Reason.LOST, Reason.PREEMPTED):
        verdict.state, verdict.reason = AttemptState.KILLED, Reason.PREEMPTED
        verdict.message = "stopped, to go on with another number of GPUs or to give way"
