"""Distributed data sets of PyCOMPSs, the same on every engine."""

import pytest

from isthmus.domain.errors import Invalid, NotFound
from isthmus.tasks import task
from isthmus.tasks.pycompss.dds import DDS
from tests.testbed.taskengines import *  # noqa: F403


@task(returns=1)
def drawn(seed):
    return [((seed * 7919 + number * 104729) % 1009, number) for number in range(50)]


def test_elements_go_through_steps(engine):
    numbers = DDS().load(range(10), 5)
    assert numbers.num_of_partitions() == 5
    assert numbers.map(lambda x, more: x * 2 + more, 1).collect() == list(range(1, 20, 2))
    assert numbers.map_partitions(lambda items: [sum(items)]).collect(True) == [[1], [5], [9], [13], [17]]
    assert DDS().load([2, 3, 4]).flat_map(lambda x: range(1, x)).collect() == [1, 1, 2, 1, 2, 3]
    assert numbers.filter(lambda x: x % 2).count() == 5
    assert (numbers.sum(), numbers.take(3), numbers.reduce(lambda a, b: a + b, 100, arity=2)) == (45, [0, 1, 2], 145)
    assert DDS().load([], 3).reduce(lambda a, b: a + b) is None
    assert numbers.union(numbers, DDS().load([7], 1)).count() == 21


def test_keys_meet_across_partitions(engine):
    words = DDS().load(["the", "cat", "and", "the", "dog", "and", "the", "bird"], 3)
    assert words.count_by_value() == {"the": 3, "cat": 1, "and": 2, "dog": 1, "bird": 1}
    assert sorted(words.distinct().collect()) == ["and", "bird", "cat", "dog", "the"]
    pairs = DDS().load([("a", 1), ("b", 2), ("a", 3), ("b", 4)], 4)
    assert pairs.reduce_by_key(lambda a, b: a + b).collect_as_dict() == {"a": 4, "b": 6}
    assert sorted(pairs.group_by_key().collect()) == [("a", [1, 3]), ("b", [2, 4])]
    assert pairs.count_by_key(as_dict=True) == {"a": 2, "b": 2}
    other = DDS().load([("a", "x"), ("c", "y")], 1)
    assert sorted(pairs.join(other).collect()) == [("a", (1, "x")), ("a", (3, "x"))]
    assert sorted(pairs.map_values(lambda x: [x] * 2).flatten_by_key(lambda x: x).values().collect()) == [
        1, 1, 2, 2, 3, 3, 4, 4
    ]  # fmt: skip
    dealt = DDS().load(range(6)).key_by(lambda x: x).partition_by(num_of_partitions=3).collect(True)
    assert dealt == [[(0, 0), (3, 3)], [(1, 1), (4, 4)], [(2, 2), (5, 5)]]


def test_what_tasks_leave_is_sorted(engine):
    data = DDS().load([drawn(seed) for seed in range(4)], -1)
    keys = data.sort_by_key().keys().collect()
    assert keys == sorted(keys) and len(keys) == 200
    down = data.sort_by_key(ascending=False, num_of_parts=3)
    assert down.num_of_partitions() == 3 and down.keys().collect() == keys[::-1]


def test_files_are_read_and_written(engine, tmp_path):
    text = tmp_path / "text"
    text.write_text("".join(f"line {number}\n" for number in range(20)))
    lines = DDS().load_text_file(str(text), chunk_size=50)
    assert lines.num_of_partitions() > 2
    assert lines.collect() == [f"line {number}" for number in range(20)]
    assert "".join(DDS().load_file(str(text), 33).collect()) == text.read_text()
    lines.save_as_text_file(str(tmp_path / "saved"))
    again = DDS().load_files_from_dir(str(tmp_path / "saved"))
    assert "".join(content for _, content in again.collect()) == text.read_text()
    lines.map(lambda line: line.split()).save_as_pickle(str(tmp_path / "pickled"))
    assert DDS().load_pickle_files(str(tmp_path / "pickled")).collect()[3] == ["line", "3"]


def test_what_is_not_there_is_said():
    with pytest.raises(NotFound, match="nowhere"):
        DDS().load_text_file("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        DDS().load_files_from_dir("nowhere")
    with pytest.raises(Invalid, match="partitions"):
        DDS().load([1], 0)
