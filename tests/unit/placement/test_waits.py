"""Learned waits: held towards the others with few cases, their own with many, and aware of who waits still."""

from isthmus.placement.needs import Need
from isthmus.placement.scores import score, wait
from isthmus.placement.snapshot import SiteSnapshot
from isthmus.placement.waits import HALF_LIFE_S, Case, learn
from tests.unit.placement.test_plan import site


def seconds(cases: list[Case], where: str, queue: str = "q") -> float:
    return learn(cases)[where][queue].seconds


def test_many_cases_are_believed_few_are_held_towards_the_others() -> None:
    others = [Case("quick", "q", 10.0) for _ in range(50)]
    once = seconds([*others, Case("slow", "q", 10_000.0)], "slow")
    often = seconds([*others, *(Case("slow", "q", 10_000.0) for _ in range(200))], "slow")
    assert 10 < once < 1000
    assert 5000 < often <= 10_000
    assert learn(others)["quick"]["q"].cases == 50


def test_old_cases_count_less() -> None:
    old = [Case("a", "q", 10_000.0, age_s=8 * HALF_LIFE_S) for _ in range(10)]
    new = [Case("a", "q", 10.0) for _ in range(10)]
    assert seconds([*old, *new], "a") < 20


def test_queues_of_one_site_are_told_apart_and_others_get_the_sites_mean() -> None:
    cases = [Case("a", "short", 5.0) for _ in range(50)] + [Case("a", "long", 5000.0) for _ in range(50)]
    found = learn(cases)["a"]
    assert found["short"].seconds < 10 < found[""].seconds < 1000 < found["long"].seconds


def test_a_queue_that_stands_still_is_seen() -> None:
    past = [Case("a", "q", 10.0) for _ in range(20)]
    stuck = [Case("a", "q", 50_000.0, over=False) for _ in range(20)]
    fresh = [Case("a", "q", 1.0, over=False) for _ in range(20)]
    assert seconds([*past, *stuck], "a") > 20 * seconds(past, "a")
    assert seconds([*past, *fresh], "a") == seconds(past, "a")


def test_the_shorter_wait_scores_higher_and_none_says_nothing() -> None:
    found = learn([*(Case("a", "main", 5.0) for _ in range(20)), *(Case("b", "main", 5000.0) for _ in range(20))])
    need = Need(user="ada")
    sites: list[SiteSnapshot] = [site(name, waits=found[name]) for name in ("a", "b")]
    assert score(need, sites[0]) > score(need, sites[1])
    assert wait(need, site("c")) is None
