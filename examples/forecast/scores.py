"""How good forecasts are, and how sure we may be of that. Pure; chance comes from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from examples.forecast.prices import Floats

BLOCK = 22  # days that the bootstrap keeps together: losses of a month belong to each other


@dataclass(frozen=True)
class Skill:
    """A forecast against another one on the same days: skill = 1 - MAE / MAE of the other.

    ``low`` to ``high`` is the 95% interval by a block bootstrap. ``p_value`` is of the Diebold-Mariano test that
    both are equally good (two-sided).
    """

    mae: float
    skill: float
    low: float
    high: float
    dm: float
    p_value: float


def compare(forecast: Floats, naive: Floats, actual: Floats, *, seed: int = 0) -> Skill:
    """The skill of ``forecast`` against ``naive``; ``mae`` is the naive one's."""
    loss, naive_loss = np.abs(forecast - actual), np.abs(naive - actual)
    low, high = bootstrap(loss, naive_loss, seed=seed)
    dm, p_value = diebold_mariano(loss, naive_loss)
    skill = 1 - loss.mean() / naive_loss.mean()
    return Skill(float(naive_loss.mean()), float(skill), low, high, dm, p_value)


def diebold_mariano(loss: Floats, other: Floats) -> tuple[float, float]:
    """The statistic and two-sided p-value for equal accuracy; negative says that ``loss`` is the smaller.

    Diebold and Mariano 1995, "Comparing predictive accuracy", with the variance of the mean by Newey and West
    1987 (Bartlett weights, n^(1/3) lags), since the losses of days near to each other go together.
    """
    difference = loss - other
    n = len(difference)
    centred = difference - difference.mean()
    variance = float(centred @ centred) / n
    lags = math.floor(n ** (1 / 3))
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if variance <= 0:  # the losses are the same on all days
        return 0.0, 1.0
    statistic = float(difference.mean()) / math.sqrt(variance / n)
    return statistic, math.erfc(abs(statistic) / math.sqrt(2))


def bootstrap(
    loss: Floats, naive_loss: Floats, *, seed: int, draws: int = 2000, block: int = BLOCK
) -> tuple[float, float]:
    """The 95% interval of the skill by a circular block bootstrap (Politis and Romano 1992)."""
    n = len(loss)
    block = min(block, n)
    starts = np.random.default_rng(seed).integers(0, n, size=(draws, math.ceil(n / block)))
    mean, naive_mean = (_block_sums(values, block)[starts].sum(axis=1) for values in (loss, naive_loss))
    low, high = np.quantile(1 - mean / naive_mean, [0.025, 0.975])
    return float(low), float(high)


def _block_sums(values: Floats, block: int) -> Floats:
    """The sum of the ``block`` values from each place on, going round at the end."""
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[: block - 1]]))])
    return np.asarray(sums[block:] - sums[:-block])


@dataclass(frozen=True)
class Direction:
    """How often the sign was right, with Wilson's 95% interval, beside the share of days that rose."""

    right: float
    low: float
    high: float
    rose: float


def direction(forecast: Floats, actual: Floats) -> Direction:
    """How often ``forecast`` has the sign of ``actual``. Days without a change are left out."""
    moved = actual != 0
    right = (forecast[moved] > 0) == (actual[moved] > 0)
    n, share, z = int(moved.sum()), float(right.mean()), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Direction(share, middle - half, middle + half, float((actual[moved] > 0).mean()))
