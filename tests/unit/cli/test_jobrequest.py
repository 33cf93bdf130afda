"""From the options of `isthmus run` to a request."""

from typing import Any

import pytest

from isthmus.cli import jobrequest
from isthmus.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x=prices", {"path": "x", "dataset": "prices"}),
        ("x=prices@2", {"path": "x", "dataset": "prices@2"}),
        ("in/model=17:out/model.pt", {"path": "in/model", "job": 17, "output": "out/model.pt"}),
    ],
)
def test_inputs(text: str, read: dict[str, Any]) -> None:
    assert jobrequest._input(text) == read


def test_outputs() -> None:
    assert jobrequest._output("model.pt") == {"path": "model.pt"}
    assert jobrequest._output("model.pt=models") == {"path": "model.pt", "dataset": "models"}


def test_dependencies() -> None:
    assert jobrequest._after("3") == {"job": 3}
    assert jobrequest._after("3:failed") == {"job": 3, "on": "failed"}
    with pytest.raises(Invalid, match="'x' is not a whole number"):
        jobrequest._after("x")


def test_retries() -> None:
    assert jobrequest._retry("5") == {"attempts": 5}
    assert jobrequest._retry("5:oom, timeout") == {"attempts": 5, "on": ["OOM", "TIMEOUT"]}


def test_arrays(tmp_path: Any) -> None:
    assert jobrequest._array("10") == {"size": 10}
    (tmp_path / "p.yaml").write_text("- {lr: 0.1}\n")
    assert jobrequest._array(str(tmp_path / "p.yaml")) == {"parameters": [{"lr": 0.1}]}
    (tmp_path / "q.yaml").write_text("lr: 0.1\n")
    with pytest.raises(Invalid, match="holds no list of parameters"):
        jobrequest._array(str(tmp_path / "q.yaml"))


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "own")
    assert jobrequest._variable("MINE") == ("MINE", "own")
    assert jobrequest._variable("A=b=c") == ("A", "b=c")
    with pytest.raises(Invalid, match="There is no 'NOT_MINE' in your environment"):
        jobrequest._variable("NOT_MINE")


def test_deadlines() -> None:
    assert jobrequest._moment("2030-01-31T12:00:00Z") == "2030-01-31T12:00:00Z"
    assert jobrequest._moment("6h") > jobrequest._moment("5h")
