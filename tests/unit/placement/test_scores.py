"""Scores: the weighted mean, what is left out of it, data by time, metrics by their bounds, prices."""

import pytest

from isthmus.placement import filters
from isthmus.placement.constraints import parse
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms, explain
from isthmus.placement.scores import WEIGHTS, locality, parts, score, standing
from isthmus.placement.snapshot import Reading
from tests.unit.placement.test_plan import site

DATA = Need(user="a", digests=(("sha256:1", 6 * 10**9), ("sha256:2", 10**6)))


def test_the_score_is_the_weighted_mean_of_those_that_say_something() -> None:
    here = site("here", metrics={"green": Reading(0.9, weight=2.0), "unread": Reading(weight=5.0)})
    need = Need(user="a", at="here")
    said = [(one.value, one.weight) for one in parts(need, here) if one.value is not None]
    assert score(need, here) == pytest.approx(sum(v * w for v, w in said) / sum(w for _, w in said))
    assert {one.name for one in parts(need, here)} == {*WEIGHTS, "green", "unread"}


def test_data_counts_by_the_time_that_it_takes_to_bring() -> None:
    slow, fast = site("slow", bytes_per_s=1e7), site("fast", bytes_per_s=1e9)
    near = site("near", cached=frozenset({"sha256:1"}))
    values = [locality(DATA, one) for one in (slow, fast, near)]
    assert values == sorted(values, key=lambda one: one or 0.0)
    assert locality(Need(user="a"), slow) is None
    note = next(one.note for one in parts(DATA, slow) if one.name == "locality")
    assert note == "5.6 GiB to bring, 10m00s at 9.5 MiB/s as seen"


def test_a_checkpoint_draws_a_job_back_by_a_tenth_and_no_more() -> None:
    need = Need(user="a", at="b")
    first, second = site("a"), site("b")
    assert score(need, second) > score(need, first)
    second.used_cpus = 2
    assert score(need, second) < score(need, first)


def test_a_metric_is_normalised_by_its_bounds_and_turned_round() -> None:
    assert Reading(50.0, low=0.0, high=200.0).normal == 0.25
    assert Reading(50.0, low=0.0, high=200.0, lower_is_better=True).normal == 0.75
    assert Reading(900.0, low=0.0, high=200.0).normal == 1.0
    assert Reading(None).normal is None
    assert Reading(None, missing=0.5).normal == 0.5


def test_a_metric_constrains_and_says_what_is_missing() -> None:
    need = Need(user="a", constraints=(parse("latency_ms < 20"), parse("zone is EU")))
    labels = {"zone": "EU"}
    for reading, words in (
        (Reading(12.0), ""),
        (Reading(30.0), "its latency_ms is 30 (latency_ms < 20)"),
        (Reading(None, why="lab is down"), "its latency_ms is not known: lab is down (latency_ms < 20)"),
        (Reading(None, missing=5.0), ""),
    ):
        here = site("here", labels=labels, metrics={"latency_ms": reading})
        assert filters.metrics(need, here) == words
        assert filters.labels(need, here) == ""
    assert "no label 'latency_ms'" in filters.labels(need, site("here", labels=labels))


def test_an_image_of_another_architecture_does_not_fit() -> None:
    need = Need(user="a", image=True, architecture="arm64")
    assert filters.architecture(need, site("here", architecture="aarch64")) == ""
    assert "made for arm64" in filters.architecture(need, site("here", architecture="x86_64"))
    assert filters.architecture(need, site("here")) == ""


def test_explain_shows_every_filter_and_score_under_the_sites_policy() -> None:
    (verdict,) = explain(DATA, [site("here", policy="locality")], Terms())
    assert [one.name for one in verdict.checks] == [
        filters.name_of(judge) for judge in (*filters.LASTING, *filters.PASSING)
    ]
    assert verdict.policy == "locality"
    weights = {one.name: one.weight for one in verdict.scores}
    assert weights["locality"] == 20.0
    assert weights["load"] == WEIGHTS["load"]


def test_the_mean_follows_a_site_that_fills_as_if_all_were_judged_anew() -> None:
    need = Need(user="ada", cpus=2, gpus=1, nodes=2)
    here = site("here", cpus=16, gpus=4, nodes=4, multi_node=True, cpu_hour=0.5)
    stands = standing(need, here)
    seen = []
    for _ in range(3):
        shown = [one for one in parts(need, here) if one.value is not None]
        assert stands.mean() == pytest.approx(
            sum(one.weight * (one.value or 0.0) for one in shown) / sum(one.weight for one in shown)
        )
        assert stands.mean() == score(need, here)
        seen.append(stands.mean())
        here.used_cpus += 2
        here.used_gpus += 4
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 3
