"""Warnings about programs that run, but not as their author thinks; and none where there is nothing to say."""

import gc
import warnings

import numpy as np
import pytest

from isthmus.tasks import INOUT, start, stop, task, wait_on


class Model:
    def __init__(self):
        self.weights = Weights()


class Weights:
    def __init__(self):
        self.value = 0


@task(model=INOUT)
def train(model):
    model.weights.value += 1


@task(returns=1)
def look(weights):
    return weights.value


@task(returns=1)
def measure(table):
    return len(table)


@task(returns=1)
def double(x):
    return 2 * x


@pytest.fixture
def processes():
    start(engine="processes", workers=2)
    yield
    stop(kill=True)


def test_a_part_beside_its_whole(processes):
    model = Model()
    train(model)
    with pytest.warns(UserWarning, match=r"look: 'weights' and its \.weights are both given"):
        found = look(model.weights)
    assert wait_on(found) == 0  # which is what the warning is about
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = wait_on(model)
        assert wait_on(look(model.weights)) == 1


def test_a_whole_beside_its_part(processes):
    model = Model()
    train_weights(model.weights)
    with pytest.warns(UserWarning, match=r"train: 'model' and its \.weights"):
        train(model)


@task(weights=INOUT)
def train_weights(weights):
    weights.value += 10


def test_a_large_argument_that_is_copied_again_and_again(processes):
    table = {"rows": np.zeros(3_000_000)}
    found = [measure(table), measure(table)]
    with pytest.warns(UserWarning, match=r"measure is given the same dict as 'table'.* 22 MB"):
        found.append(measure(table))
    assert wait_on(found) == [1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = table["rows"]
        assert wait_on([measure(rows) for _ in range(5)]) == [3_000_000] * 5


def test_a_result_that_nobody_uses():
    start(engine="processes", workers=2)
    kept = double(double(1))
    assert wait_on(kept) == 4
    double(5)
    double(6)
    gc.collect()
    with pytest.warns(UserWarning, match=r"Nobody has used the result of .*double in 2 calls"):
        stop()


def test_nothing_is_said_of_results_that_are_used():
    start(engine="processes", workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wait_on([double(i) for i in range(3)]) == [0, 2, 4]
        stop()
