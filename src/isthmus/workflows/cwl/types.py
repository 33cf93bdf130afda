"""CWL's types: read from a document, matched against values, compared where a link joins two."""

from collections.abc import Mapping
from typing import Any

from isthmus.workflows.cwl.model import ArrayType, EnumType, RecordType, Type, UnionType

NUMBERS = ("int", "long", "float", "double")
PRIMITIVES = frozenset({"null", "boolean", *NUMBERS, "string", "File", "Directory", "Any"})
STREAMS = frozenset({"stdin", "stdout", "stderr"})
INT_MAX = 2**31


def options(kind: Type) -> tuple[Type, ...]:
    """The types that a type allows."""
    return kind.options if isinstance(kind, UnionType) else (kind,)


def optional(kind: Type) -> bool:
    """Whether null is allowed."""
    return any(each in ("null", "Any") or (isinstance(each, UnionType) and optional(each)) for each in options(kind))


def matches(kind: Type, value: Any) -> bool:
    """Whether a value is of a type."""
    if isinstance(kind, UnionType):
        return any(matches(each, value) for each in kind.options)
    if isinstance(kind, ArrayType):
        return isinstance(value, list) and all(matches(kind.items, each) for each in value)
    if isinstance(kind, EnumType):
        return isinstance(value, str) and value in kind.symbols
    if isinstance(kind, RecordType):
        return isinstance(value, Mapping) and all(
            matches(field.type, value.get(name)) or (value.get(name) is None and bool(field.default))
            for name, field in kind.fields.items()
        )
    return _primitive(kind, value)


def _primitive(kind: str, value: Any) -> bool:
    if kind == "Any":
        return value is not None
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind in ("File", "Directory"):
        return isinstance(value, Mapping) and value.get("class") == kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind in ("float", "double"):
        return True
    if isinstance(value, float) and not value.is_integer():
        return False
    return kind == "long" or -INT_MAX <= value < INT_MAX


def chosen(kind: Type, value: Any) -> Type | None:
    """The first of a type's options that a value is of."""
    for each in options(kind):
        if isinstance(each, UnionType):
            found = chosen(each, value)
            if found is not None:
                return found
        elif matches(each, value):
            return each
    return None


def told(kind: Type) -> str:
    """A type as people write it."""
    if isinstance(kind, UnionType):
        rest = [each for each in kind.options if each != "null"]
        if len(rest) == 1 and len(kind.options) == 2:
            return told(rest[0]) + "?"
        return " or ".join(told(each) for each in kind.options)
    if isinstance(kind, ArrayType):
        inner = told(kind.items)
        return f"({inner})[]" if " " in inner else f"{inner}[]"
    if isinstance(kind, EnumType):
        return "one of " + ", ".join(kind.symbols)
    if isinstance(kind, RecordType):
        return "a record of " + ", ".join(kind.fields)
    return kind


def told_value(value: Any) -> str:
    """A value's type as people would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    return f"a {value['class']}" if isinstance(value, Mapping) and "class" in value else "a record"


def joins(source: Type, sink: Type) -> bool:
    """Whether some value of the one type could be a value of the other: a link between them makes sense."""
    return any(_joins(each, other) for each in options(source) for other in options(sink))


def _joins(source: Type, sink: Type) -> bool:
    if isinstance(source, UnionType) or isinstance(sink, UnionType):
        return joins(source, sink)
    if source == "Any" or sink == "Any":
        return "null" not in (source, sink) or source == sink or "Any" in (source,)
    if isinstance(source, ArrayType) and isinstance(sink, ArrayType):
        return joins(source.items, sink.items)
    if isinstance(source, RecordType) and isinstance(sink, RecordType):
        return all(
            optional(field.type) or (name in source.fields and joins(source.fields[name].type, field.type))
            for name, field in sink.fields.items()
        )
    if isinstance(source, EnumType):
        return sink == "string" or isinstance(sink, EnumType)
    if isinstance(sink, EnumType):
        return source == "string"
    if source in NUMBERS and sink in NUMBERS:
        return not (source in ("float", "double") and sink in ("int", "long"))
    return source == sink
