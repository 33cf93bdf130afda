"""What is learned of a kind of job, and how sure it is."""

import pytest

from isthmus.domain.jobs import JobSpec
from isthmus.placement.throughputs import ALONE, UNSEEN, Throughputs, kind_of


def test_jobs_are_alike_by_label_or_name_or_what_they_run() -> None:
    assert kind_of(JobSpec(name="train-17", command=("a",))) == kind_of(JobSpec(name="train-18", command=("b",)))
    assert kind_of(JobSpec(name="train", image="x@1")) != kind_of(JobSpec(name="train", image="x@2"))
    assert kind_of(JobSpec(name="a", labels={"kind": "bert"})) == kind_of(JobSpec(name="b", labels={"kind": "bert"}))
    assert kind_of(JobSpec(command=("python", "fit.py", "--seed", "1"))) == kind_of(
        JobSpec(command=("python", "fit.py", "--seed", "22"))
    )


def test_what_was_seen_is_believed_and_the_curve_fills_the_gaps() -> None:
    learned = Throughputs()
    assert learned.run_times("k", "a100", 4) == ()
    learned.add("k", "A100", 2, 550.0)
    one, two, three, four = learned.estimates("k", "a100", 4)
    assert two.time_s == pytest.approx(550.0) and 0.5 * ALONE < two.uncertainty < ALONE
    assert one.time_s == pytest.approx(1000.0) and one.uncertainty == UNSEEN
    assert four.time_s == pytest.approx(325.0)
    assert one.time_s > two.time_s > three.time_s > four.time_s


def test_more_samples_make_it_surer_and_new_ones_weigh_more() -> None:
    learned = Throughputs()
    for time_s in (100.0, 104.0, 98.0, 101.0):
        learned.add("k", "a100", 1, time_s)
    (estimate,) = learned.estimates("k", "a100", 1)
    assert estimate.time_s == pytest.approx(100.7, abs=0.5)
    assert estimate.uncertainty < 0.1
    for _ in range(20):
        learned.add("k", "a100", 1, 100.0)
    assert learned.estimates("k", "a100", 1)[0].uncertainty < 0.03
    for _ in range(20):
        learned.add("k", "a100", 1, 200.0)
    assert learned.estimates("k", "a100", 1)[0].time_s == pytest.approx(200.0, rel=0.02)


def test_more_gpus_never_take_longer_whatever_noise_was_seen() -> None:
    learned = Throughputs()
    learned.add("k", "a100", 1, 100.0)
    learned.add("k", "a100", 2, 130.0)
    times = learned.run_times("k", "a100", 4)
    assert [one.time_s for one in times] == sorted((one.time_s for one in times), reverse=True)


def test_cases_that_differ_stay_in_doubt() -> None:
    learned = Throughputs()
    for number in range(40):
        learned.add("k", "a100", 1, 100.0 if number % 2 else 150.0)
    assert learned.estimates("k", "a100", 1)[0].uncertainty == pytest.approx(0.22, abs=0.05)
