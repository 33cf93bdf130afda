"""Write the S&P 500's daily prices, 1999 to 2018, to a CSV file: `python -m examples.forecast.prepare FILE`.

The numbers come with the PyPI package `arch` (open, high, low, close, volume of 5,031 trading days), so nothing is
downloaded. Until 2006 the open is the close of the day before on most days, as is usual for an index of that time:
the forecaster therefore reads the high, the low, the close and the volume, and never the open.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from examples.forecast import prices


def load() -> prices.Prices:
    """The prices that ship with `arch`."""
    from arch.data import sp500

    table = sp500.load()
    columns = (table[name].to_numpy(float) for name in ("Open", "High", "Low", "Close", "Volume"))
    return prices.Prices(table.index.to_numpy().astype("datetime64[D]"), *columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="the CSV file to write")
    path: Path = parser.parse_args().file
    table = load()
    path.parent.mkdir(parents=True, exist_ok=True)
    prices.write(table, path)
    print(f"{path}: {len(table):,} trading days, {table.dates[0]} to {table.dates[-1]}, {prices.digest(path)}")


if __name__ == "__main__":
    main()
