"""From the options of `isthmus run` to a request, and from an ended job to an exit code."""

from typing import Any

import pytest

from isthmus.cli import run
from isthmus.domain.errors import Invalid
from isthmus.domain.reasons import Reason
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.views import AttemptView, JobView


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x=prices", {"path": "x", "dataset": "prices"}),
        ("x=prices@2", {"path": "x", "dataset": "prices@2"}),
        ("in/model=17:out/model.pt", {"path": "in/model", "job": 17, "output": "out/model.pt"}),
    ],
)
def test_inputs(text: str, read: dict[str, Any]) -> None:
    assert run._input(text) == read


def test_outputs() -> None:
    assert run._output("model.pt") == {"path": "model.pt"}
    assert run._output("model.pt=models") == {"path": "model.pt", "dataset": "models"}


def test_dependencies() -> None:
    assert run._after("3") == {"job": 3}
    assert run._after("3:failed") == {"job": 3, "on": "failed"}
    with pytest.raises(Invalid, match="'x' is not a whole number"):
        run._after("x")


def test_retries() -> None:
    assert run._retry("5") == {"attempts": 5}
    assert run._retry("5:oom, timeout") == {"attempts": 5, "on": ["OOM", "TIMEOUT"]}


def test_arrays(tmp_path: Any) -> None:
    assert run._array("10") == {"size": 10}
    (tmp_path / "p.yaml").write_text("- {lr: 0.1}\n")
    assert run._array(str(tmp_path / "p.yaml")) == {"parameters": [{"lr": 0.1}]}
    (tmp_path / "q.yaml").write_text("lr: 0.1\n")
    with pytest.raises(Invalid, match="holds no list of parameters"):
        run._array(str(tmp_path / "q.yaml"))


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "own")
    assert run._variable("MINE") == ("MINE", "own")
    assert run._variable("A=b=c") == ("A", "b=c")
    with pytest.raises(Invalid, match="There is no 'NOT_MINE' in your environment"):
        run._variable("NOT_MINE")


def test_deadlines() -> None:
    assert run._moment("2030-01-31T12:00:00Z") == "2030-01-31T12:00:00Z"
    assert run._moment("6h") > run._moment("5h")


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
    assert await run.code_of(Attempts(signal), job) == code  # type: ignore[arg-type]
