"""Problems are read strictly, and what is wrong is said with its place."""

from typing import Any

import pytest

from isthmus.domain.errors import Invalid
from isthmus.placement.sizing.generate import generate
from isthmus.placement.sizing.problem import read_problem, write_problem


def small() -> dict[str, Any]:
    return {
        "nodes": 2,
        "vm_types": [{"vm": "a-2", "gpu_type": "a", "gpus": 2, "price_per_h": 1.0}],
        "jobs": [
            {
                "id": 1,
                "release_s": 10,
                "deadline_s": 100,
                "tardiness_weight_per_s": 0.5,
                "time_s": {"a": [60, 40]},
            }
        ],
    }


def test_it_reads_what_it_writes() -> None:
    problem = generate(nodes=3, jobs=5, gap_s=100.0, seed=1)
    assert read_problem(write_problem(problem)) == problem


@pytest.mark.parametrize(
    ("path", "value", "place", "words"),
    [
        (("nodes",), 0, "nodes", "less than 1"),
        (("nodes",), 1.5, "nodes", "not a number of nodes"),
        (("nodes",), "two", "nodes", "not a number"),
        (("jobs", 0, "release_s"), -1, "jobs[0].release_s", "less than 0"),
        (("jobs", 0, "deadline_s"), 5, "jobs[0].deadline_s", "before the release"),
        (("jobs", 0, "time_s", "a", 1), -3, "jobs[0].time_s.a[1]", "less than 0"),
        (("jobs", 0, "time_s", "a", 1), 0, "jobs[0].time_s.a[1]", "longer than no time"),
        (("jobs", 0, "time_s"), {}, "jobs[0].time_s", "no times"),
        (("jobs", 0, "time_s"), {"A": [3]}, "jobs[0].time_s.A", "No VM type has GPUs of type 'A'"),
        (("jobs", 0, "id"), 1.5, "jobs[0].id", "a number or a text"),
        (("jobs", 0, "tardiness_weight_per_s"), float("nan"), "jobs[0].tardiness_weight_per_s", "not a number"),
        (("vm_types", 0, "gpus"), 0, "vm_types[0].gpus", "less than 1"),
        (("vm_types", 0, "price_per_h"), -1, "vm_types[0].price_per_h", "less than 0"),
        (("vm_types",), [], "vm_types", "something in it"),
        (("jobs", 0, "dedline_s"), 3, "jobs[0].dedline_s", "no field 'dedline_s'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(path: tuple[Any, ...], value: Any, place: str, words: str) -> None:
    data = small()
    part: Any = data
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(Invalid) as caught:
        read_problem(data)
    assert caught.value.place == place
    assert words in caught.value.message


def test_a_word_nearly_right_is_named() -> None:
    data = small()
    data["jobs"][0]["dedline_s"] = 3
    with pytest.raises(Invalid) as caught:
        read_problem(data)
    assert "deadline_s" in caught.value.hint


def test_ids_are_unique() -> None:
    data = small()
    data["jobs"] = data["jobs"] * 2
    with pytest.raises(Invalid, match="there twice"):
        read_problem(data)
