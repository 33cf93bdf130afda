"""The walk forward: which rows are fitted and forecast, and that it goes on exactly where it was."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from examples.forecast import features, models
from examples.forecast.features import WARM_UP
from examples.forecast.prices import Prices
from examples.forecast.walk import Checkpoint, Plan, Walk, forward

PLAN = Plan(first=1000, last=1100, window=300, refit=22)


def test_the_blocks_cover_each_row_once_and_the_window_ends_where_they_begin() -> None:
    blocks = list(PLAN.blocks())
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(1000, 1100))
    assert [PLAN.past(block.start) for block in blocks][:2] == [slice(700, 1000), slice(722, 1022)]
    assert Plan(first=1000, last=1100, window=0, refit=22).past(1000) == slice(WARM_UP, 1000)
    assert Plan(first=1000, last=1100, window=5000, refit=22).past(1000) == slice(WARM_UP, 1000)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"refit": 0}, "refit"), ({"window": 99}, "window"), ({"first": 150}, "rows before"), ({"last": 1000}, "at row")],
)
def test_a_plan_that_can_not_be_is_refused(change: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Plan(**{"first": 1000, "last": 1100, "window": 300, "refit": 22, **change})


def walker(prices: Prices) -> Callable[[Walk], object]:
    goal = features.target(prices, "volatility")
    rows = features.features(prices, 5)
    return lambda walk: forward(walk, rows, goal, lambda: models.build("boosting", alpha=10, seed=0))


def test_a_resumed_walk_makes_the_very_same_forecasts(real: Prices, tmp_path: Path) -> None:
    go = walker(real)
    whole = Walk(PLAN, np.empty(0))
    list(go(whole))

    kept = Checkpoint(tmp_path, {"model": "boosting"})
    half = kept.load(PLAN)
    steps = go(half)
    next(steps), next(steps)
    kept.save(half)

    again = kept.load(PLAN)
    assert again.done == 44
    list(go(again))
    assert again.forecasts.tobytes() == whole.forecasts.tobytes()


def test_a_checkpoint_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    Checkpoint(tmp_path, {"alpha": 1}).save(Walk(PLAN, np.ones(22)))
    assert Checkpoint(tmp_path, {"alpha": 1}).load(PLAN).done == 22
    assert Checkpoint(tmp_path, {"alpha": 2}).load(PLAN).done == 0
    other = Plan(first=1000, last=1100, window=400, refit=22)
    assert Checkpoint(tmp_path, {"alpha": 1}).load(other).done == 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_checkpoint_that_can_not_be_read_begins_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "walk.json").write_text(text)
    assert Checkpoint(tmp_path, {}).load(PLAN).done == 0


def test_a_save_that_is_cut_short_leaves_the_one_before(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path, {})
    kept.save(Walk(PLAN, np.ones(22)))
    (tmp_path / "walk.part").write_text(json.dumps({"identity": {}})[:10])
    assert kept.load(PLAN).done == 22
