"""How an ended job is told, and the exit code of the command that waited for it.

The exit code is the job's own; where it has none:

    124  it ran longer than its limit        125  it could not be run (no site, staging, submission, outputs)
    137  it used more memory than it asked for, or was killed by SIGKILL      128+N  it was ended by signal N
    143  somebody killed it
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.client import AsyncClient
    from isthmus.domain.views import JobView

TIMED_OUT = 124
NOT_RUN = 125
OUT_OF_MEMORY = 137
KILLED = 143


async def code_of(isthmus: "AsyncClient", job: "JobView") -> int:
    """The exit code of an ended job: see the module."""
    from isthmus.domain.reasons import Reason
    from isthmus.domain.states import JobState

    if job.state is JobState.COMPLETED:
        return 0
    if job.reason is Reason.TIMEOUT:
        return TIMED_OUT
    if job.reason is Reason.OOM:
        return OUT_OF_MEMORY
    if job.state is JobState.KILLED:
        return KILLED
    if job.reason is Reason.SIGNAL:
        attempts = await isthmus.jobs.attempts(job.id)
        if attempts and attempts[-1].signal:
            return 128 + attempts[-1].signal
    if job.reason is Reason.EXIT_CODE and job.exit_code:
        return job.exit_code
    return NOT_RUN


def ended(job: "JobView") -> str:
    """How it ended, in a line."""
    if job.state.value == "COMPLETED":
        return "COMPLETED"
    return f"{job.state.value}: {why(job)}".rstrip(": ")


def why(job: "JobView") -> str:
    """Why it is as it is: the reason's sentence and the message, which says the same of a command's own end."""
    if job.reason.value in ("EXIT_CODE", "SIGNAL") and job.message:
        return job.message
    return " ".join(filter(None, (job.reason.sentence, job.message)))
