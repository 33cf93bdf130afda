"""Forecasts of the queue: who starts where and when, on the nodes that there are."""

import math

from isthmus.placement.forecast import Running, forecast
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms
from tests.unit.placement.test_plan import site, tickets


def test_jobs_follow_one_another_as_room_is_made() -> None:
    need = Need(user="a", cpus=4, time=100)
    here = site("here", cpus=4)
    here.used_cpus = 4
    running = [Running(9, "here", need, 1050.0)]
    told = forecast({need: tickets(1, 2)}, [here], running, 1000.0, Terms())
    assert [(told[job].start, told[job].end) for job in (1, 2)] == [(1050.0, 1150.0), (1150.0, 1250.0)]
    assert here.used_cpus == 4, "the snapshot is not changed"


def test_a_batch_systems_queue_holds_no_more_than_its_nodes() -> None:
    need = Need(user="a", cpus=4, time=100)
    cluster = site("cluster", cpus=4, nodes=2, own_queue=True, max_queued=1)
    told = forecast({need: tickets(1, 2, 3)}, [cluster], [], 0.0, Terms())
    assert [told[job].start for job in (1, 2, 3)] == [0.0, 0.0, 100.0]


def test_what_fits_nowhere_never_starts_and_costs_nothing() -> None:
    need, ok = Need(user="a", cpus=99), Need(user="a", time=3600)
    told = forecast({need: tickets(1), ok: tickets(2)}, [site("here", cpu_hour=0.5)], [], 0.0, Terms())
    assert (told[1].site, told[1].start, told[1].cost) == ("", math.inf, 0.0)
    assert told[2].cost == 0.5


def test_the_head_is_not_delayed_by_what_fills_the_gap() -> None:
    long, head, small = Need(user="a", cpus=3, time=100), Need(user="b", cpus=4, time=10), Need(user="c", time=90)
    told = forecast({long: tickets(1), head: tickets(2), small: tickets(3)}, [site("here", cpus=4)], [], 0.0, Terms())
    assert [told[job].start for job in (1, 2, 3)] == [0.0, 100.0, 0.0]


def test_a_job_that_waits_for_its_data_goes_when_its_time_is_up() -> None:
    need = Need(user="a", time=10, digests=(("sha256:1", 10**10),))
    near = site("near", cpus=1, policy="locality", cached=frozenset({"sha256:1"}))
    near.used_cpus = 1
    running = [Running(9, "near", Need(user="b"), 5000.0)]
    told = forecast({need: tickets(1)}, [near, site("far", policy="locality", bytes_per_s=1e8)], running, 0.0, Terms())
    assert (told[1].site, told[1].start) == ("far", 100.0)
