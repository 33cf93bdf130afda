"""Small expressions in declarations: `n`, `len(blocks)`, `value_of(self.groups)`, over arguments and globals."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "value_of": lambda value: value,
    "min": min,
    "max": max,
    "int": int,
}


def evaluate(text: str, names: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
    """The value of an expression over these names; None where it is none, or names something that there is not.

    Names, attributes, items, arithmetic, and len, min, max, int, value_of. Nothing else is called.
    """

    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return names[node.id] if node.id in names else more[node.id]
        if isinstance(node, ast.Attribute):
            return getattr(value(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return value(node.value)[value(node.slice)]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return _FUNCTIONS[node.func.id](*(value(argument) for argument in node.args))
        raise KeyError(ast.dump(node))

    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, KeyError, AttributeError, TypeError, ValueError, IndexError, ZeroDivisionError):
        return None
