"""From an ended job to an exit code."""

import pytest

from isthmus.cli import endings
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.views import AttemptView, JobView


class Attempts:
    """The `jobs` of a client, as far as an exit code needs it."""

    def __init__(self, signal: int) -> None:
        self.jobs = self
        self.signal = signal

    async def attempts(self, job: int) -> list[AttemptView]:
        return [
            AttemptView(key="k", job=job, number=1, site="s", state=AttemptState.FAILED, signal=self.signal or None)
        ]


@pytest.mark.parametrize(
    ("state", "reason", "exit_code", "signal", "code"),
    [
        (JobState.COMPLETED, Reason.NONE, 0, 0, 0),
        (JobState.FAILED, Reason.EXIT_CODE, 3, 0, 3),
        (JobState.FAILED, Reason.SIGNAL, None, 11, 139),
        (JobState.FAILED, Reason.TIMEOUT, None, 15, 124),
        (JobState.FAILED, Reason.OOM, None, 9, 137),
        (JobState.KILLED, Reason.KILLED, None, 15, 143),
        (JobState.FAILED, Reason.STAGE, None, 0, 125),
        (JobState.FAILED, Reason.OUTPUT, 0, 0, 125),
    ],
)
async def test_exit_codes(state: JobState, reason: Reason, exit_code: int | None, signal: int, code: int) -> None:
    job = JobView(id=1, state=state, reason=reason, exit_code=exit_code)
    assert await endings.code_of(Attempts(signal), job) == code  # type: ignore[arg-type]
