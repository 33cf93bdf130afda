"""`@task`. As in PyCOMPSs, a task that a task calls runs where it is called, and `return a, b` gives two values.

Unless ISTHMUS_TASKS_NESTED, @task(nested=True), or @task(spreads=False) say otherwise.
"""

import warnings
from collections.abc import Callable, Mapping
from inspect import Parameter as Argument
from inspect import signature
from typing import Any

from isthmus.domain.errors import nearest
from isthmus.tasks import declaration
from isthmus.tasks.declaration import Task
from isthmus.tasks.directions import Parameter

_OURS = {"nested": False, "spreads": True}


def task(*args: Any, **given: Any) -> Any:
    """Mark a function: see `isthmus.tasks.task`. The direction of a parameter that there is not is warned of only."""
    if len(args) == 1 and not given and callable(args[0]):
        return declaration.declare(args[0], _OURS)
    if args:
        return declaration.task(*args)  # which says what is wrong
    return lambda function: declaration.declare(function, {**_OURS, **_known(function, given)})


def _known(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given but for directions of nothing, which programs of PyCOMPSs have left over."""
    arguments = signature(function).parameters
    if any(argument.kind in (Argument.VAR_POSITIONAL, Argument.VAR_KEYWORD) for argument in arguments.values()):
        return dict(given)
    left = [word for word, value in given.items() if isinstance(value, Parameter) and word not in arguments]
    for word in left:
        warnings.warn(
            f"{word!r} is no parameter of {function.__qualname__}: its direction says nothing. "
            f"{nearest(word, arguments) or ''}".strip(),
            stacklevel=3,
        )
    return {word: value for word, value in given.items() if word not in left}


__all__ = ["Task", "task"]
