"""The walk forward: fit on the past, forecast the next days, move on. Owns the order of time, and the checkpoint.

       |------ window: fitted on ------|-- refit days: forecast, one day ahead each --|
                                       ^ block's first row: its features are known, its target is not

A model fitted at row `b` has seen targets up to `learn[b - 1]`, which is the value of day `b`: known at its close.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.forecast.features import WARM_UP, Target
from examples.forecast.prices import Floats


@dataclass(frozen=True)
class Plan:
    """Which rows are forecast, and from how much of the past. Rows and windows are trading days."""

    first: int  # the first row that a forecast is made at
    last: int  # one past the last
    window: int  # rows to fit on; 0: all there are
    refit: int  # forecasts made by one fit

    def __post_init__(self) -> None:
        if self.refit < 1:
            raise ValueError(f"refit is {self.refit}: it must be 1 or more")
        if self.window and self.window < 100:
            raise ValueError(f"window is {self.window}: fit on 100 days or more, or 0 for all the past")
        if not WARM_UP + 100 <= self.first < self.last:
            raise ValueError(
                f"the first forecast is at row {self.first} of {self.last}: it needs {WARM_UP + 100} rows before it"
            )

    def blocks(self, done: int = 0) -> Iterator[slice]:
        """The blocks of rows still to be forecast when ``done`` of them are."""
        for begin in range(self.first + done, self.last, self.refit):
            yield slice(begin, min(begin + self.refit, self.last))

    def past(self, begin: int) -> slice:
        """The rows to fit on for a block that begins there."""
        return slice(max(WARM_UP, begin - self.window) if self.window else WARM_UP, begin)


@dataclass
class Walk:
    """A walk under way: ``forecasts[i]`` was made at row ``plan.first + i`` for the day after it."""

    plan: Plan
    forecasts: Floats
    model: Any = None  # the last one fitted

    @property
    def done(self) -> int:
        return len(self.forecasts)

    @property
    def total(self) -> int:
        return self.plan.last - self.plan.first


def forward(walk: Walk, rows: Floats, target: Target, make: Callable[[], Any]) -> Iterator[slice]:
    """Forecast block after block, adding to ``walk``; after each, give the rows that it forecast."""
    for block in walk.plan.blocks(walk.done):
        walk.model = fit(make(), rows, target, walk.plan.past(block.start))
        made = target.restore(np.asarray(walk.model.predict(rows[block]), dtype=float), block)
        walk.forecasts = np.concatenate([walk.forecasts, made])
        yield block


def fit(model: Any, rows: Floats, target: Target, past: slice) -> Any:
    """The model, fitted on those rows."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # see models.py: the nets stop early on purpose
        return model.fit(rows[past], target.learn[past])


class Checkpoint:
    """The forecasts made so far, in a folder that outlives the attempt. ``identity`` says what they depend on."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.path = folder / "walk.json"
        self.identity = identity

    def load(self, plan: Plan) -> Walk:
        """The walk where it was left; a new one if there is none, or it was another walk's."""
        try:
            kept = json.loads(self.path.read_text())
            if kept["identity"] != self._identity(plan):
                return Walk(plan, np.empty(0))
            # hex() keeps every bit: a resumed walk gives the very forecasts of one that was not stopped.
            return Walk(plan, np.array([float.fromhex(text) for text in kept["forecasts"]], dtype=float))
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return Walk(plan, np.empty(0))

    def save(self, walk: Walk) -> None:
        """Keep the walk. A crash at any moment leaves the last one or this one, whole."""
        kept = {
            "identity": self._identity(walk.plan),
            "forecasts": [float(value).hex() for value in walk.forecasts],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        with beside.open("w") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)

    def _identity(self, plan: Plan) -> dict[str, Any]:
        return {**self.identity, "plan": asdict(plan)}
