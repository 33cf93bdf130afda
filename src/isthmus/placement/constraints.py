"""Constraints on what sites say of themselves: ``zone is EU``, ``gpu in (a100, h100)``, ``latency_ms < 20``.

    constraint := key ("is" | "is not" | "=" | "==" | "!=" | "<" | "<=" | ">" | ">=") value
                | key ["not"] "in" "(" value {"," value} ")"

The key names a label of the site, or one of its metrics. A missing one never matches, not even a negation: what isn't
said isn't known. Names and texts are told apart whatever their case; ``=>`` and ``=<`` are read as what they mean.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from isthmus.domain.errors import Invalid, nearest

Label = str | int | float | bool

_KEY = re.compile(r"[A-Za-z_][\w.\-/]*")
_WORD = re.compile(r"[^\s(]+")
_SIGNS = re.compile(r"[=!<>]+")
_VALUE = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^\s,()'"][^,()'"]*?))\s*$""")
_SAME = {"=": "is", "==": "is", "!=": "is not", "=>": ">=", "=<": "<=", "<>": "is not"}
_OPERATORS = ("is", "is not", "in", "not in", "<", "<=", ">", ">=")
_HINT = "Write it like 'zone is EU', 'gpu in (a100, h100)' or 'latency_ms < 20'."


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition on one label or metric."""

    key: str
    operator: str  # is, is not, in, not in, <, <=, >, >=
    values: tuple[str, ...]

    def __str__(self) -> str:
        if self.operator in ("in", "not in"):
            return f"{self.key} {self.operator} ({', '.join(self.values)})"
        return f"{self.key} {self.operator} {self.values[0]}"

    def rejects(self, labels: Mapping[str, Label], others: Iterable[str] = ()) -> str:
        """Why these labels do not meet it; an empty text where they do. ``others``: names it might have meant."""
        if self.key not in labels:
            hint = nearest(self.key, {*labels, *others})
            return f"it has no label {self.key!r} ({self}){'. ' + hint if hint else ''}"
        label = labels[self.key]
        if self.holds(label):
            return ""
        return f"its {self.key} is {_text(label)} ({self})"

    def holds(self, label: Label) -> bool:
        """Whether this value meets it."""
        if self.operator in ("is", "in"):
            return any(_same(label, value) for value in self.values)
        if self.operator in ("is not", "not in"):
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
    """Read one constraint. Raises Invalid that says at which column it goes wrong, and the nearest right word."""
    key = _KEY.match(text, len(text) - len(text.lstrip()))
    if key is None:
        raise _wrong(text, len(text) - len(text.lstrip()), "begins with no name of a label or metric")
    operator, begin = _operator(text, key.end())
    if operator in ("in", "not in"):
        return Constraint(key.group(), operator, _list(text, begin, operator))
    value = _VALUE.match(text, begin)
    if value is None:
        raise _wrong(text, begin, f"has no value that can stand after {operator!r}")
    word = _unquoted(value)
    if operator[0] in "<>" and _number(word) is None:
        raise _wrong(text, value.start() + 1, f"compares with {word!r}, which is not a number")
    return Constraint(key.group(), operator, (word,))


def check(texts: Sequence[str], known: Iterable[str] = (), place: str = "constraints") -> tuple[Constraint, ...]:
    """Read a job's constraints. Raises Invalid, naming ``constraints[1]``, where one can't be read, names a key that is
    not among ``known`` (if any are), or can't hold together with another."""
    read: list[Constraint] = []
    names = set(known)
    for number, text in enumerate(texts):
        try:
            one = parse(text)
        except Invalid as error:
            raise Invalid(error.message, hint=error.hint, place=f"{place}[{number}]") from None
        if names and one.key not in names:
            raise Invalid(
                f"No site has a label or metric {one.key!r}.", place=f"{place}[{number}]", hint=nearest(one.key, names)
            )
        for earlier, other in enumerate(read):
            if other.key == one.key and _exclude(other, one):
                raise Invalid(
                    f"'{one}' contradicts {place}[{earlier}], '{other}': nothing meets both.",
                    place=f"{place}[{number}]",
                    hint="Leave one of them out.",
                )
        read.append(one)
    return tuple(read)


def _operator(text: str, at: int) -> tuple[str, int]:
    """The operator that stands after the key, and where it ends."""
    begin = at + len(text[at:]) - len(text[at:].lstrip())
    signs = _SIGNS.match(text, begin)
    if signs:
        operator = _SAME.get(signs.group(), signs.group())
        if operator not in _OPERATORS:
            raise _wrong(text, begin, f"has no operator {signs.group()!r}")
        return operator, signs.end()
    word = _WORD.match(text, begin)
    if word is None:
        raise _wrong(text, begin, "has no operator")
    first = word.group().lower()
    second = _WORD.match(text, word.end() + len(text[word.end() :]) - len(text[word.end() :].lstrip()))
    follows = second.group().lower() if second else ""
    if first == "is":
        return ("is not", second.end()) if second and follows == "not" else ("is", word.end())
    if first == "in":
        return "in", word.end()
    if first == "not" and second and follows == "in":
        return "not in", second.end()
    raise _wrong(text, begin, f"has no operator {word.group()!r}", nearest(first, ("is", "is not", "in", "not in")))


def _list(text: str, at: int, operator: str) -> tuple[str, ...]:
    rest = text[at:].strip()
    if not (rest.startswith("(") and rest.endswith(")")):
        raise _wrong(text, at, f"needs its values in parentheses after {operator!r}")
    values = []
    for part in rest[1:-1].split(","):
        value = _VALUE.match(part)
        if value is None:
            raise _wrong(text, text.find("(", at), "has an empty or unreadable value in its list")
        values.append(_unquoted(value))
    return tuple(values)


def _unquoted(value: re.Match[str]) -> str:
    return next(group for group in value.group("double", "single", "plain") if group is not None)


def _wrong(text: str, at: int, why: str, hint: str = "") -> Invalid:
    return Invalid(f"{text!r} is not a constraint: it {why} (column {at + 1}).", hint=f"{hint} {_HINT}".strip())


def _exclude(one: Constraint, other: Constraint) -> bool:
    """Whether nothing can meet both."""
    for first, second in ((one, other), (other, one)):
        if first.operator in ("is", "in"):
            if second.operator in ("is", "in"):
                pairs = [(value, wanted) for value in first.values for wanted in second.values]
                return not any(_same(_guess(value), wanted) or _same(_guess(wanted), value) for value, wanted in pairs)
            return not any(second.holds(_guess(value)) for value in first.values)
    low, low_closed, high, high_closed = -math.inf, True, math.inf, True
    for each in (one, other):
        if each.operator[0] not in "<>":
            return False  # only negations: something is always left
        bound, closed = float(each.values[0]), each.operator.endswith("=")
        if each.operator[0] == ">" and (bound, not closed) > (low, not low_closed):
            low, low_closed = bound, closed
        if each.operator[0] == "<" and (bound, closed) < (high, high_closed):
            high, high_closed = bound, closed
    return low > high or (low == high and not (low_closed and high_closed))


def _guess(value: str) -> Label:
    """A value of a constraint as a label: a number, or true or false, where it looks like one."""
    if value.lower() in ("true", "yes", "false", "no"):
        return value.lower() in ("true", "yes")
    number = _number(value)
    return value if number is None else number


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
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(label: Label) -> str:
    if isinstance(label, bool):
        return str(label).lower()
    return f"{label:g}" if isinstance(label, float) else str(label)
