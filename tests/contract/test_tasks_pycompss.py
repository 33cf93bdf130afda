"""What programs of PyCOMPSs count on, the same on every engine."""

import time

import numpy as np
import pytest

from isthmus.tasks import task, wait_on
from isthmus.tasks.directions import TABLE
from tests.contract.test_tasks import ENGINES, PARALLEL, started


@pytest.fixture(params=ENGINES)
def engine(request):
    yield from started(request.param)


@pytest.fixture(params=PARALLEL)
def parallel(request):
    yield from started(request.param)


@task(spreads=True)
def spread(x):
    if x > 1:
        return x, [x]
    return x + 1, None


class Counter:
    def __init__(self, n):
        self.n = n

    @task()
    def add(self, more):
        self.n += more

    @task(target_direction=TABLE["IN"], returns=1)
    def doubled(self):
        return 2 * self.n


@task(returns=Counter)
def counter(n):
    time.sleep(0.05)
    return Counter(n)


def test_what_a_return_statement_writes_out_is_several_values(engine):
    first, second = spread(3)
    assert wait_on(first, second) == [3, [3]]
    assert list(wait_on(spread(1))) == [2, None]


@task(returns=1)
def zeros(dtype):
    return np.zeros(3, dtype)


def test_a_class_is_an_argument_as_any_other(engine):
    assert wait_on(zeros(np.float32)).dtype == np.float32


def test_methods_that_are_tasks_are_called_on_futures(engine):
    made = counter(4)
    made.add(3)
    made.add(wait_on(counter(1)).n)
    assert wait_on(made.doubled()) == 16
    assert wait_on(made).n == 8
    made.add(1)  # its class is known by its value now
    assert wait_on(made).n == 9


def test_a_future_says_why_it_has_no_attribute(parallel):
    made = counter(4)
    with pytest.raises(AttributeError, match="wait_on it first"):
        made.n  # noqa: B018
    assert not hasattr(made, "anything")
