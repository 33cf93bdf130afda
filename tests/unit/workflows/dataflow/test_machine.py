"""The dataflow machine: what fires when, with which values, and how it ends."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.workflows.dataflow.graph import Cross, Feed, Graph, Loop, Merge, Pick, Scatter, Source, Step
from isthmus.workflows.dataflow.machine import Finish, Machine, Prepare, Start

Body = Callable[..., dict[str, Any]]


def feeds(**sources: str | Feed) -> dict[str, Feed]:
    """``a="step/out"`` or ``a="in"``."""
    return {port: each if isinstance(each, Feed) else Feed((source(each),)) for port, each in sources.items()}


def source(text: str) -> Source:
    step, _, port = text.rpartition("/")
    return Source(step, port)


def drive(
    graph: Graph,
    inputs: Mapping[str, Any],
    *,
    prepare: Callable[[Prepare], dict[str, Any] | None] | None = None,
    order: Callable[[list[Any]], Any] = lambda waiting: waiting.pop(0),
    stop_early: bool = True,
) -> tuple[Finish, list[str]]:
    """Run a graph whose bodies are Python functions; the end, and the tasks in the order in which they were started."""
    machine = Machine(graph, stop_early=stop_early)
    waiting: list[Any] = machine.begin(inputs)
    started = []
    while True:
        instruction = order(waiting)
        if isinstance(instruction, Finish):
            return instruction, started
        if isinstance(instruction, Prepare):
            made = prepare(instruction) if prepare else instruction.inputs
            waiting += machine.prepared(instruction.task, made)
            continue
        assert isinstance(instruction, Start)
        started.append(instruction.task)
        try:
            outputs = instruction.step.body(**instruction.inputs)
        except ValueError as error:
            waiting += machine.failed(instruction.task, str(error))
        else:
            waiting += machine.done(instruction.task, outputs)


def add(a: int, b: int = 0) -> dict[str, Any]:
    return {"sum": a + b}


def fail(**_: Any) -> dict[str, Any]:
    raise ValueError("no")


def test_a_chain_hands_values_on() -> None:
    steps = {
        "one": Step(feeds(a="x"), ("sum",), add),
        "two": Step(feeds(a="one/sum", b="x"), ("sum",), add),
    }
    end, started = drive(Graph(("x",), steps, feeds(out="two/sum")), {"x": 3})
    assert end == Finish({"out": 6})
    assert started == ["one", "two"]


def test_a_scatter_keeps_the_order_of_its_list_whatever_ends_first() -> None:
    steps = {"s": Step(feeds(a="xs"), ("sum",), add, scatter=Scatter(("a",)))}
    graph = Graph(("xs",), steps, feeds(out="s/sum"))
    end, started = drive(graph, {"xs": [5, 1, 4]}, order=lambda waiting: waiting.pop())
    assert end.outputs == {"out": [5, 1, 4]}
    assert started == ["s[2]", "s[1]", "s[0]"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Cross.DOT, [11, 22]),
        (Cross.FLAT, [11, 21, 12, 22]),
        (Cross.NESTED, [[11, 21], [12, 22]]),
    ],
)
def test_methods_of_scatter(how: Cross, expected: list[Any]) -> None:
    steps = {"s": Step(feeds(a="xs", b="ys"), ("sum",), add, scatter=Scatter(("a", "b"), how))}
    end, _ = drive(Graph(("xs", "ys"), steps, feeds(out="s/sum")), {"xs": [1, 2], "ys": [10, 20]})
    assert end.outputs == {"out": expected}


def test_nothing_to_scatter_gives_empty_lists() -> None:
    steps = {"s": Step(feeds(a="xs", b="ys"), ("sum",), add, scatter=Scatter(("a", "b"), Cross.NESTED))}
    graph = Graph(("xs", "ys"), steps, feeds(out="s/sum"))
    assert drive(graph, {"xs": [], "ys": [1]})[0].outputs == {"out": []}
    assert drive(graph, {"xs": [1, 2], "ys": []})[0].outputs == {"out": [[], []]}


def test_lists_of_different_lengths_are_no_dot_product() -> None:
    steps = {"s": Step(feeds(a="xs", b="ys"), ("sum",), add, scatter=Scatter(("a", "b")))}
    end, _ = drive(Graph(("xs", "ys"), steps, feeds(out="s/sum")), {"xs": [1], "ys": [1, 2]})
    assert end.outputs == {"out": None}
    assert end.failures[0][0] == "s" and "a has 1, b has 2" in end.failures[0][1]


def test_a_body_may_be_a_graph_also_in_a_scatter() -> None:
    inner = Graph(("a",), {"add": Step(feeds(a="a", b="a"), ("sum",), add)}, feeds(out="add/sum"))
    steps = {"outer": Step(feeds(a="xs"), ("out",), inner, scatter=Scatter(("a",)))}
    end, started = drive(Graph(("xs",), steps, feeds(out="outer/out")), {"xs": [1, 2]})
    assert end.outputs == {"out": [2, 4]}
    assert started == ["outer[0]/add", "outer[1]/add"]


def test_a_graph_without_outputs_is_over_when_its_steps_are() -> None:
    end, started = drive(Graph(("x",), {"s": Step(feeds(a="x"), (), lambda a: {})}, {}), {"x": 1})
    assert end == Finish({}) and started == ["s"]


def test_a_skipped_step_gives_nulls_and_pick_chooses() -> None:
    steps = {
        "one": Step(feeds(a="x"), ("sum",), add, prepared=True),
        "two": Step(feeds(a="x", b="x"), ("sum",), add),
    }
    out = Feed((source("one/sum"), source("two/sum")), Merge.NESTED, Pick.FIRST)
    graph = Graph(("x",), steps, {"out": out})
    end, started = drive(graph, {"x": 2}, prepare=lambda asked: None)
    assert end.outputs == {"out": 4} and started == ["two"]


def test_pick_that_finds_nothing_fails() -> None:
    steps = {"one": Step(feeds(a="x"), ("sum",), add, prepared=True)}
    out = Feed((source("one/sum"), source("one/sum")), Merge.NESTED, Pick.ONLY)
    end, _ = drive(Graph(("x",), steps, {"out": out}), {"x": 2}, prepare=lambda asked: None)
    assert end.failures == (("the workflow", "the_only_non_null: all 2 values are null."),)


@pytest.mark.parametrize(("keep_all", "expected"), [(False, 4), (True, [2, 3, 4])])
def test_a_loop_goes_on_until_its_preparation_says_no(keep_all: bool, expected: Any) -> None:
    loop = Loop({"a": Feed((Source("", "sum"),))}, keep_all)
    steps = {"s": Step(feeds(a="x", b="one"), ("sum",), add, prepared=True, loop=loop)}
    graph = Graph(("x", "one"), steps, feeds(out="s/sum"))
    end, started = drive(
        graph, {"x": 1, "one": 1}, prepare=lambda asked: asked.inputs if asked.inputs["a"] < 4 else None
    )
    assert end.outputs == {"out": expected}
    assert started == ["s#0", "s#1", "s#2"]


def test_after_a_failure_nothing_new_starts_or_whatever_does_not_need_it() -> None:
    steps = {
        "bad": Step(feeds(a="x"), ("sum",), fail),
        "after": Step(feeds(a="bad/sum"), ("sum",), add),
        "other": Step(feeds(a="x"), ("sum",), add),
        "more": Step(feeds(a="other/sum"), ("sum",), add),
    }
    graph = Graph(("x",), steps, feeds(out="more/sum", lost="after/sum"))
    end, started = drive(graph, {"x": 1})
    assert end.outputs == {"out": None, "lost": None} and end.failures == (("bad", "no"),)
    assert started == ["bad", "other"]
    end, started = drive(graph, {"x": 1}, stop_early=False)
    assert started == ["bad", "other", "more"] and end.failures == (("bad", "no"),)


def test_steps_that_wait_for_each_other_are_told() -> None:
    steps = {"a": Step(feeds(a="b/sum"), ("sum",), add), "b": Step(feeds(a="a/sum"), ("sum",), add)}
    end, started = drive(Graph((), steps, feeds(out="a/sum")), {})
    assert not started and "circle" in end.failures[0][1]


@given(st.lists(st.integers(), max_size=6), st.lists(st.integers(), max_size=5), st.randoms(use_true_random=False))
def test_the_result_does_not_depend_on_the_order_of_ends(xs: list[int], ys: list[int], random: Any) -> None:
    steps = {
        "pairs": Step(feeds(a="xs", b="ys"), ("sum",), add, scatter=Scatter(("a", "b"), Cross.NESTED)),
        "again": Step(feeds(a="xs"), ("sum",), add, scatter=Scatter(("a",))),
    }
    graph = Graph(("xs", "ys"), steps, feeds(pairs="pairs/sum", again="again/sum"))
    end, started = drive(graph, {"xs": xs, "ys": ys}, order=lambda waiting: waiting.pop(random.randrange(len(waiting))))
    assert end.outputs == {"pairs": [[x + y for y in ys] for x in xs], "again": xs}
    assert len(started) == len(xs) * len(ys) + len(xs)
