"""Parameter references and expressions in texts: found, evaluated, put in place.

A plain reference such as ``$(inputs.file.basename)`` is followed here; whatever is more is JavaScript and goes to
:mod:`isthmus.workflows.cwl.javascript`. The grammar is that of CWL v1.2 (CommandLineTool.html#Expressions).
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

SYMBOL = r"\w+"
REFERENCE = re.compile(rf"\(({SYMBOL})((?:\.{SYMBOL}|\['(?:[^'\\]|\\.)*'\]|\[\"(?:[^\"\\]|\\.)*\"\]|\[\d+\])*)\)$")
SEGMENT = re.compile(rf"\.({SYMBOL})|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[(\d+)\]")
ESCAPED = re.compile(r"\\(.)")


class ExpressionError(Exception):
    """An expression can't be evaluated. The message is for people."""


class Script(Protocol):
    """Something that evaluates JavaScript."""

    def evaluate(self, code: str, library: tuple[str, ...], names: Mapping[str, Any]) -> Any:
        """The value of a function's body. Blocks. Raises ExpressionError."""


def has_expression(text: Any) -> bool:
    """Whether a text has a reference or expression in it."""
    return isinstance(text, str) and ("$(" in text or "${" in text)


class Expressions:
    """Evaluates the texts of one process. ``library``: of its InlineJavascriptRequirement, None if it has none."""

    def __init__(self, script: Script, library: tuple[str, ...] | None, version: str) -> None:
        self._script = script
        self._library = library
        self._v12 = version >= "v1.2"

    def value(self, text: Any, names: Mapping[str, Any], *, strip: bool = True) -> Any:
        """The value of a text: of any type if it is one expression, else a string. What is no text is its own value."""
        if not has_expression(text):
            return text
        return self._interpolate(text.strip() if strip else text, names)

    def _interpolate(self, text: str, names: Mapping[str, Any]) -> Any:
        parts: list[str] = []
        for kind, piece in _parts(text, self._v12):
            if kind == "text":
                parts.append(piece)
                continue
            found = self._evaluate(piece, names)
            if len(piece) + 1 == len(text):
                return found
            parts.append(found if isinstance(found, str) else json.dumps(_plain(found), sort_keys=True))
        return "".join(parts)

    def _evaluate(self, piece: str, names: Mapping[str, Any]) -> Any:
        """``(…)`` or ``{…}``."""
        wrong: ExpressionError | None = None
        match = REFERENCE.match(piece)
        if match:
            if match[1] == "null" and not match[2]:
                return None
            try:
                return _follow(match[1], match[2], names)
            except ExpressionError as error:
                wrong = error
        if self._library is None:
            why = f": {wrong}" if wrong else " is no parameter reference."
            raise ExpressionError(
                f"${piece}{why} JavaScript needs `InlineJavascriptRequirement` among the requirements."
                if wrong is None
                else f"${piece}: {wrong}"
            )
        code = f"return {piece};" if piece.startswith("(") else piece[1:-1]
        return self._script.evaluate(code, self._library, names)


def _follow(first: str, segments: str, names: Mapping[str, Any]) -> Any:
    if first not in names:
        raise ExpressionError(f"there is no {first!r} here, only {', '.join(names)}.")
    value = names[first]
    path = first
    for dotted, single, double, index in SEGMENT.findall(segments):
        if index:
            number = int(index)
            if not isinstance(value, list):
                raise ExpressionError(f"{path} is no list.")
            if number >= len(value):
                raise ExpressionError(f"{path} has {len(value)} entries, so there is no [{number}].")
            value, path = value[number], f"{path}[{number}]"
            continue
        key = dotted or ESCAPED.sub(r"\1", single or double)
        if isinstance(value, Mapping):
            if key not in value:
                raise ExpressionError(f"{path} has no field {key!r}.")
            value = value[key]
        elif key == "length" and isinstance(value, list):
            value = len(value)
        else:
            raise ExpressionError(f"{path} is {'null' if value is None else 'no record'}: it has no field {key!r}.")
        path = f"{path}.{key}"
    return value


def _parts(text: str, v12: bool) -> Iterator[tuple[str, str]]:
    """The text's pieces: ("text", …) as it is to stand, or ("code", "(…)" or "{…}")."""
    start = at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            yield "text", text[start:at]
            following = text[at + 1 : at + 3]
            if not v12:
                yield "text", text[at + 1]  # before v1.2 a backslash hides whatever follows
                at += 2
            elif following in ("$(", "${"):
                yield "text", following
                at += 3
            elif following[:1] == "\\":
                yield "text", "\\"
                at += 2
            else:
                yield "text", text[at : at + 2]
                at += 2
            start = at
        elif char == "$" and text[at + 1 : at + 2] in ("(", "{"):
            yield "text", text[start:at]
            end = _end(text, at + 1)
            yield "code", text[at + 1 : end]
            start = at = end
        else:
            at += 1
    yield "text", text[start:]


def _end(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` has closed."""
    opening = text[start]
    closing = {"(": ")", "{": "}"}[opening]
    depth = 0
    at = start
    while at < len(text):
        char = text[at]
        if char in "'\"":
            at += 1
            while at < len(text) and text[at] != char:
                at += 2 if text[at] == "\\" else 1
        elif char == opening:
            depth += 1
        elif char == closing:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise ExpressionError(f"The expression {text[start - 1 :][:60]!r} does not end.")


def _plain(value: Any) -> Any:
    """A value as JavaScript would print it in JSON: whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
