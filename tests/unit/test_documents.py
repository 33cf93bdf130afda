"""YAML as it is read and written everywhere."""

from __future__ import annotations

import pytest

from isthmus import documents


@pytest.mark.parametrize(
    "value",
    [
        "1e5",
        "12e7",
        "yes",
        "on",
        "010",
        "2:30",
        "2020-01-01",
        "0x1f",
        "1_000",
        ".5",
        "null",
        "~",
        "true",
        "<<",
        "",
        "a\nb\n",
    ],
)
def test_a_text_stays_a_text(value: str) -> None:
    assert documents.parse(documents.written({"labels": {"a": value}}), "") == {"labels": {"a": value}}


@pytest.mark.parametrize("value", [0, -3, 1.5, 1e20, 1e-7, True, False, None, [], {}, [1, "1"], {"a": [{"b": None}]}])
def test_other_values_stay_what_they_are(value: object) -> None:
    read = documents.parse(documents.written({"a": value}), "")["a"]
    assert read == value and (isinstance(value, list | dict) or type(read) is type(value))
