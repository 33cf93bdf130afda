"""Train a forecaster of the index and evaluate it by walking forward: the program that runs as a job.

    python -m examples.forecast.train sp500.csv --model ridge --window 1000 --lags 5

Writes metrics.json, predictions.csv and model.joblib into the folder that it runs in. Reports its metrics live
(`isthmus.report`). Keeps what it has done in $ISTHMUS_CHECKPOINT, goes on from there, and on SIGTERM saves first:
a run that was stopped and resumed gives the same numbers as one that was not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

import isthmus
from examples.forecast import models, prices, summary
from examples.forecast.features import Target, features, target
from examples.forecast.walk import Checkpoint, Plan, Walk, fit, forward

SAVE_EVERY_S = 1.0


class Stop:
    """Whether we were asked to stop. The walk looks at it between two fits, so that nothing is left half done."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def leave(self) -> None:
        """End this process by SIGTERM's own way, so that whoever started us sees what happened."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="the CSV file of daily prices (see prepare.py)")
    parser.add_argument("--target", choices=("volatility", "return"), default="volatility")
    parser.add_argument("--model", choices=models.NAMES, default="ridge")
    parser.add_argument("--window", type=int, default=1000, help="trading days to fit on; 0: all the past")
    parser.add_argument("--lags", type=int, default=5, help="daily values of volatility among the features")
    parser.add_argument("--alpha", type=float, default=10.0, help="weight of the L2 penalty")
    parser.add_argument("--refit", type=int, default=22, help="trading days forecast by one fit")
    parser.add_argument("--first", default="2004-01-02", help="the first day that is forecast")
    parser.add_argument("--holdout", default="2012-01-01", help="the first day kept apart from choosing")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    stop = Stop()
    stop.listen()
    try:
        # One core is what the job asks for: more threads would only take turns on it.
        with threadpool_limits(1):
            return train(args, stop)
    except (OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2


def train(args: argparse.Namespace, stop: Stop) -> int:
    """One run. Returns the exit code."""
    started = time.monotonic()
    table = prices.read(args.data)
    digest = prices.digest(args.data)
    rows, goal = features(table, args.lags), target(table, args.target)
    # The day `first` is forecast at the row before it; the last row has no day after it to be judged by.
    first = int(np.searchsorted(table.dates, np.datetime64(args.first))) - 1
    plan = Plan(first=first, last=len(table) - 1, window=args.window, refit=args.refit)
    made, holdout = slice(plan.first, plan.last), np.datetime64(args.holdout)
    summary.kept_apart(table.dates[plan.first + 1 :], holdout)  # refused now, not after the work

    settings = {name: getattr(args, name) for name in ("target", "model", "lags", "alpha", "seed")}
    checkpoint = None
    walk = Walk(plan, np.empty(0))
    if folder := os.environ.get("ISTHMUS_CHECKPOINT"):
        checkpoint = Checkpoint(Path(folder), {**settings, "data": digest})
        walk = checkpoint.load(plan)
    resumed_from = walk.done
    print(
        f"{args.target} by {args.model}: {walk.total:,} days to forecast, {table.dates[plan.first + 1]} to "
        f"{table.dates[-1]}" + (f"; going on after {resumed_from:,}" if resumed_from else ""),
        flush=True,
    )

    saved = started
    for block in forward(walk, rows, goal, lambda: _model(args)):
        tell(walk, goal, block, table.dates)
        if checkpoint and (stop.asked or time.monotonic() - saved >= SAVE_EVERY_S):
            checkpoint.save(walk)
            saved = time.monotonic()
        if stop.asked:
            print(f"stopped after {walk.done:,} of {walk.total:,} days", flush=True)
            stop.leave()
            return 143
    if checkpoint:
        checkpoint.save(walk)

    final = fit(_model(args), rows, goal, plan.past(len(table) - 1))
    ahead = slice(len(table) - 1, len(table))
    metrics = {
        **settings,
        "window": plan.window,
        "refit": plan.refit,
        "unit": goal.unit,
        "data": {
            "digest": digest,
            "days": len(table),
            "first": str(table.dates[0]),
            "last": str(table.dates[-1]),
        },
        "periods": summary.periods(goal, walk.forecasts, made, table.dates, holdout),
        "next": {
            "after": str(table.dates[-1]),
            "forecast": float(goal.restore(final.predict(rows[ahead]), ahead)[0]),
        },
        "resumed_from": resumed_from,
        "seconds": round(time.monotonic() - started, 2),
    }
    Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    write_predictions(Path("predictions.csv"), walk, goal, table.dates)
    joblib.dump({"estimator": final, **settings, "fitted_to": str(table.dates[-1])}, "model.joblib")

    held = metrics["periods"]["holdout"]
    skill = next(iter(held["against"].values()))
    isthmus.report(
        step=walk.done,
        holdout_mae=held["mae"],
        holdout_skill=skill["skill"],
        holdout_skill_low=skill["low"],
        holdout_skill_high=skill["high"],
    )
    print("\n".join(summary.sentences(metrics)), flush=True)
    return 0


def _model(args: argparse.Namespace) -> object:
    return models.build(args.model, alpha=args.alpha, seed=args.seed)


def tell(walk: Walk, goal: Target, block: slice, dates: np.ndarray) -> None:
    """Report how far the walk is and how good it was so far, against the first naive forecast."""
    first, here = walk.plan.first, block.stop
    actual = goal.actual[first + 1 : here + 1]
    naive = next(iter(goal.naive.values()))[first:here]
    mae, naive_mae = (float(np.abs(guess - actual).mean()) for guess in (walk.forecasts, naive))
    last = dates[here]
    year = last.astype("datetime64[Y]")
    isthmus.report(
        step=walk.done,
        progress=(walk.done, walk.total),
        mae=mae,
        naive_mae=naive_mae,
        skill=1 - mae / naive_mae,
        # The means of the days just forecast: enough to draw the walk while it goes on.
        year=1970 + int(year.astype(int)) + int((last - year).astype(int)) / 366,
        actual=float(goal.actual[block.start + 1 : here + 1].mean()),
        forecast=float(walk.forecasts[block.start - first :].mean()),
    )


def write_predictions(path: Path, walk: Walk, goal: Target, dates: np.ndarray) -> None:
    """One line a day forecast: what was forecast at the close before it, what came, what the naive rules said."""
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["date", "actual", "forecast", *(f"naive: {name}" for name in goal.naive)])
        for i, made in enumerate(walk.forecasts):
            row = walk.plan.first + i
            values = (goal.actual[row + 1], made, *(naive[row] for naive in goal.naive.values()))
            out.writerow([str(dates[row + 1]), *(f"{value:.6f}" for value in values)])


if __name__ == "__main__":
    sys.exit(main())
