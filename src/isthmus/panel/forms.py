"""Forms made from dataclasses: which field is shown how, and how what was typed becomes plain data again.

A field's name in the form is its place in the type, written as errors write it (`resources.cpus`, `inputs[0].path`), so
that a fault is shown at its field whatever it is. What is empty is left out: the type's default holds.
"""

import dataclasses
import re
import shlex
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from starlette.datastructures import MultiDict

from isthmus.documents import written
from isthmus.domain.errors import Invalid
from isthmus.domain.units import Bytes, Seconds, show_bytes, show_seconds
from isthmus.panel import fields

ROW = re.compile(r"^(?P<list>[a-z_.]+)\[(?P<row>\d+)\]\.(?P<field>[a-z_]+)$")
MAX_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form. ``name`` is its place in the type."""

    name: str
    kind: str  # text, number, size, span, flag, choice, choices, moment, lines, words, pairs, yaml, group, rows
    label: str
    default: Any = None
    choices: tuple[str, ...] = ()
    fields: tuple["Field", ...] = ()  # of a group, or of each row


def fields_of(kind: Any, prefix: str = "") -> tuple[Field, ...]:
    """The fields of a dataclass, in its order."""
    hints = get_type_hints(kind)
    return tuple(_field(f"{prefix}{one.name}", hints[one.name], one) for one in dataclasses.fields(kind))


def _field(name: str, hint: Any, one: Any) -> Field:
    hint = _plain(hint)
    default = one.default if one.default is not dataclasses.MISSING else None
    label = one.name.replace("_", " ").capitalize()
    origin, arguments = get_origin(hint), get_args(hint)
    if name == "command":
        return Field(name=name, kind="words", label=label)
    if dataclasses.is_dataclass(hint):
        return Field(name=name, kind="group", label=label, fields=fields_of(hint, f"{name}."))
    if origin is Literal:
        return Field(name=name, kind="choice", label=label, default=default, choices=tuple(str(a) for a in arguments))
    if origin is tuple:
        item = _plain(arguments[0])
        if dataclasses.is_dataclass(item):
            return Field(name=name, kind="rows", label=label, fields=fields_of(item))
        if isinstance(item, type) and issubclass(item, StrEnum):
            return Field(name=name, kind="choices", label=label, choices=tuple(m.value for m in item if m.value))
        return Field(name=name, kind="lines" if item is str else "yaml", label=label)
    if origin is dict:
        pairs = arguments[1] is str
        return Field(name=name, kind="pairs" if pairs else "yaml", label=label)
    simple = {bool: "flag", int: "number", float: "number", Bytes: "size", Seconds: "span", datetime: "moment"}
    return Field(name=name, kind=simple.get(hint, "text"), label=label, default=default)


def _plain(hint: Any) -> Any:
    """Without Optional."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


# ---- from what was typed to plain data


def read(fields: Iterable[Field], typed: MultiDict) -> dict[str, Any]:
    """Plain data of what was typed, for the codec. Raises Invalid for what is not even that."""
    found: dict[str, Any] = {}
    for one in fields:
        value = _read(one, typed)
        if value not in (None, "", [], {}):
            found[one.name.rpartition(".")[2]] = value
    return found


def _read(one: Field, typed: MultiDict) -> Any:
    text = str(typed.get(one.name, "")).strip()
    match one.kind:
        case "group":
            return read(one.fields, typed)
        case "flag":
            return True if text else None
        case "choices":
            return [str(value) for value in typed.getlist(one.name) if value]
        case "lines":
            if len(typed.getlist(one.name)) > 1:
                return [str(value) for value in typed.getlist(one.name) if value]
            return [line.strip() for line in text.splitlines() if line.strip()]
        case "words":
            return _words(one.name, text)
        case "pairs":
            rows = _rows(one.name, ("name", "value"), typed)
            return {row["name"]: row["value"] for row in rows}
        case "rows":
            return [_row(one, number, row, typed) for number, row in enumerate(_indices(one.name, typed))]
        case "yaml":
            return fields.document(text, one.name) if text else None
        case "number":
            return _number(one.name, text)
        case "moment":
            return _moment(text)
        case "text" if one.name == "script":
            # Browsers end lines as they like, and trimming would cut a script's own first line.
            return str(typed.get(one.name, "")).replace("\r\n", "\n").strip("\n") + "\n" if text else ""
        case _:
            return text


