"""The sentences say what the numbers say, and no more."""

from typing import Any

import numpy as np
import pytest

from examples.forecast import features, summary
from examples.forecast.prices import Prices


def skill(**changes: float) -> dict[str, Any]:
    return {"mae": 4.0, "skill": 0.25, "low": 0.2, "high": 0.3, "dm": -9.0, "p_value": 1e-9, **changes}


def test_a_clear_difference_is_told_with_its_interval() -> None:
    text = summary.against("today", skill())
    assert text == "against 'today' (4.00): 25.0% better, 95% interval +20.0% to +30.0%, p < 0.001"


@pytest.mark.parametrize(
    "doubtful",
    [{"low": -0.01, "skill": 0.1, "high": 0.2}, {"p_value": 0.06}, {"low": -0.2, "high": 0.2, "p_value": 0.9}],
)
def test_what_may_be_chance_is_called_so(doubtful: dict[str, float]) -> None:
    assert "chance" in summary.against("today", skill(**doubtful))


def test_worse_is_called_worse() -> None:
    assert "5.0% worse" in summary.against("today", skill(skill=-0.05, low=-0.08, high=-0.02))


def test_the_periods_part_the_days_at_the_holdout(real: Prices) -> None:
    goal = features.target(real, "return")
    rows = slice(3000, 5030)
    perfect = goal.actual[3001:5031]
    out = summary.periods(goal, perfect, rows, real.dates, np.datetime64("2015-01-01"))
    assert out["selection"]["last"] == "2014-12-31" and out["holdout"]["first"] == "2015-01-02"
    assert out["all"]["days"] == 2030 == out["selection"]["days"] + out["holdout"]["days"]
    assert out["holdout"]["mae"] == 0 and out["holdout"]["direction"]["right"] == 1
    assert "better than that" in summary.sentences({"periods": out, "unit": "%"})[-1]
