"""What was learnt, in numbers and sentences. Owns the layout of metrics.json and its reading aloud."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.forecast import scores
from examples.forecast.features import Target
from examples.forecast.prices import Floats

Json = dict[str, Any]


def kept_apart(dates: NDArray[np.datetime64], holdout: np.datetime64) -> NDArray[np.bool_]:
    """Which of the days forecast are kept apart: those from ``holdout`` on. Raises ValueError if all are, or none."""
    apart = dates >= holdout
    if apart.all() or not apart.any():
        raise ValueError(f"no days on one side of the holdout {holdout}: choose one from {dates[1]} to {dates[-1]}")
    return np.asarray(apart)


def periods(
    target: Target, forecasts: Floats, rows: slice, dates: NDArray[np.datetime64], holdout: np.datetime64
) -> dict[str, Json]:
    """The scores of the forecasts made at ``rows``: in all, in the years to choose by, and in those kept apart."""
    days = slice(rows.start + 1, rows.stop + 1)  # what is forecast at a row is the day after it
    apart = kept_apart(dates[days], holdout)
    which = {"all": np.ones(len(forecasts), bool), "selection": ~apart, "holdout": apart}
    return {name: _period(target, forecasts, rows, days, dates, chosen) for name, chosen in which.items()}


def _period(
    target: Target,
    forecasts: Floats,
    rows: slice,
    days: slice,
    dates: NDArray[np.datetime64],
    chosen: NDArray[np.bool_],
) -> Json:
    actual, forecast = target.actual[days][chosen], forecasts[chosen]
    out: Json = {
        "first": str(dates[days][chosen][0]),
        "last": str(dates[days][chosen][-1]),
        "days": len(actual),
        "mae": float(np.abs(forecast - actual).mean()),
        "against": {
            name: asdict(scores.compare(forecast, naive[rows][chosen], actual)) for name, naive in target.naive.items()
        },
    }
    if target.name == "return":
        out["direction"] = asdict(scores.direction(forecast, actual))
    return out


def sentences(metrics: Json) -> list[str]:
    """What the years kept apart say, in plain words."""
    held = metrics["periods"]["holdout"]
    lines = [
        f"{held['days']:,} days kept apart, {held['first']} to {held['last']}, each forecast at the close before: "
        f"mean absolute error {held['mae']:.2f} {metrics['unit']}."
    ]
    lines += [f"  {against(name, skill)}" for name, skill in held["against"].items()]
    if "direction" in held:
        lines.append(f"  {_of_direction(held['direction'])}")
    return lines


def against(name: str, skill: Json) -> str:
    """One comparison as a sentence: the skill, its interval by the bootstrap, p by Diebold and Mariano, the verdict."""
    size = f"{abs(skill['skill']):.1%} {'better' if skill['skill'] >= 0 else 'worse'}"
    interval = f"95% interval {skill['low']:+.1%} to {skill['high']:+.1%}"
    p_value = "p < 0.001" if skill["p_value"] < 0.001 else f"p = {skill['p_value']:.2g}"
    # Both must agree before we call it a difference.
    sure = skill["p_value"] < 0.05 and (skill["low"] > 0 or skill["high"] < 0)
    verdict = "" if sure else ": no difference that we could tell from chance"
    return f"against '{name}' ({skill['mae']:.2f}): {size}, {interval}, {p_value}{verdict}"


def _of_direction(direction: Json) -> str:
    constant = "up" if direction["rose"] >= 0.5 else "down"
    always = max(direction["rose"], 1 - direction["rose"])
    better = "better than that" if direction["low"] > always else "no better than that"
    return (
        f"direction right on {direction['right']:.1%} of days (95% interval {direction['low']:.1%} to "
        f"{direction['high']:.1%}); always saying '{constant}' is right on {always:.1%}: {better}"
    )
