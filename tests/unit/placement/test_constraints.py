"""The constraint grammar."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.placement.constraints import parse

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
