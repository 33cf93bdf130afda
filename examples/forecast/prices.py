"""Daily prices of an index: reading and writing them as CSV. Owns the file's format, and no statistics."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMNS = ("date", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Prices:
    """One row a trading day, oldest first. The arrays have the same length; ``dates`` are datetime64[D]."""

    dates: NDArray[np.datetime64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.dates)


def read(path: Path) -> Prices:
    """The prices in a CSV file. Raises ValueError, naming the line, where it is not what we expect."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = tuple(next(rows, ()))
        if header != COLUMNS:
            raise ValueError(f"{path}:1: expected the columns {', '.join(COLUMNS)}, found {', '.join(header)}")
        dates: list[np.datetime64] = []
        numbers: list[list[float]] = []
        for row in rows:
            try:
                dates.append(np.datetime64(row[0], "D"))
                numbers.append([float(text) for text in row[1:]])
                if len(row) != len(COLUMNS):
                    raise ValueError(f"{len(row)} columns instead of {len(COLUMNS)}")
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}:{rows.line_num}: {error}") from error
    if not dates:
        raise ValueError(f"{path}: no prices below the header")
    prices = Prices(np.array(dates), *np.array(numbers).T)
    _check(prices, path)
    return prices


def _check(prices: Prices, path: Path) -> None:
    wrong = {
        "the date is not after the one before": np.r_[False, prices.dates[1:] <= prices.dates[:-1]],
        "a price or the volume is not above zero": ~(
            (prices.low > 0) & (prices.open > 0) & (prices.close > 0) & (prices.volume > 0)
        ),
        # Strictly: a range of zero has no logarithm, and no day of an index has one.
        "the high is not above the low": ~(prices.high > prices.low),
    }
    for why, rows in wrong.items():
        if rows.any():
            raise ValueError(f"{path}:{int(np.argmax(rows)) + 2}: {why}")


def write(prices: Prices, path: Path) -> None:
    """Write the prices as CSV. The same prices give the same bytes, whatever the machine."""
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        for i, date in enumerate(prices.dates):
            four = (prices.open[i], prices.high[i], prices.low[i], prices.close[i])
            out.writerow([str(date), *(f"{price:.6f}" for price in four), f"{prices.volume[i]:.0f}"])


def digest(path: Path) -> str:
    """``sha256:<hex>`` of the file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
