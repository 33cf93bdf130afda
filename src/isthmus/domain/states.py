"""States of jobs and attempts, what each means, and the only ways from one to another."""

from enum import StrEnum

from isthmus.domain.errors import Conflict


class JobState(StrEnum):
    """Where a job is on its way. The order is that of a normal journey."""

    QUEUED = "QUEUED"
    STAGING = "STAGING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def meaning(self) -> str:
        return _JOB_MEANING[self]

    @property
    def ended(self) -> bool:
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.KILLED)

    @property
    def placed(self) -> bool:
        """Whether a live attempt stands behind it."""
        return self in (JobState.STAGING, JobState.PENDING, JobState.RUNNING, JobState.COLLECTING)


class AttemptState(StrEnum):
    """Where one try of a job on one site is. Monotone: an attempt never goes back."""

    CREATED = "CREATED"
    STAGING = "STAGING"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    LOST = "LOST"

    @property
    def ended(self) -> bool:
        return self in ATTEMPT_ENDS

    @property
    def rank(self) -> int:
        return 5 if self in ATTEMPT_ENDS else _ATTEMPT_ORDER.index(self)

    @property
    def job(self) -> JobState:
        """The state that the job has while this is its attempt's."""
        return _JOB_OF_ATTEMPT[self]


_JOB_MEANING = {
    JobState.QUEUED: "Accepted; waits here for its turn, a place or a dependency.",
    JobState.STAGING: "A place is chosen; its image and data are brought there.",
    JobState.PENDING: "Handed to the site's batch system; waits there.",
    JobState.RUNNING: "Its command runs.",
    JobState.COLLECTING: "Its command ended well; its outputs are checked and collected.",
    JobState.COMPLETED: "Exit code 0 and every declared output verified.",
    JobState.FAILED: "Ended badly and won't be tried again; the reason says why.",
    JobState.KILLED: "Ended because somebody asked for it.",
}

ATTEMPT_ENDS = frozenset({AttemptState.COMPLETED, AttemptState.FAILED, AttemptState.KILLED, AttemptState.LOST})
_ATTEMPT_ORDER = [
    AttemptState.CREATED,
    AttemptState.STAGING,
    AttemptState.SUBMITTED,
    AttemptState.RUNNING,
    AttemptState.COLLECTING,
]
_JOB_OF_ATTEMPT = {
    AttemptState.CREATED: JobState.STAGING,
    AttemptState.STAGING: JobState.STAGING,
    AttemptState.SUBMITTED: JobState.PENDING,
    AttemptState.RUNNING: JobState.RUNNING,
    AttemptState.COLLECTING: JobState.COLLECTING,
    AttemptState.COMPLETED: JobState.COMPLETED,
    AttemptState.FAILED: JobState.FAILED,
    AttemptState.KILLED: JobState.KILLED,
    AttemptState.LOST: JobState.QUEUED,
}

# From a state to the states that may follow. A job goes back to QUEUED only when an attempt ended and the
# retry policy, or a person, asks for another.
JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.STAGING, JobState.PENDING, JobState.FAILED, JobState.KILLED}),
    JobState.STAGING: frozenset(set(JobState) - {JobState.STAGING}),
    JobState.PENDING: frozenset(set(JobState) - {JobState.STAGING, JobState.PENDING}),
    JobState.RUNNING: frozenset(
        {JobState.COLLECTING, JobState.COMPLETED, JobState.FAILED, JobState.KILLED, JobState.QUEUED}
    ),
    JobState.COLLECTING: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.KILLED, JobState.QUEUED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.KILLED: frozenset({JobState.QUEUED}),
}


def attempt_may_go(before: AttemptState, after: AttemptState) -> bool:
    """Whether an attempt may go from ``before`` to ``after``: forwards only, and nothing follows an end."""
    return not before.ended and after.rank > before.rank


def check_job(before: JobState, after: JobState, job: object = "job") -> None:
    """Raise Conflict unless a job may go from ``before`` to ``after``."""
    if after not in JOB_TRANSITIONS[before]:
        raise Conflict(f"{job} is {before.value}: it can't become {after.value}.", hint=before.meaning)
