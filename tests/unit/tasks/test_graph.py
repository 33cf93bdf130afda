"""The graph alone: what is ready when, whatever the order of ends."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.tasks.graph import DONE, FAILED, Datum, Graph, Node


class Runs:
    """A graph whose tasks run when told; values are lists of the tasks that made them."""

    def __init__(self, in_place: bool = False) -> None:
        self.graph = Graph()
        self.in_place = in_place
        self.ready: list[Node] = []

    def datum(self, value=None) -> Datum:
        return Datum(self.graph.version(value=value), self.in_place)

    def call(self, reads=(), writes=(), outs=(), commutes=(), exclusive=True) -> Node:
        node = self.graph.node("f", ())
        for datum in reads:
            self.graph.read(node, datum)
        for datum in writes:
            self.graph.write(node, datum, reads=True)
        for datum in outs:
            self.graph.write(node, datum, reads=self.in_place)
        for datum in commutes:
            self.graph.commute(node, datum, exclusive=exclusive)
        if self.graph.add(node):
            self.ready.append(node)
        return node

    def end(self, node: Node, value=None) -> None:
        self.ready.remove(node)
        values = [value if value is not None else node.id for _ in node.outputs or ()]
        self.ready += self.graph.finish(node, values)

    def fail(self, node: Node, error: BaseException) -> list[Node]:
        if node in self.ready:
            self.ready.remove(node)
        ready, lost = self.graph.fail(node, error, lambda _, cause: cause)
        self.ready += ready
        return lost


def test_a_reader_waits_for_the_writer():
    runs = Runs()
    datum = runs.datum()
    writer, reader = runs.call(writes=[datum]), runs.call(reads=[datum])
    assert runs.ready == [writer]
    runs.end(writer)
    assert runs.ready == [reader]


def test_a_reader_of_an_old_version_is_not_disturbed_by_the_next_writer():
    runs = Runs()
    datum = runs.datum("old")
    reader, writer = runs.call(reads=[datum]), runs.call(writes=[datum])
    assert runs.ready == [reader, writer]
    runs.end(writer, "new")
    assert reader.inputs[0].value == "old"
    assert datum.version.value == "new"


def test_what_is_changed_in_place_waits_for_its_readers():
    runs = Runs(in_place=True)
    datum = runs.datum()
    first, second, writer = runs.call(reads=[datum]), runs.call(reads=[datum]), runs.call(writes=[datum])
    assert runs.ready == [first, second]
    runs.end(second)
    assert writer not in runs.ready
    runs.end(first)
    assert runs.ready == [writer]


def test_out_needs_nothing_from_before():
    runs = Runs()
    datum = runs.datum()
    slow = runs.call(writes=[datum])
    fresh = runs.call(outs=[datum])
    assert runs.ready == [slow, fresh]


def test_commuting_tasks_run_in_any_order_one_at_a_time():
    runs = Runs()
    datum, gate = runs.datum("base"), runs.datum()
    opener = runs.call(writes=[gate])
    late = runs.call(reads=[gate], commutes=[datum])
    early = runs.call(commutes=[datum])
    other = runs.call(commutes=[datum])
    reader = runs.call(reads=[datum])
    assert runs.ready == [opener, early]
    assert early.inputs[0].value == "base"
    runs.end(early, "early")
    assert runs.ready == [opener, other]
    assert other.inputs[0].value == "early"
    runs.end(other, "other")
    assert runs.ready == [opener]
    runs.end(opener)
    assert late.inputs[-1].value == "other"
    runs.end(late, "late")
    assert runs.ready == [reader]
    assert reader.inputs[0].value == "late"


def test_concurrent_tasks_run_side_by_side_and_the_reader_after_all():
    runs = Runs(in_place=True)
    datum = runs.datum()
    tasks = [runs.call(commutes=[datum], exclusive=False) for _ in range(3)]
    reader = runs.call(reads=[datum])
    assert runs.ready == tasks
    for task in tasks:
        assert reader not in runs.ready
        runs.end(task)
    assert runs.ready == [reader]


def test_a_failure_reaches_all_that_need_it_and_nothing_else():
    runs = Runs()
    one, two = runs.datum(), runs.datum()
    bad = runs.call(writes=[one])
    child = runs.call(reads=[one], writes=[two])
    grandchild = runs.call(reads=[two])
    free = runs.call(reads=[runs.datum()])
    error = ValueError("no")
    assert set(runs.fail(bad, error)) == {child, grandchild}
    assert [n.state for n in (bad, child, grandchild)] == [FAILED] * 3
    assert two.version.error is error
    assert runs.ready == [free]


def test_a_failed_member_leaves_the_others_their_turn():
    runs = Runs()
    datum = runs.datum("base")
    first, second = runs.call(commutes=[datum]), runs.call(commutes=[datum])
    runs.fail(first, ValueError())
    assert runs.ready == [second]
    assert second.inputs[0].value == "base"


@pytest.mark.parametrize("in_place", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["reads", "writes", "outs", "commutes"]), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    ),
    seed=st.integers(0, 1000),
)
def test_any_order_of_ends_gives_what_the_sequential_program_gives(in_place, calls, seed):
    """Values are histories: what a task writes is what it has read, and itself. Commuting tasks are a set."""
    runs = Runs(in_place)
    data = [runs.datum(()) for _ in range(4)]
    expected = [()] * 4
    seen, nodes = {}, []
    for number, (source, how, target) in enumerate(calls):
        if source == target:
            continue
        before = expected[target]
        if how == "reads":
            node = runs.call(reads=[data[source], data[target]])
            seen[node] = (expected[source], before)
        else:
            node = runs.call(reads=[data[source]], **{how: [data[target]]})
            seen[node] = (expected[source],)
            token = ("c", number) if how == "commutes" else (how, number)
            expected[target] = (token,) if how == "outs" and not in_place else (*before, token)
        nodes.append((node, how, number))
    kinds = {node: (how, number) for node, how, number in nodes}
    rng = random.Random(seed)
    while runs.ready:
        node = rng.choice(runs.ready)
        how, number = kinds[node]
        inputs = [version.value for version in node.inputs]
        for value, wanted in zip(inputs, seen[node], strict=False):
            assert settled(value) == settled(wanted)
        if how == "reads":
            value = None
        else:
            token = ("c", number) if how == "commutes" else (how, number)
            value = (token,) if how == "outs" and not in_place else (*inputs[1], token)
        runs.end(node, value)
    assert all(node.state == DONE for node, _, _ in nodes)
    for datum, wanted in zip(data, expected, strict=True):
        runs.graph.close(datum)
        assert datum.version.producer is None
        assert settled(datum.version.value) == settled(wanted)


def settled(history):
    """A history in which commuting neighbours have one order."""
    out, run = [], []
    for token in history:
        if token[0] == "c":
            run.append(token)
        else:
            out += [*sorted(run), token]
            run = []
    return out + sorted(run)