def _words(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Invalid(f"{error}.", place=name, hint="Put words with blanks between quotes, as in a shell.") from None


def _number(name: str, text: str) -> int | float | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return fields.number(text, name)


def _moment(text: str) -> str:
    """As the browser's own field gives it, which is UTC here, or as a person writes it with its zone."""
    return f"{text}Z" if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", text) else text


def _row(one: Field, number: int, index: int, typed: MultiDict) -> dict[str, Any]:
    renamed = [dataclasses.replace(each, name=f"{one.name}[{index}].{each.name}") for each in one.fields]
    try:
        return {each.name.rpartition(".")[2]: value for each in renamed if (value := _read(each, typed))}
    except Invalid as error:
        error.place = error.place.replace(f"[{index}]", f"[{number}]", 1)
        raise


def _indices(name: str, typed: MultiDict) -> list[int]:
    """The rows in which something was typed."""
    found = set()
    for key, value in typed.multi_items():
        match = ROW.match(key)
        if match and match["list"] == name and str(value).strip() and not _is_preset(match["field"], str(value)):
            found.add(int(match["row"]))
    return sorted(found)[:MAX_ROWS]


def _is_preset(name: str, value: str) -> bool:
    """A choice or a mark that a row has without anybody's doing."""
    return name in ("mode", "on", "collect", "optional")


def _rows(name: str, columns: tuple[str, ...], typed: MultiDict) -> Iterator[dict[str, str]]:
    for index in _indices(name, typed):
        yield {column: str(typed.get(f"{name}[{index}].{column}", "")).strip() for column in columns}


# ---- from plain data to what would have been typed


def typed_of(fields: Iterable[Field], plain: Mapping[str, Any]) -> MultiDict:
    """What a person would have typed for this."""
    found: list[tuple[str, str]] = []
    for one in fields:
        value = plain.get(one.name.rpartition(".")[2])
        if value in (None, "", [], {}):
            continue
        found.extend(_typed(one, value))
    return MultiDict(found)


def _typed(one: Field, value: Any) -> Iterator[tuple[str, str]]:
    match one.kind:
        case "group":
            yield from typed_of(one.fields, value).multi_items()
        case "flag":
            yield one.name, "1" if value else ""
        case "choices":
            yield from ((one.name, str(each)) for each in value)
        case "lines":
            yield one.name, "\n".join(map(str, value))
        case "words":
            yield one.name, shlex.join(value)
        case "pairs":
            for number, (name, text) in enumerate(value.items()):
                yield f"{one.name}[{number}].name", str(name)
                yield f"{one.name}[{number}].value", str(text)
        case "rows":
            for number, row in enumerate(value):
                renamed = [dataclasses.replace(each, name=f"{one.name}[{number}].{each.name}") for each in one.fields]
                yield from typed_of(renamed, row).multi_items()
        case "yaml":
            yield one.name, written(value)
        case "size":
            yield one.name, _exact_bytes(int(value))
        case "span":
            yield one.name, _exact_seconds(int(value))
        case _:
            yield one.name, str(value)


def _exact_bytes(size: int) -> str:
    shown = show_bytes(size).replace(" ", "")
    return shown if Bytes.parse(shown) == size else str(size)


def _exact_seconds(span: int) -> str:
    shown = show_seconds(span)
    return shown if Seconds.parse(shown) == span else str(span)


# ---- a form as a page shows it


@dataclass(slots=True)
class Filled:
    """What was typed, and what is wrong with it."""

    typed: MultiDict
    faults: dict[str, str] = field(default_factory=dict)  # place -> what is wrong there
    more: str = ""  # the list that is to have more empty rows

    def value(self, name: str, default: Any = "") -> str:
        found = self.typed.get(name)
        return str(found) if found is not None else "" if default is None else str(default)

    def has(self, name: str, value: str) -> bool:
        """Whether this is among what was chosen."""
        chosen = [line for text in self.typed.getlist(name) for line in str(text).splitlines()]
        return value in chosen

    def used(self) -> frozenset[str]:
        """The first words of the fields in which something stands or is wrong: their sections are to be open."""
        filled = [name for name, value in self.typed.multi_items() if value and not name.startswith("shown:")]
        return frozenset(re.split(r"[.\[]", name)[0] for name in [*filled, *self.faults, self.more])

    def fault(self, name: str, *, below: bool = False) -> str:
        """What is wrong with a field, or with anything within it."""
        if name in self.faults:
            return self.faults[name]
        if below:
            inside = (text for place, text in self.faults.items() if place.startswith((f"{name}[", f"{name}.")))
            return next(inside, "")
        return ""

    def rows(self, name: str, least: int = 1) -> range:
        """The numbers of the rows to show: those filled in, and an empty one."""
        filled = _indices(name, self.typed)
        extra = 3 if self.more == name else least
        return range(max(filled, default=-1) + 1 + extra)

    def pair_fault(self, name: str, row: int) -> str:
        """What is wrong with one of a list of names and values: faults name it by its name."""
        return self.fault(f"{name}.{self.value(f'{name}[{row}].name').strip()}")


def compacted(fields: Iterable[Field], typed: MultiDict) -> MultiDict:
    """The same without empty rows between others: then a fault's row is the form's."""
    lists = [one.name for one in fields if one.kind in ("rows", "pairs")]
    numbers = {name: {index: number for number, index in enumerate(_indices(name, typed))} for name in lists}
    found: list[tuple[str, str]] = []
    for key, value in typed.multi_items():
        match = ROW.match(key)
        if match is None or match["list"] not in numbers:
            found.append((key, value))
        elif int(match["row"]) in numbers[match["list"]]:
            found.append((f"{match['list']}[{numbers[match['list']][int(match['row'])]}].{match['field']}", value))
    return MultiDict(found)


def faults_of(error: Invalid) -> dict[str, str]:
    """Each fault of an error by its place."""
    each = error.faults or (error,)
    return {fault.place: f"{fault.message} {fault.hint}".strip() for fault in each}
