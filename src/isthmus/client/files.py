"""Jobs and sites written as YAML (or JSON) files: what is wrong is told with the file's line.

``job.yaml:7: resources.gpu: There is no field 'gpu' here. Did you mean 'gpus'?``
"""

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml

from isthmus import codec
from isthmus.documents import RESOLVERS, read_text
from isthmus.domain.errors import Invalid

T = TypeVar("T")

MAX_BYTES = 32 << 20


class _Loader(yaml.SafeLoader):
    """YAML without the surprises: no timestamps, octals or yes and no in place of texts; no repeated names."""


_Loader.yaml_implicit_resolvers = RESOLVERS


def read(kind: type[T], path: Path, **given: Any) -> T:
    """A `kind` from a file; `given` stand over what it says. Raises Invalid with the file and, if known, the line."""
    node, value = parse(path)
    if not isinstance(value, dict):
        raise Invalid(
            "It holds no names and values.", place=f"{path}:1", hint="Write it like `command: [python, train.py]`."
        )
    try:
        return codec.read(kind, {**value, **given})
    except Invalid as error:
        raise at(path, node, error) from None


def parse(path: Path) -> tuple[yaml.Node | None, Any]:
    """The YAML of a file, as its tree and as plain data. Raises Invalid."""
    text = read_text(path, most_bytes=MAX_BYTES)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _refuse_repeated(path, node)
            value = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        raise Invalid(f"This is not YAML: {error.problem}.", place=f"{path}:{line}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise Invalid(f"This is not YAML: {error}.", place=str(path)) from None
    return node, value


def value(text: str) -> Any:
    """What a text would be as a value in a file: a number, a truth, a list. Raises Invalid."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError):
        raise Invalid(f"{text!r} is no YAML value.", hint="Put it in quotes.") from None


def at(path: Path, node: yaml.Node | None, error: Invalid) -> Invalid:
    """The same error, with the file and the line of its place."""
    line = _line(node, error.place)
    place = f"{path}:{line}" if line else str(path)
    if error.place:
        place += f": {error.place}"
    return Invalid(error.message, place=place, hint=error.hint, code=error.code, faults=error.faults)


def _line(node: yaml.Node | None, place: str) -> int:
    """The line of a place such as ``inputs[0].path``, or of as much of it as the file has; 0 where it has none."""
    line = 0
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        if index and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line + 1
        elif name and isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == name), None)
            if pair is None:
                break
            line = pair[0].start_mark.line + 1
            node = pair[1]
        else:
            break
    return line


def _refuse_repeated(path: Path, node: yaml.Node | None) -> None:
    """Raise Invalid where a mapping has a name twice: YAML would silently take the last."""
    waiting = [node] if node is not None else []
    seen_nodes: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen_nodes:
            continue
        seen_nodes.add(id(one))
        if isinstance(one, yaml.SequenceNode):
            waiting.extend(one.value)
        elif isinstance(one, yaml.MappingNode):
            names: dict[str, int] = {}
            for key, value in one.value:
                waiting.append(value)
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in names:
                        raise Invalid(
                            f"{key.value!r} stands here twice: on line {names[key.value]} too.", place=f"{path}:{line}"
                        )
                    names[key.value] = line
