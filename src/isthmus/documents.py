"""YAML and JSON documents that remember where each value is written, read and written by YAML 1.2's core schema.

No surprises of YAML 1.1: no dates, octals, or yes and no in place of texts; a name that stands twice is refused.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from isthmus.domain.errors import Invalid, nearest

# Numbers and true or false are what JSON says they are.
RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("merge", r"^<<$", "<"),
):
    for _char in _first:
        RESOLVERS.setdefault("" if _char == "\0" else _char, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(_pattern))
        )


class Map(dict[str, Any]):
    """A mapping with the file and lines that it was read from."""

    __slots__ = ("file", "line", "lines")

    def __init__(self, values: Any = (), *, file: str = "", line: int = 0, lines: dict[str, int] | None = None) -> None:
        super().__init__(values)
        self.file = file
        self.line = line
        self.lines = lines or {}


class Seq(list[Any]):
    """A sequence with the file and lines that it was read from."""

    __slots__ = ("file", "line", "lines")

    def __init__(self, values: Any = (), *, file: str = "", line: int = 0, lines: list[int] | None = None) -> None:
        super().__init__(values)
        self.file = file
        self.line = line
        self.lines = lines or []


def place_of(node: Any, key: str | int | None = None) -> str:
    """``file:line`` of a value, or of what stands in it under ``key``; "" where that is not known."""
    if not isinstance(node, Map | Seq) or not node.file:
        return ""
    line = node.line
    if isinstance(node, Map) and isinstance(key, str):
        line = node.lines.get(key, line)
    elif isinstance(node, Seq) and isinstance(key, int) and key < len(node.lines):
        line = node.lines[key]
    return f"{node.file}:{line}"


def _loader() -> Any:
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return type("_Loader", (base,), {"yaml_implicit_resolvers": RESOLVERS})


_Loader = _loader()


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as lines; those that YAML 1.1 or 1.2 would take for something else, in quotes."""


_Dumper.yaml_implicit_resolvers = {
    char: [*yaml.SafeDumper.yaml_implicit_resolvers.get(char, ()), *RESOLVERS.get(char, ())]
    for char in yaml.SafeDumper.yaml_implicit_resolvers.keys() | RESOLVERS.keys()
}
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def written(plain: Any) -> str:
    """Plain data in YAML, as a person would write it; `parse` gives the same back."""
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def parse(text: str, file: str) -> Any:
    """The document in a text; `file` is its name for people. Raises Invalid with the line."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        raise Invalid(f"This is not YAML: {error.problem}.", place=f"{file}:{line}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise Invalid(f"This is not YAML: {error}.", place=file) from None
    return _value(node, file, {}) if node is not None else None


def read(path: Path, *, most_bytes: int = 64 << 20) -> Any:
    """The document in a file. Raises Invalid."""
    return parse(read_text(path, most_bytes=most_bytes), str(path))


def read_text(path: Path, *, most_bytes: int = 64 << 20) -> str:
    """A file's text. Raises Invalid that says why there is none, with the nearest file."""
    try:
        if path.stat().st_size > most_bytes:
            raise Invalid("The file is too big to be a document.", place=str(path))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Invalid("There is no such file.", place=str(path), hint=nearest_file(path)) from None
    except UnicodeDecodeError as error:
        raise Invalid(
            f"It is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}.", place=str(path)
        ) from None
    except OSError as error:
        raise Invalid(f"It can't be read: {error.strerror}.", place=str(path)) from None


def nearest_file(path: Path) -> str:
    """A hint that names the nearest file beside a path that does not exist."""
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return f"There is no folder {path.parent} either."


def _value(node: Any, file: str, seen: dict[int, Any]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, file)
    if id(node) in seen:
        return seen[id(node)]  # an alias
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        sequence = Seq(file=file, line=line)
        seen[id(node)] = sequence
        for child in node.value:
            sequence.append(_value(child, file, seen))
            sequence.lines.append(child.start_mark.line + 1)
        return sequence
    found = Map(file=file, line=line)
    seen[id(node)] = found
    merged: list[Any] = []
    for key, child in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Invalid("A name must be a text here.", place=f"{file}:{key.start_mark.line + 1}")
        if key.tag.endswith(":merge"):
            value = _value(child, file, seen)
            merged += value if isinstance(value, list) else [value]
            continue
        name = key.value
        if name in found:
            raise Invalid(
                f"{name!r} stands here twice: on line {found.lines[name]} too.",
                place=f"{file}:{key.start_mark.line + 1}",
            )
        found.lines[name] = key.start_mark.line + 1
        found[name] = _value(child, file, seen)
    for each in merged:
        for name, value in each.items():
            if name not in found:
                found[name] = value
                found.lines[name] = each.lines.get(name, line)
    return found


def _scalar(node: Any, file: str) -> Any:
    kind = node.tag.rpartition(":")[2]
    text = node.value
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            number = float(text)
            # 1.23e5 is a whole number, however it is written; it is printed as one, too.
            return int(number) if "e" in text.lower() and number.is_integer() and abs(number) < 2**53 else number
    except ValueError:
        raise Invalid(f"{text!r} is no number.", place=f"{file}:{node.start_mark.line + 1}") from None
    if kind == "bool":
        return text.lower() == "true"
    return None if kind == "null" else text
