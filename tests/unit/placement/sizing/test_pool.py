"""The pool of one site: what is ordered as jobs come, run and are in each other's way."""

import pytest

from isthmus.placement.performance import run_times
from isthmus.placement.sizing.mixing import Mixing, Tuning
from isthmus.placement.sizing.pool import Member, Orders, Pool
from isthmus.placement.sizing.problem import SizedJob


def pool() -> Pool:
    return Pool("a100", 2, 3.6, 4.0, Mixing(Tuning(least_part=0.03)))


def job(number: int, deadline: float, *times: float, release: float = 0.0, weight: float = 1.0) -> SizedJob:
    return SizedJob(number, release, deadline, weight, {"a100": times})


LONG, URGENT = job(1, 150.0, 40.0, 26.0), job(2, 34.0, 30.0, 15.0, release=8.0)


def test_who_has_time_gets_the_cheapest_number() -> None:
    orders = pool().orders(0.0, 1, [Member(LONG, 1.0)])
    assert orders.start == {1: 1}
    assert orders.stop == ()


def test_the_urgent_one_takes_the_place_of_one_that_can_wait() -> None:
    orders = pool().orders(13.0, 1, [Member(LONG, 0.8, gpus=1, ran_s=12.0), Member(URGENT, 1.0)])
    assert orders.stop == (1,)
    assert orders.start == {2: 2}


def test_who_has_no_checkpoint_is_not_stopped() -> None:
    orders = pool().orders(13.0, 1, [Member(LONG, 0.8, gpus=1, ran_s=12.0, fixed=True), Member(URGENT, 1.0)])
    assert orders.stop == ()
    assert orders.start.get(2, 0) <= 1
    assert orders.wants[1] == 1


def test_who_is_stopping_is_neither_stopped_again_nor_started() -> None:
    orders = pool().orders(13.0, 1, [Member(LONG, 0.8, stopping=True), Member(URGENT, 1.0)])
    assert orders.stop == ()
    assert orders.start == {2: 2}


def test_no_nodes_no_orders() -> None:
    assert pool().orders(0.0, 0, [Member(LONG, 1.0)]) == Orders()


def test_run_times_come_from_the_profile_else_from_a_usual_curve() -> None:
    assert run_times({"A100": [100, 60]}, "a100", 3) == (100.0, 60.0, 60.0)
    assert run_times({"": [9]}, "h100", 1) == (9.0,)
    assert run_times({"v100": [100]}, "a100", 2) == ()
    assert run_times({}, "a100", 2) == ()
    one, two = run_times({}, "a100", 2, stated_s=55.0, stated_gpus=2)
    assert two == pytest.approx(55.0)
    assert one == pytest.approx(100.0)


def doubtful(doubt: float) -> SizedJob:
    """100 seconds with one GPU, 55 with two, and 110 until its deadline."""
    return SizedJob(1, 0.0, 110.0, 1.0, {"a100": (100.0, 55.0)}, {"a100": (doubt, doubt)})


def test_who_keeps_its_number_is_sized_by_what_it_hardly_needs_more_than_until_that_is_known_well() -> None:
    assert pool().orders(0.0, 1, [Member(doubtful(0.3), 1.0, rigid=True)]).start == {1: 2}
    assert pool().orders(0.0, 1, [Member(doubtful(0.02), 1.0, rigid=True)]).start == {1: 1}


def test_who_can_change_tries_the_cheaper_number_and_is_looked_at_soon() -> None:
    tight = SizedJob(1, 0.0, 1040.0, 1.0, {"a100": (1100.0, 600.0)}, {"a100": (0.3, 0.3)})
    orders = Pool("a100", 2, 3.6, 1.0, Mixing()).orders(0.0, 1, [Member(tight, 1.0)])
    assert orders.start == {1: 1}
    assert orders.wake_s < 30.0
    sure = SizedJob(1, 0.0, 1040.0, 1.0, {"a100": (1100.0, 600.0)})
    assert Pool("a100", 2, 3.6, 1.0, Mixing()).orders(0.0, 1, [Member(sure, 1.0)]).start == {1: 2}


def test_other_prices_are_taken_up() -> None:
    """A second late costs 0.001: running faster to avoid 20 is worth it only while GPUs are cheap."""
    late = SizedJob(1, 0.0, 80.0, 0.001, {"a100": (100.0, 75.0)})
    here = pool()
    here.say(0.36, 0.0)
    assert here.orders(0.0, 1, [Member(late, 1.0)]).wants == {1: 2}
    here.say(36.0, 0.0)
    assert here.orders(0.0, 1, [Member(late, 1.0)]).wants == {1: 1}
