"""The training program as a job runs it: in a folder, as a process, with its reports, its checkpoint and signals."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from examples.forecast import features, prices, summary
from examples.forecast import train as program
from examples.forecast.prices import Prices
from tests.testbed.waiting import wait_for

REPOSITORY = Path(__file__).parents[3]
# 34 fits of the last three years: long enough to be stopped on the way, short enough for a test.
SHORT = ("--first", "2016-01-04", "--holdout", "2017-06-01", "--window", "500")


@pytest.fixture
def folder(real: Prices, tmp_path: Path) -> Path:
    prices.write(real, tmp_path / "sp500.csv")
    return tmp_path


def start(folder: Path, *argv: str) -> "subprocess.Popen[str]":
    env = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "ISTHMUS_REPORT": str(folder / "report"),
        "ISTHMUS_CHECKPOINT": str(folder / "checkpoint"),
    }
    command = [sys.executable, "-m", "examples.forecast.train", "sp500.csv", *argv]
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def train(folder: Path, *argv: str) -> tuple[int, str, str]:
    process = start(folder, *argv)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def reports(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "report").read_text().splitlines()]


def test_a_run_leaves_what_it_says(folder: Path, real: Prices) -> None:
    code, out, error = train(folder)
    assert (code, error) == (0, "")
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))

    # The predictions are of the real days, and the naive ones what they are called.
    vol = features.volatility(real)
    at = {str(date): i for i, date in enumerate(real.dates)}
    assert len(rows) == 3775
    for row in rows[::50]:
        assert float(row["actual"]) == pytest.approx(vol[at[row["date"]]], abs=1e-5)
        assert float(row["naive: today"]) == pytest.approx(vol[at[row["date"]] - 1], abs=1e-5)
    # The scores follow from the predictions.
    held = [row for row in rows if row["date"] >= "2012-01-01"]
    error_of = {
        name: np.mean([abs(float(row[name]) - float(row["actual"])) for row in held])
        for name in ("forecast", "naive: today")
    }
    scored = metrics["periods"]["holdout"]
    assert scored["mae"] == pytest.approx(error_of["forecast"], abs=1e-5)
    skill = scored["against"]["today"]
    assert skill["mae"] == pytest.approx(error_of["naive: today"], abs=1e-5)
    assert skill["skill"] == pytest.approx(1 - error_of["forecast"] / error_of["naive: today"], abs=1e-5)
    assert metrics["periods"]["all"]["days"] == sum(
        metrics["periods"][name]["days"] for name in ("selection", "holdout")
    )
    # What the documents tell of this model, whatever the versions of the libraries.
    assert 0.20 < skill["low"] < 0.238 < skill["high"] < 0.28
    assert scored["against"]["RiskMetrics"]["low"] > 0.10

    # The kept model makes the forecast that the metrics name.
    kept = joblib.load(folder / "model.joblib")
    goal = features.target(real, "volatility")
    last = slice(len(real) - 1, len(real))
    predicted = kept["estimator"].predict(features.features(real, kept["lags"])[last])
    assert goal.restore(predicted, last)[0] == pytest.approx(metrics["next"]["forecast"])
    assert out.splitlines()[1:] == summary.sentences(metrics)


def test_it_reports_how_far_and_how_good_it_is(folder: Path) -> None:
    assert train(folder, *SHORT)[0] == 0
    lines = reports(folder)
    *walked, final = lines
    total = walked[-1]["step"]
    assert [line["progress"] for line in walked] == [[line["step"], total] for line in walked]
    assert [line["step"] for line in walked] == [*range(22, total, 22), total]
    for line in walked:
        assert line["skill"] == pytest.approx(1 - line["mae"] / line["naive_mae"])
    assert 2016 < walked[0]["year"] < walked[-1]["year"] < 2019
    scored = json.loads((folder / "metrics.json").read_text())["periods"]
    assert walked[-1]["mae"] == pytest.approx(scored["all"]["mae"])
    assert final["holdout_skill"] == scored["holdout"]["against"]["today"]["skill"]


def settled(folder: Path) -> dict:
    """The metrics without what differs from run to run."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name not in ("seconds", "resumed_from")}


def test_stopped_and_resumed_it_comes_to_the_same(folder: Path) -> None:
    argv = (*SHORT, "--model", "boosting")
    process = start(folder, *argv)
    wait_for((folder / "report").exists, "the first report")
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (-signal.SIGTERM, "")
    assert "stopped after" in out
    assert not (folder / "metrics.json").exists()
    done = reports(folder)[-1]["step"]

    code, out, error = train(folder, *argv)
    assert (code, error) == (0, "")
    assert f"going on after {done}" in out
    assert json.loads((folder / "metrics.json").read_text())["resumed_from"] == done
    # No day is forecast twice: the steps go on where they were.
    steps = [line["step"] for line in reports(folder)[:-1]]
    assert steps == sorted(set(steps))
    resumed, predictions = settled(folder), (folder / "predictions.csv").read_bytes()

    (folder / "checkpoint" / "walk.json").unlink()
    assert train(folder, *argv)[0] == 0
    assert settled(folder) == resumed
    assert (folder / "predictions.csv").read_bytes() == predictions


def test_returns_are_told_with_their_direction(folder: Path) -> None:
    code, out, error = train(folder, "--target", "return")
    assert (code, error) == (0, "")
    scored = json.loads((folder / "metrics.json").read_text())["periods"]["holdout"]
    # What the documents tell: no better than the mean so far, and than always saying up.
    assert scored["against"]["mean so far"]["skill"] < 0.01
    assert scored["direction"]["low"] < scored["direction"]["rose"]
    assert "no better than that" in out


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("--window", "50"), "window is 50"),
        (("--lags", "40"), "lags is 40"),
        (("--first", "1999-02-01"), "rows before it"),
        (("--first", "2040-01-01"), "first forecast is at row"),
        (("--holdout", "2030-01-01"), "one side of the holdout 2030-01-01"),
        (("--first", "soon"), "soon"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(
    folder: Path, argv: tuple[str, ...], why: str, here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["sp500.csv", *argv]) == 2
    told = capsys.readouterr()
    assert why in told.err
    assert told.err.startswith("train: ") and told.err.count("\n") == 1
    assert told.out == ""
    assert [path.name for path in folder.iterdir()] == ["sp500.csv"]


def test_a_file_that_is_not_there_is_named(folder: Path, here: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["sp501.csv"]) == 2
    assert "sp501.csv" in capsys.readouterr().err


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program runs in this process, in the folder; its handler of SIGTERM goes with it."""
    monkeypatch.chdir(folder)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
