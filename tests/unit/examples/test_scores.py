"""The scores, against other people's programs for the same statistics and against what is known of chance."""

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import CircularBlockBootstrap

from examples.forecast import scores


def losses(days: int, better: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two series of losses whose days go together; the first is ``better`` lower in the mean."""
    chance = np.random.default_rng(seed)
    shared = np.convolve(chance.exponential(1, days + 9), np.ones(10) / 10, "valid")
    ours, theirs = (shared + chance.exponential(0.5, days) for _ in range(2))
    return ours, theirs + better


def test_diebold_mariano_is_the_t_value_with_newey_and_west_s_errors() -> None:
    ours, theirs = losses(700, 0.03, 1)
    lags = int(np.floor(700 ** (1 / 3)))
    reference = sm.OLS(ours - theirs, np.ones(700)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    statistic, p_value = scores.diebold_mariano(ours, theirs)
    assert statistic == pytest.approx(float(reference.tvalues[0]), rel=1e-9)
    assert p_value == pytest.approx(float(reference.pvalues[0]), rel=1e-6)


def test_diebold_mariano_finds_a_difference_about_as_often_as_it_promises() -> None:
    equal = [scores.diebold_mariano(*losses(500, 0.0, seed))[1] < 0.05 for seed in range(400)]
    assert 0.02 < np.mean(equal) < 0.10
    unequal = [scores.diebold_mariano(*losses(500, 0.15, seed))[1] < 0.05 for seed in range(100)]
    assert np.mean(unequal) > 0.9


def test_equal_losses_are_no_difference() -> None:
    same = np.ones(50)
    assert scores.diebold_mariano(same, same) == (0.0, 1.0)


def test_the_bootstrap_gives_the_interval_that_arch_gives() -> None:
    ours, theirs = losses(1200, 0.05, 2)
    low, high = scores.bootstrap(ours, theirs, seed=3)
    other = CircularBlockBootstrap(scores.BLOCK, ours, theirs, seed=4)
    reference = other.conf_int(lambda a, b: 1 - a.mean() / b.mean(), reps=2000, method="percentile").ravel()
    width = reference[1] - reference[0]
    assert abs(low - reference[0]) < 0.1 * width
    assert abs(high - reference[1]) < 0.1 * width


def test_the_interval_covers_the_truth_about_as_often_as_it_promises() -> None:
    ours, theirs = losses(200_000, 0.1, 5)
    truth = 1 - ours.mean() / theirs.mean()
    covered = []
    for seed in range(200):
        low, high = scores.bootstrap(*losses(600, 0.1, 1000 + seed), seed=seed, draws=500)
        covered.append(low <= truth <= high)
    assert 0.88 < np.mean(covered) <= 1.0


def test_the_skill_is_one_minus_the_ratio_of_errors() -> None:
    actual = np.array([1.0, 2.0, 3.0, 4.0])
    skill = scores.compare(actual + 0.5, actual - 1.0, actual)
    assert (skill.mae, skill.skill) == (1.0, 0.5)
    assert scores.compare(actual - 1.0, actual + 0.5, actual).skill == -1.0


def test_direction_counts_signs_and_leaves_still_days_out() -> None:
    actual = np.array([1.0, -1.0, 2.0, 0.0, 3.0])
    way = scores.direction(np.array([0.1, 0.1, 0.1, 0.1, -0.1]), actual)
    assert (way.right, way.rose) == (0.5, 0.75)
    assert way.low < 0.5 < way.high
