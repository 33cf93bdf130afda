"""The real prices, and others made from them: with another future, with their days in another order."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from examples.forecast import prepare
from examples.forecast.prices import Prices


def rebuild(dates: np.ndarray, moves: np.ndarray, ups: np.ndarray, downs: np.ndarray, volume: np.ndarray) -> Prices:
    """Prices of days with these log moves, and highs and lows that far from the close."""
    close = 1000 * np.exp(np.cumsum(moves))
    return Prices(dates, close, close * np.exp(ups), close * np.exp(-downs), close, volume)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a job: more threads than cores that are free only take turns."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def real() -> Prices:
    return prepare.load()


@pytest.fixture(scope="session")
def other_future(real: Prices) -> Callable[[int], Prices]:
    """The real prices up to a row, and from it on days of a wholly different kind."""

    def build(row: int) -> Prices:
        chance = np.random.default_rng(row)

        def changed(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:row], values[row:] * chance.uniform(2, 5, len(values) - row)])

        close = changed(real.close)
        high = np.concatenate([real.high[:row], close[row:] * chance.uniform(1.01, 1.2, len(close) - row)])
        low = np.concatenate([real.low[:row], close[row:] * chance.uniform(0.5, 0.99, len(close) - row)])
        return Prices(real.dates, close, high, low, close, changed(real.volume))

    return build


@pytest.fixture(scope="session")
def shuffled(real: Prices) -> Prices:
    """The real days in a random order: each day as it was, but no day tells of the next."""
    order = np.random.default_rng(7).permutation(len(real))
    moves = np.concatenate([[0.0], np.diff(np.log(real.close))])
    ups, downs = np.log(real.high / real.close), np.log(real.close / real.low)
    return rebuild(real.dates, moves[order], ups[order], downs[order], real.volume[order])
