"""The sweep's lessons follow from its numbers: the choice from one period, the verdict from another."""

from typing import Any

import numpy as np

from examples.forecast import sweep

DAYS = 600
DATES = tuple(str(np.datetime64("2012-01-02") + day) for day in range(DAYS))
ACTUAL = 10 + np.random.default_rng(1).normal(size=DAYS)


def result(settings: sweep.Settings, *, selection: float, error: float, seed: int = 0) -> sweep.Result:
    """A result with that error on the years to choose by, and forecasts that miss by about ``error`` on the others."""
    miss = np.random.default_rng(seed).normal(scale=error, size=DAYS)
    skill = {"mae": 4.0, "skill": 0.2, "low": 0.1, "high": 0.3, "dm": -9.0, "p_value": 1e-9}
    held: dict[str, Any] = {
        "first": DATES[0],
        "last": DATES[-1],
        "days": DAYS,
        "mae": float(np.abs(miss).mean()),
        "against": {"today": skill, "RiskMetrics": {**skill, "skill": 0.15}},
    }
    if settings["target"] == "return":
        held["direction"] = {"right": 0.51, "low": 0.49, "high": 0.53, "rose": 0.54}
    chosen = {**held, "first": "2004-01-02", "last": "2011-12-30", "mae": selection}
    metrics = {"unit": "% a year", "periods": {"all": held, "selection": chosen, "holdout": held}}
    return sweep.Result(settings, metrics, DATES, ACTUAL, ACTUAL + miss)


NETS, TREES, RETURNS = sweep.GRID[0], sweep.GRID[2], sweep.GRID[-1]


def lessons(nets: float, plain: float, *, seed: int = 0) -> str:
    return "\n".join(
        sweep.lessons(
            [
                result(NETS, selection=4.0, error=nets, seed=seed),
                result(sweep.PLAIN, selection=4.2, error=plain, seed=0),
                result(RETURNS, selection=0.1, error=0.1),
            ]
        )
    )


def test_the_grid_has_the_plain_model_and_the_control_and_no_setting_twice() -> None:
    assert sweep.PLAIN in sweep.GRID
    assert [settings["target"] for settings in sweep.GRID].count("return") == 1
    assert len({str(settings) for settings in sweep.GRID}) == len(sweep.GRID)
    # One command serves them all: each has the same words.
    assert len({tuple(settings) for settings in sweep.GRID}) == 1


def test_the_years_kept_apart_have_no_say_in_the_choice() -> None:
    good_by_luck = result(TREES, selection=5.0, error=0.1)
    chosen = result(NETS, selection=4.0, error=2.0)
    assert sweep.ranked([good_by_luck, chosen, result(RETURNS, selection=0.1, error=0.1)]) == [chosen, good_by_luck]


def test_a_lead_that_lasted_is_told() -> None:
    assert "the lead lasted" in lessons(nets=0.5, plain=1.0, seed=5)


def test_a_lead_that_was_chance_is_told() -> None:
    told = lessons(nets=1.0, plain=1.0, seed=5)
    assert "4.8% smaller errors" in told
    assert "no difference that we could tell from chance" in told


def test_a_lead_that_turned_is_told() -> None:
    assert "the lead turned into a loss" in lessons(nets=1.5, plain=1.0, seed=5)


def test_returns_and_the_limits_are_told() -> None:
    told = lessons(nets=1.0, plain=1.0)
    assert "Returns are another matter" in told
    assert "no better than that" in told
    assert "Mind the limits" in told


def test_where_the_plain_model_wins_it_is_not_compared_with_itself() -> None:
    told = sweep.lessons([result(sweep.PLAIN, selection=4.0, error=1), result(NETS, selection=4.1, error=1)])
    assert not any("The winner made" in lesson for lesson in told)


def test_names_are_words() -> None:
    assert sweep.name(NETS) == "mlp, all the past, 5 lags"
    assert sweep.name(sweep.PLAIN) == "ridge, 1000 days, 5 lags"
