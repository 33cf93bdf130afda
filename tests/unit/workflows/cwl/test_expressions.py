"""Parameter references, escapes, and JavaScript in texts."""

from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.workflows.cwl.expressions import ExpressionError, Expressions
from isthmus.workflows.cwl.javascript import Node

NAMES = {"inputs": {"n": 3, "list": [1, {"a b": "x"}], "s": "t"}, "self": None, "runtime": {"cores": 2}}


class NoScript:
    """Fails the test that it is asked in."""

    def evaluate(self, code: str, library: tuple[str, ...], names: Any) -> Any:
        raise AssertionError(f"JavaScript was asked for: {code}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$(inputs.n)", 3),
        (" $(inputs.n) ", 3),
        ("$(inputs.list[1]['a b'])", "x"),
        ("$(inputs.list.length)", 2),
        ("$(self)", None),
        ("$(null)", None),
        ("a$(inputs.n)b$(inputs.s)c", "a3btc"),
        ("$(inputs.list) ", [1, {"a b": "x"}]),
        ("l: $(inputs.list)", 'l: [1, {"a b": "x"}]'),
        (r"\$(inputs.n) $(inputs.n)", "$(inputs.n) 3"),
        (r"\\$(inputs.n)", r"\3"),
    ],
)
def test_references_need_no_javascript(text: str, value: Any) -> None:
    assert Expressions(NoScript(), None, "v1.2").value(text, NAMES) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$(inputs.nothing)", "has no field 'nothing'"),
        ("$(inputs.list[7])", "there is no [7]"),
        ("$(inputs.n + 1)", "InlineJavascriptRequirement"),
        ("$(inputs.n", "does not end"),
        ("$(other.n)", "there is no 'other'"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words.replace("[", r"\[").replace("(", r"\(")):
        Expressions(NoScript(), None, "v1.2").value(text, NAMES)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    found = Node(timeout_s=1)
    yield found
    found.close()


def test_javascript_has_its_library_and_its_names(node: Node) -> None:
    expressions = Expressions(node, ("function twice(x) { return 2 * x + inputs.n; }",), "v1.2")
    assert expressions.value("$(twice(4))", NAMES) == 11
    assert expressions.value("${ return {'a': [inputs.n, null]}; }", NAMES) == {"a": [3, None]}
    assert expressions.value("${ }", NAMES) is None


def test_an_expression_leaves_nothing_behind_and_reaches_nothing(node: Node) -> None:
    expressions = Expressions(node, (), "v1.2")
    assert expressions.value("${ leaked = 5; return leaked; }", NAMES) == 5
    with pytest.raises(ExpressionError, match="leaked"):
        expressions.value("$(leaked + 0)", NAMES)
    with pytest.raises(ExpressionError, match="process"):
        expressions.value("$(process.exit(3))", NAMES)


def test_an_expression_without_end_is_ended(node: Node) -> None:
    expressions = Expressions(node, (), "v1.2")
    with pytest.raises(ExpressionError, match="longer than 1 s"):
        expressions.value("${ while (true) {} }", NAMES)
    assert expressions.value("$(1 + 1)", NAMES) == 2
