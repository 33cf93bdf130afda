"""Constraints on a site's labels: ``zone is EU``, ``gpu in (a100, h100)``, ``latency_ms < 20``.

    constraint := key ("is" | "is not" | "=" | "==" | "!=" | "<" | "<=" | ">" | ">=") value
                | key ["not"] "in" "(" value {"," value} ")"

A missing label never matches, not even a negation: what isn't said isn't known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from isthmus.domain.errors import Invalid, nearest

Label = str | int | float | bool

_FORM = re.compile(
    r"^\s*(?P<key>[A-Za-z_][\w.\-/]*)\s*"
    r"(?:(?P<membership>not\s+in|in)\s*\((?P<values>[^()]*)\)"
    r"|(?P<operator>is\s+not(?=\s)|is(?=\s)|==|!=|<=|>=|=|<|>)\s*(?P<value>[^\s].*?))\s*$",
    re.IGNORECASE,
)
_HINT = "Write it like 'zone is EU', 'gpu in (a100, h100)' or 'latency_ms < 20'."


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition on one label."""

    key: str
    operator: str  # is, is not, in, not in, <, <=, >, >=
    values: tuple[str, ...]

    def __str__(self) -> str:
        if self.operator in ("in", "not in"):
            return f"{self.key} {self.operator} ({', '.join(self.values)})"
        return f"{self.key} {self.operator} {self.values[0]}"

    def rejects(self, labels: Mapping[str, Label]) -> str:
        """Why these labels do not meet it; an empty text where they do."""
        if self.key not in labels:
            hint = nearest(self.key, labels)
            return f"it has no label {self.key!r} ({self}){'. ' + hint if hint else ''}"
        label = labels[self.key]
        if self._holds(label):
            return ""
        return f"its {self.key} is {_text(label)} ({self})"

    def _holds(self, label: Label) -> bool:
        if self.operator == "is":
            return _same(label, self.values[0])
        if self.operator == "is not":
            return not _same(label, self.values[0])
        if self.operator == "in":
            return any(_same(label, value) for value in self.values)
        if self.operator == "not in":
            return not any(_same(label, value) for value in self.values)
        number = _number(label)
        bound = float(self.values[0])
        if number is None:
            return False
        return {
            "<": number < bound,
            "<=": number <= bound,
            ">": number > bound,
            ">=": number >= bound,
        }[self.operator]


@lru_cache(maxsize=4096)
def parse(text: str) -> Constraint:
    """Read one constraint. Raises Invalid with the form that it should have."""
    match = _FORM.match(text)
    if not match:
        raise Invalid(f"{text!r} is not a constraint.", hint=_HINT)
    if match["membership"]:
        values = tuple(_unquote(value) for value in match["values"].split(",") if value.strip())
        if not values:
            raise Invalid(f"{text!r} names no value.", hint=_HINT)
        return Constraint(match["key"], " ".join(match["membership"].lower().split()), values)
    operator = " ".join(match["operator"].lower().split())
    operator = {"=": "is", "==": "is", "!=": "is not"}.get(operator, operator)
    value = _unquote(match["value"])
    if operator[0] in "<>" and _number(value) is None:
        raise Invalid(f"{value!r} is not a number, which {operator!r} compares.", hint=_HINT)
    return Constraint(match["key"], operator, (value,))


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _same(label: Label, value: str) -> bool:
    if isinstance(label, bool):
        return value.lower() in (("true", "yes", "1") if label else ("false", "no", "0"))
    if isinstance(label, int | float):
        return _number(value) == float(label)
    return str(label).casefold() == value.casefold()


def _number(value: Label) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _text(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)
