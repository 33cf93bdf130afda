"""Between JSON or YAML and the domain's dataclasses, by pydantic; what is wrong is told in readable lines.

`read` and `read_json` give a value of the type or raise one Invalid that names the place and, where there is one,
the nearest right word. `write_json` and `to_plain` go the other way. Adapters are made once for each type.
"""

import dataclasses
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from isthmus.domain.errors import Invalid, nearest

T = TypeVar("T")

Loc = Sequence[int | str]

_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escaped null character, not an escaped backslash and u0000
_PLAIN = frozenset({"str", "int", "float", "bool"})  # how pydantic names the members of a union of them
_TAGS = frozenset({"one", "many"})  # of `OneOrMany` unions: part of pydantic's place, not of what was written


_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a type, made once."""
    found = _adapters.get(kind)
    if found is None:
        found = _adapters[kind] = TypeAdapter(kind)
    return found


def read(kind: type[T], value: Any) -> T:
    """A `kind` from plain data (dicts, lists, texts). Raises Invalid."""
    try:
        return cast(T, adapter(kind).validate_python(value))
    except ValidationError as error:
        raise invalid(kind, error.errors(include_url=False, include_context=True)) from None


def read_json(kind: type[T], text: bytes | str) -> T:
    """A `kind` from JSON. Raises Invalid."""
    refuse_null(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    try:
        return cast(T, adapter(kind).validate_json(text))
    except ValidationError as error:
        raise invalid(kind, error.errors(include_url=False, include_context=True)) from None


def write_json(value: Any, kind: Any = None) -> bytes:
    """`value` as JSON; `kind` is its type where the value's own class does not tell it (lists, unions)."""
    return adapter(kind if kind is not None else type(value)).dump_json(value)


def to_plain(value: Any, kind: Any = None) -> Any:
    """`value` as plain data that JSON and YAML can hold."""
    return adapter(kind if kind is not None else type(value)).dump_python(value, mode="json")


def changed(value: Any) -> Any:
    """Like `to_plain`, without what is at its default: what a person would have written."""
    return adapter(type(value)).dump_python(value, mode="json", exclude_defaults=True)


def refuse_null(text: bytes) -> None:
    """Raise Invalid if JSON text holds a null character: no database, program or path takes it."""
    if b"\\u0000" in text and _NULL.search(text):
        raise Invalid("There is a null character in it, which no program or path can take.", place="body")


def invalid(kind: Any, errors: Iterable[ErrorDetails | Mapping[str, Any]]) -> Invalid:
    """One Invalid that says what pydantic found; with several faults the first is told, and all are in `faults`."""
    faults = tuple(_fault(kind, error) for error in _merged(errors))
    first = faults[0]
    more = len(faults) - 1
    message = first.message + (f" (And {more} more.)" if more else "")
    return Invalid(message, place=first.place, hint=first.hint, code=first.code, faults=faults)


def place_of(loc: Loc) -> str:
    """``("inputs", 0, "path")`` as people write it: ``inputs[0].path``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part == "[key]":
            continue
        else:
            text += f".{part}" if text else part
    return text


def fields_at(kind: Any, loc: Loc) -> list[str]:
    """The names that may stand at `loc` of a `kind`; none where it is not a dataclass."""
    for part in loc:
        kind = _below(kind, part)
        if kind is None:
            return []
    owner = _plain(kind)
    return [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []


def _below(kind: Any, part: int | str) -> Any:
    kind = _plain(kind, many=isinstance(part, int))
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind, include_extras=True).get(str(part))
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return arguments[1]
    if get_origin(kind) in (tuple, list):
        return arguments[0]
    return None


def _plain(kind: Any, many: bool = False) -> Any:
    """`kind` without Annotated and Optional; of a union, the member that is (or is not) a sequence."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    if get_origin(kind) in (Union, types.UnionType):
        members = [_plain(member) for member in get_args(kind) if member is not type(None)]
        fitting = [m for m in members if (get_origin(m) in (tuple, list)) == many]
        return fitting[0] if fitting else members[0]
    return kind


