"""`{{parameter}}` and `${VARIABLE}` in the strings of a declaration, filled in where the task runs."""

import glob
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.directions import DIRECTORY, FILE, FILE_COLLECTION
from isthmus.tasks.expressions import evaluate

_WILD = re.compile(r"[*?[]")
_PARAMETER = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


def given(task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The call's arguments by name, in the order of the parameters."""
    shape = task.shape
    values = dict(zip(shape.names, args, strict=False))
    rest = args[len(shape.names) :]
    values.update({f"{shape.varargs}{number}": value for number, value in enumerate(rest)})
    for name, default in shape.defaults.items():
        if name not in values and name not in kwargs:
            values[name] = default
    return {**values, **kwargs}


def placed(task: Task, values: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The arguments for a command that runs in `folder`: where one is named, paths of files are absolute."""
    if not folder:
        return dict(values)

    def path(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [path(item) for item in value]
        return value if value is None else os.path.abspath(value)

    kinds = {name: how.kind for name, how in task.shape.parameters.items()}
    files = (FILE, DIRECTORY, FILE_COLLECTION)
    return {name: path(value) if kinds.get(name) in files else value for name, value in values.items()}


def fill(text: str, values: Mapping[str, Any], task: Task) -> str:
    """The text with parameters and variables filled in. Raises Invalid for a parameter that there is not."""
    # Variables first: a parameter's value that has a $ in it stays what it is.
    return _filled(os.path.expandvars(text), values, task)


def _filled(text: str, values: Mapping[str, Any], task: Task) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            raise Invalid(
                f"{{{{{name}}}}} names no parameter of {task.name}.",
                place=place_of(task.function),
                hint=nearest(name, values),
            )
        return show(values[name])

    return _PARAMETER.sub(value, text)


def listed(text: str, values: Mapping[str, Any], task: Task, folder: str | None = None) -> list[str]:
    """The words of a command line, split as a shell would, filled in.

    A parameter's value stays one word, whatever stands in it; that of a list is a word for each item. A variable of
    the environment may hold several. With `folder`, wildcards that are not quoted stand for what they match there.
    """
    found: list[str] = []
    expanded = os.path.expandvars(text)
    try:
        split = shlex.split(expanded)
    except ValueError as error:
        raise Invalid(
            f"{text!r} of {task.name} can't be split into words: {error}.", place=place_of(task.function)
        ) from None
    quoted = shlex.split(expanded, posix=False)
    for place, word in enumerate(split):
        if folder is not None and place < len(quoted) and quoted[place] == word and _WILD.search(word):
            found += sorted(glob.glob(word, root_dir=folder or None)) or [word]
            continue
        alone = _PARAMETER.fullmatch(word)
        value = values.get(alone[1]) if alone else None
        if isinstance(value, list | tuple):
            found += [show(item) for item in value]
        else:
            found.append(_filled(word, values, task))
    return found


def show(value: Any) -> str:
    """A value as a word of a command."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(show(item) for item in value)
    return str(value)


def whole(value: Any, values: Mapping[str, Any], task: Task, name: str) -> int:
    """A number that is written as one, as a string, a variable, or a parameter's name."""
    if isinstance(value, str):
        text = fill(value, values, task)
        found = text if text.isdigit() else evaluate(text, values, task.function.__globals__)
    else:
        found = value
    try:
        number = int(found)
    except (TypeError, ValueError):
        raise Invalid(f"{name}={value!r} of {task.name} is no whole number.", place=place_of(task.function)) from None
    if number < 1:
        raise Invalid(f"{name}={value!r} of {task.name} is less than 1.", place=place_of(task.function))
    return number
