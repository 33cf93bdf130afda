"""Nothing is known before its day: the future is changed, and nothing before it may move.

Each check is also turned on a forecaster that does look ahead, to see that it would be caught.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.forecast import features, models
from examples.forecast.prices import Floats, Prices
from examples.forecast.walk import Plan, Walk, forward

# A stretch short enough for every model, in calm years and in the crisis of 2008.
PLAN = Plan(first=2300, last=2520, window=600, refit=22)
Futures = Callable[[int], Prices]


def cheating(prices: Prices, lags: int) -> Floats:
    """The features, and beside them tomorrow's volatility."""
    tomorrow = np.concatenate([np.log(features.volatility(prices))[1:], [0.0]])
    return np.column_stack([features.features(prices, lags), tomorrow])


def forecasts(
    prices: Prices, plan: Plan, model: models.ModelName = "ridge", make: Callable = features.features
) -> Floats:
    goal = features.target(prices, "volatility")
    walk = Walk(plan, np.empty(0))
    for _ in forward(walk, make(prices, 5), goal, lambda: models.build(model, alpha=10, seed=0)):
        pass
    return walk.forecasts


@settings(max_examples=40, deadline=None)
@given(row=st.integers(features.WARM_UP + 1, 5030), lags=st.integers(1, features.MAX_LAGS))
def test_no_feature_knows_a_later_day(real: Prices, other_future: Futures, row: int, lags: int) -> None:
    changed = other_future(row)
    for before, after in (
        (features.features(real, lags), features.features(changed, lags)),
        *(
            (values, features.target(changed, name).naive[rule])  # type: ignore[arg-type]
            for name in ("volatility", "return")
            for rule, values in features.target(real, name).naive.items()  # type: ignore[arg-type]
        ),
    ):
        np.testing.assert_array_equal(before[:row], after[:row])
        assert not np.array_equal(before[row], after[row]) or not before[row].any()


@pytest.mark.parametrize("name", models.NAMES)
def test_no_forecast_moves_when_the_days_after_it_do(real: Prices, other_future: Futures, name) -> None:
    row = 2400  # within a block of 22: also forecasts of the same fit are looked at
    before, after = forecasts(real, PLAN, name), forecasts(other_future(row), PLAN, name)
    known = row - PLAN.first  # the forecasts made at rows before `row`
    np.testing.assert_array_equal(before[:known], after[:known])
    assert (before[known:] != after[known:]).all()


def test_a_forecaster_that_looks_ahead_is_caught(real: Prices, other_future: Futures) -> None:
    row = 2400
    before, after = forecasts(real, PLAN, make=cheating), forecasts(other_future(row), PLAN, make=cheating)
    known = row - PLAN.first
    assert before[known - 1] != after[known - 1]  # the last forecast before the change saw the day after it


def test_a_fit_sees_no_value_later_than_the_close_it_is_made_at(real: Prices) -> None:
    goal = features.target(real, "volatility")
    seen: list[int] = []

    class Spy:
        def fit(self, rows: Floats, values: Floats) -> "Spy":
            seen.append(int(values[-1]))
            return self

        def predict(self, rows: Floats) -> Floats:
            return np.zeros(len(rows))

    # Each learnt value is replaced by the row of the day that it tells of.
    numbered = replace(goal, learn=np.arange(1.0, len(real) + 1))
    walk = Walk(PLAN, np.empty(0))
    blocks = list(forward(walk, features.features(real, 5), numbered, Spy))
    assert seen == [block.start for block in blocks]


LONG = Plan(first=1260, last=5030, window=1000, refit=22)


def skill_against_a_constant(prices: Prices, make: Callable = features.features) -> float:
    """How much better than forecasting the median of the past window each day."""
    vol = features.volatility(prices)
    constant = np.array([np.median(vol[row - 999 : row + 1]) for row in range(LONG.first, LONG.last)])
    actual = vol[LONG.first + 1 : LONG.last + 1]
    errors = (np.abs(guess - actual).mean() for guess in (forecasts(prices, LONG, make=make), constant))
    ours, theirs = errors
    return 1 - ours / theirs


def test_in_shuffled_days_there_is_nothing_to_forecast(real: Prices, shuffled: Prices) -> None:
    assert skill_against_a_constant(real) > 0.25
    assert skill_against_a_constant(shuffled) < 0.01
    # Had the features a way to the next day, it would show here as well.
    assert skill_against_a_constant(shuffled, cheating) > 0.5
