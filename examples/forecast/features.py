"""What is known at the close of a day, and what is to be forecast of the next. Pure: arrays in, arrays out.

Row `t` of everything here stands for the close of day `t`; it may be computed from days up to `t` and no later one.
That is the rule which makes the evaluation honest, and tests change the future to see that nothing before it moves.

Volatility of a day is measured by its range (Parkinson 1980, "The extreme value method for estimating the variance
of the rate of return"): sigma^2 = ln(high/low)^2 / (4 ln 2), here annualised and in percent. The features are those
of the HAR model (Corsi 2009, "A simple approximate long-memory model of realized volatility"): yesterday's, the week's
and the month's log volatility, with the falls of the index (the leverage effect), the size of its last move, and
the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from examples.forecast.prices import Floats, Prices

WEEK, MONTH, QUARTER, YEAR = 5, 22, 66, 252
RISKMETRICS = 0.94  # the decay that the RiskMetrics technical document (1996) uses for daily data

# Rows before this lack the quarter that the features look back on, or the longest lag.
WARM_UP = QUARTER + 24
MAX_LAGS = 22

TargetName = Literal["volatility", "return"]


@dataclass(frozen=True)
class Target:
    """What is forecast: the same quantity as people read it and as the models learn it.

    ``actual[t]`` is the value of day t. A model that sees row t of the features learns ``learn[t]``, which tells of
    day t+1; ``restore(prediction, t)`` makes a forecast of it. ``naive[name][t]`` is what a simple rule
    forecasts for day t+1 at the close of day t; the first is the one that skill is measured against.
    """

    name: TargetName
    unit: str
    actual: Floats
    learn: Floats
    centre: Floats
    scale: Floats
    logarithmic: bool
    naive: dict[str, Floats]

    def restore(self, prediction: Floats, rows: slice) -> Floats:
        """Forecasts in ``unit`` for the days after ``rows``.

        From a logarithm this gives the median, which is the forecast that the mean absolute error asks for.
        """
        value = self.centre[rows] + self.scale[rows] * prediction
        return np.asarray(np.exp(value) if self.logarithmic else value)


def volatility(prices: Prices) -> Floats:
    """Each day's volatility by Parkinson's range estimator, in percent a year."""
    return np.asarray(100 * np.sqrt(YEAR / (4 * np.log(2))) * np.log(prices.high / prices.low))


def returns(prices: Prices) -> Floats:
    """Each day's log return from close to close, in percent; 0 on the first."""
    return np.concatenate([[0.0], 100 * np.diff(np.log(prices.close))])


def trailing_mean(values: Floats, days: int) -> Floats:
    """The mean of the last ``days`` values at each row; NaN where there are fewer."""
    out = np.full(len(values), np.nan)
    out[days - 1 :] = np.lib.stride_tricks.sliding_window_view(values, days).mean(axis=1)
    return out


def lagged(values: Floats, days: int) -> Floats:
    """The value of ``days`` days before at each row; NaN where there is none."""
    return np.concatenate([np.full(days, np.nan), values[: len(values) - days]])


def smoothed(values: Floats, decay: float) -> Floats:
    """The exponentially weighted mean of the values up to each row."""
    out = np.empty(len(values))
    level = values[0]
    for t, value in enumerate(values):
        level = decay * level + (1 - decay) * value
        out[t] = level
    return out


def features(prices: Prices, lags: int) -> Floats:
    """One row a day, one column a feature. Rows before WARM_UP hold NaN.

    Most are relative to the month's level, so that a calm year and a crisis look alike to the models.
    """
    if not 1 <= lags <= MAX_LAGS:
        raise ValueError(f"lags is {lags}: it must be from 1 to {MAX_LAGS}")
    log_vol = np.log(volatility(prices))
    month = trailing_mean(log_vol, MONTH)
    daily = np.exp(month) / np.sqrt(YEAR)  # the month's volatility, in percent a day
    moves = returns(prices)
    falls = np.minimum(moves, 0)
    volume = np.log(prices.volume)
    columns = [
        month,
        month - trailing_mean(log_vol, QUARTER),
        trailing_mean(log_vol, WEEK) - month,
        *(lagged(log_vol, days) - month for days in range(lags)),
        *(trailing_mean(falls, days) / daily for days in (1, WEEK, MONTH)),
        np.abs(moves) / daily,
        # Volatility from close to close, beside that from the range: the two differ when the market gaps.
        0.5 * np.log(trailing_mean(moves**2, MONTH) * YEAR) - month,
        volume - trailing_mean(volume, MONTH),
    ]
    return np.column_stack(columns)


def target(prices: Prices, name: TargetName) -> Target:
    """What is to be forecast, with the naive forecasts of it."""
    vol = volatility(prices)
    log_vol = np.log(vol)
    month = trailing_mean(log_vol, MONTH)
    if name == "volatility":
        return Target(
            name=name,
            unit="% a year",
            actual=vol,
            learn=_tomorrow(log_vol) - month,
            centre=month,
            scale=np.ones(len(vol)),
            logarithmic=True,
            naive={
                "today": vol,
                "month's mean": trailing_mean(vol, MONTH),
                "RiskMetrics": smoothed(vol, RISKMETRICS),
            },
        )
    moves = returns(prices)
    scale = np.exp(month) / np.sqrt(YEAR)
    past_mean = np.cumsum(moves) / np.maximum(np.arange(len(moves)), 1)
    return Target(
        name=name,
        unit="% a day",
        actual=moves,
        learn=_tomorrow(moves) / scale,
        centre=np.zeros(len(moves)),
        scale=scale,
        logarithmic=False,
        naive={"mean so far": past_mean, "no change": np.zeros(len(moves))},
    )


def _tomorrow(values: Floats) -> Floats:
    return np.concatenate([values[1:], [np.nan]])
