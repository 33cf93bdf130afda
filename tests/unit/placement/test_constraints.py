"""The constraint grammar."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.placement.constraints import check, parse

LABELS = {"location": "DE", "gpu": "a100", "latency_ms": 12, "green": True, "energy_mix": 0.6}


@pytest.mark.parametrize(
    "text",
    [
        "location is DE",
        "location = de",
        "location is not FR",
        "location != FR",
        "gpu in (a100, h100)",
        "gpu not in (v100,t4)",
        "latency_ms < 20",
        "latency_ms >= 12",
        "energy_mix > 0.5",
        "green is true",
        "location is 'DE'",
        "latency_ms is 12",
    ],
)
def test_it_holds(text: str) -> None:
    assert parse(text).rejects(LABELS) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("location is FR", "its location is DE (location is FR)"),
        ("gpu not in (a100)", "its gpu is a100"),
        ("latency_ms > 20", "its latency_ms is 12"),
        ("green is false", "its green is true"),
        ("location < 5", "its location is DE"),
        ("loction is DE", "it has no label 'loction' (loction is DE). Did you mean 'location'?"),
        ("loction is not DE", "it has no label 'loction'"),
    ],
)
def test_it_says_why_not(text: str, why: str) -> None:
    assert why in parse(text).rejects(LABELS)


@pytest.mark.parametrize("text", ["", "location", "is DE", "gpu in ()", "latency_ms < soon", "a b c", "gpu in (a"])
def test_what_is_no_constraint_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert "Write it like" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("location iss DE", "no operator 'iss' (column 10). Did you mean 'is'?"),
        ("gpu nott in (a100)", "no operator 'nott' (column 5). Did you mean 'not in'?"),
        ("gpu in a100", "needs its values in parentheses after 'in' (column 7)"),
        ("latency_ms < fast", "compares with 'fast', which is not a number"),
        ("latency_ms << 3", "no operator '<<'"),
        ("gpu in (a100,,h100)", "an empty or unreadable value"),
        ("  5 is x", "begins with no name of a label or metric (column 3)"),
        ("x < inf", "not a number"),
    ],
)
def test_what_is_wrong_is_told_with_its_column(text: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert words in str(caught.value)


def test_krakes_other_spellings_mean_the_same() -> None:
    assert str(parse("load => 1")) == "load >= 1"
    assert str(parse("load =< 1")) == "load <= 1"
    assert str(parse('zone IS NOT "a b"')) == "zone is not a b"


@pytest.mark.parametrize(
    "pair",
    [
        ("zone is DE", "zone is FR"),
        ("zone is DE", "zone is not de"),
        ("zone in (DE, FR)", "zone in (UK, US)"),
        ("zone not in (DE)", "zone is DE"),
        ("load < 5", "load > 10"),
        ("load < 5", "load >= 5"),
        ("load is 7", "load < 5"),
        ("green is true", "green is no"),
    ],
)
def test_what_contradicts_is_refused_with_both_places(pair: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        check(("kind is slurm", *pair))
    assert caught.value.place == "constraints[2]"
    assert "contradicts constraints[1]" in str(caught.value)


@pytest.mark.parametrize(
    "pair",
    [
        ("zone is not DE", "zone is not FR"),
        ("zone in (DE, FR)", "zone is not FR"),
        ("load <= 5", "load >= 5"),
        ("load > 1", "load < 5"),
        ("green is true", "green is yes"),
        ("zone is DE", "rack is 4"),
    ],
)
def test_what_can_hold_together_is_taken(pair: tuple[str, str]) -> None:
    assert len(check(pair)) == 2


def test_a_key_that_no_site_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(Invalid) as caught:
        check(("zone is EU", "loction is DE"), {"zone", "location", "latency_ms"})
    assert caught.value.place == "constraints[1]"
    assert "Did you mean 'location'?" in str(caught.value)
