"""What a job's own code calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.runner.report import report


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_REPORT", str(tmp_path / "metrics"))
    return tmp_path / "metrics"


class Scalar:
    """Like NumPy's and PyTorch's: no int, no float, but it becomes one."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


def test_one_line_for_each_call(lines: Path) -> None:
    report(loss=0.5, step=3)
    report({"val/loss": Scalar(1.5)}, accuracy=True, progress=(3, 10), message="reading")
    report(progress=0.25)
    said = [json.loads(line) for line in lines.read_text().splitlines()]
    for line in said:
        assert line.pop("t") > 1e9
    assert said == [
        {"loss": 0.5, "step": 3},
        {"val/loss": 1.5, "accuracy": 1, "progress": [3, 10], "message": "reading"},
        {"progress": 0.25},
    ]


def test_numbers_for_which_json_has_no_word(lines: Path) -> None:
    report(loss=float("nan"), bound=float("inf"))
    assert '"loss": "nan"' in lines.read_text() and '"bound": "inf"' in lines.read_text()


def test_numpy_scalars(lines: Path) -> None:
    numpy = pytest.importorskip("numpy", reason="an extra of the demo")
    report(loss=numpy.float32(0.5), count=numpy.int64(3))
    assert json.loads(lines.read_text())["loss"] == 0.5 and json.loads(lines.read_text())["count"] == 3


@pytest.mark.parametrize("value", ["0.1", b"1", None, object(), [1, 2]])
def test_what_is_no_number_is_refused(lines: Path, value: object) -> None:
    with pytest.raises(TypeError, match="a metric is a number"):
        report(loss=value)


def test_nothing_happens_outside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_REPORT", raising=False)
    report(loss=1.0)


def test_trouble_with_the_file_is_not_the_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ISTHMUS_REPORT", str(tmp_path / "none" / "metrics"))
    report(loss=1.0)
    monkeypatch.setenv("ISTHMUS_REPORT", "/dev/full")
    report(loss=1.0)


def test_the_package_offers_it(lines: Path) -> None:
    import isthmus

    isthmus.report(loss=2)
    assert json.loads(lines.read_text())["loss"] == 2
