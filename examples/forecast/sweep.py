"""The sweep: which settings are tried, and what they taught. Pure: job results in, a table and sentences out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.forecast import scores, summary
from examples.forecast.prices import Floats

Json = dict[str, Any]
Settings = dict[str, str | int | float | bool]


def _setting(model: str, window: int, lags: int, target: str = "volatility") -> Settings:
    return {"target": target, "model": model, "window": window, "lags": lags}


# The longest first, so that no core is idle at the end. The last one is the control: can returns be forecast?
GRID: tuple[Settings, ...] = (
    _setting("mlp", 0, 5),
    _setting("mlp", 1000, 5),
    _setting("boosting", 0, 5),
    _setting("boosting", 1000, 5),
    _setting("ridge", 0, 10),
    _setting("ridge", 1000, 5),
    _setting("ridge", 500, 5),
    _setting("ridge", 1000, 5, "return"),
)
REFIT = 44  # days forecast by one fit: half the work of the usual 22, and the same order in the end
PLAIN = _setting("ridge", 1000, 5)  # a linear model of the usual kind: what the others have to beat


@dataclass(frozen=True)
class Result:
    """What one job of the sweep left: its metrics.json, and the days kept apart from its predictions.csv."""

    settings: Settings
    metrics: Json
    dates: tuple[str, ...]
    actual: Floats
    forecast: Floats


def read(settings: Settings, folder: Path, metrics: Json) -> Result:
    """The result in a folder that holds predictions.csv."""
    first = metrics["periods"]["holdout"]["first"]
    with (folder / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["date"] >= first]
    return Result(
        settings,
        metrics,
        tuple(row["date"] for row in rows),
        np.array([float(row["actual"]) for row in rows]),
        np.array([float(row["forecast"]) for row in rows]),
    )


def name(settings: Settings) -> str:
    """The settings in a few words: ``mlp, all the past, 5 lags``."""
    window = f"{settings['window']} days" if settings["window"] else "all the past"
    return f"{settings['model']}, {window}, {settings['lags']} lags"


def ranked(results: Sequence[Result]) -> list[Result]:
    """Those that forecast volatility, the best on the years to choose by first. The years kept apart have no say."""
    found = [result for result in results if result.settings["target"] == "volatility"]
    return sorted(found, key=lambda result: float(result.metrics["periods"]["selection"]["mae"]))


def lessons(results: Sequence[Result]) -> list[str]:
    """What the sweep taught, as paragraphs. Says 'better' only where both tests agree."""
    best = ranked(results)[0]
    chosen, held = (best.metrics["periods"][period] for period in ("selection", "holdout"))
    years = f"{held['first'][:4]}-{held['last'][:4]}"
    told = [
        f"Volatility can be forecast. By the years {chosen['first'][:4]}-{chosen['last'][:4]} we chose "
        f"'{name(best.settings)}'; on {years}, which had no say in that ({held['days']:,} days):\n"
        + "\n".join(f"  {summary.against(rule, skill)}" for rule, skill in held["against"].items())
    ]
    plain = next((result for result in results if result.settings == PLAIN), None)
    if plain is not None and plain is not best:
        told.append(_lead(best, plain, years))
    for result in results:
        if result.settings["target"] == "return":
            told.append("Returns are another matter:\n" + "\n".join(summary.sentences(result.metrics)))
    told.append(
        "Intervals are by a block bootstrap, p by the Diebold-Mariano test; where they disagree we claim nothing. "
        "Mind the limits: one index, one stretch of time, and a day's range as the measure of its volatility. The "
        "features were settled with all of these years in sight; only the settings were not. Nothing here is advice."
    )
    return told


def _lead(best: Result, plain: Result, years: str) -> str:
    """Whether the winner's lead over the plain linear model lasted on the years kept apart."""
    lead = 1 - best.metrics["periods"]["selection"]["mae"] / plain.metrics["periods"]["selection"]["mae"]
    if best.dates != plain.dates:
        raise ValueError("the two were not asked for the same days")
    held = scores.compare(best.forecast, plain.forecast, best.actual)
    sure = held.p_value < 0.05 and (held.low > 0 or held.high < 0)
    if not sure:
        verdict = "no difference that we could tell from chance. The plain model would do"
    elif held.skill > 0:
        verdict = "the lead lasted"
    else:
        verdict = "the lead turned into a loss"
    return (
        f"The winner made {lead:.1%} smaller errors than the plain '{name(plain.settings)}' on the years it was chosen "
        f"by. On {years}: {held.skill:+.1%}, 95% interval {held.low:+.1%} to {held.high:+.1%}, "
        f"p = {held.p_value:.2g}: {verdict}."
    )