def _merged(errors: Iterable[ErrorDetails | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The errors, with those of the members of a union of plain types told once."""
    found: dict[tuple[int | str, ...], list[Mapping[str, Any]]] = {}
    for each in errors:
        error = cast(Mapping[str, Any], each)
        loc = tuple(error["loc"])
        place = loc[:-1] if loc and loc[-1] in _PLAIN else loc
        found.setdefault(place, []).append(error)
    told: list[Mapping[str, Any]] = []
    for place, same in found.items():
        if len(same) > 1 and all(error["loc"][-1] in _PLAIN for error in same):
            told.append({"type": "union", "loc": place, "input": same[0].get("input"), "msg": ""})
        else:
            told.extend(same)
    return told


def _fault(kind: Any, error: Mapping[str, Any]) -> Invalid:
    loc = [part for part in error["loc"] if part not in _TAGS]
    message, hint = _say(kind, loc, error)
    return Invalid(message, place=place_of(loc), hint=hint)


def _say(kind: Any, loc: Loc, error: Mapping[str, Any]) -> tuple[str, str]:
    """The sentence and the hint for one of pydantic's errors."""
    given = error.get("input")
    context = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            known = fields_at(kind, loc[:-1])
            return f"There is no field {_short(loc[-1])} here.", nearest(str(loc[-1]), known)
        case "missing" | "missing_argument":
            return "It is missing.", ""
        case "enum" | "literal_error":
            return f"{_short(given)} is not one of the choices.", _choices(kind, loc, given, context)
        case "value_error":
            return _sentence_and_hint(str(context.get("error", error["msg"])))
        case "json_invalid":
            return f"This is not JSON: {context.get('error', '')}.", ""
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{_short(given)} is not a whole number.", ""
        case "float_parsing" | "float_type" | "finite_number":
            return f"{_short(given)} is not a number.", ""
        case "bool_parsing" | "bool_type":
            return f"{_short(given)} is not true or false.", ""
        case "union":
            return f"{_short(given)} is not a text, a number, true or false.", ""
        case "string_type":
            return f"{_short(given)} is not a text.", "Put it between quotes." if _is_plain(given) else ""
        case "tuple_type" | "list_type" | "frozen_set_type":
            return f"{_short(given)} is not a list.", "Write it like [a, b]."
        case "dict_type" | "dataclass_type" | "dataclass_exact_type" | "model_attributes_type":
            return f"{_short(given)} is not a set of names and values.", ""
        case "string_too_long":
            return f"It is longer than {context.get('max_length')} characters.", ""
        case "string_pattern_mismatch":
            return f"{_short(given)} is not written as it must be.", f"It must match {context.get('pattern')}."
        case "greater_than_equal":
            return f"{_short(given)} is too small.", f"It must be {context.get('ge')} or more."
        case "less_than_equal":
            return f"{_short(given)} is too large.", f"It must be {context.get('le')} or less."
        case "datetime_parsing" | "datetime_from_date_parsing" | "datetime_type" | "timezone_aware":
            return f"{_short(given)} is not a time.", "Write it like 2030-01-31T12:00:00Z."
        case _:
            text = str(error["msg"])
            return text[:1].upper() + text[1:].rstrip(".") + ".", ""


def _choices(kind: Any, loc: Loc, given: Any, context: Mapping[str, Any]) -> str:
    target = kind
    for part in loc:
        target = _below(target, part)
    target = _plain(target)
    if get_origin(target) is Literal:
        known = [str(choice) for choice in get_args(target) if choice != ""]
    elif isinstance(target, type) and hasattr(target, "__members__"):
        known = [str(member.value) for member in cast(Any, target) if member.value != ""]
    else:
        known = re.findall(r"'([^']+)'", str(context.get("expected", "")))
    found = nearest(str(given), known)
    if found.startswith("There is"):
        return "The choices are: " + ", ".join(known) + "."
    return found or "The choices are: " + ", ".join(known) + "."


def _sentence_and_hint(text: str) -> tuple[str, str]:
    """Split what a type of ours says (`'x' is not a size. Write it like 4G.`) at its first sentence's end."""
    sentence, dot, hint = text.partition(". ")
    return (sentence + ".", hint) if dot else (text, "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | bool)
