"""Decorators above `@task` that change what is declared: failure policy, reduction, alternatives, locality, I/O."""

import importlib
from collections.abc import Callable
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import POLICIES, Task, declare


def _task(thing: Any) -> Task:
    return thing if isinstance(thing, Task) else declare(thing, {})


def on_failure(*, management: str, **defaults: Any) -> Callable[[Any], Task]:
    """What happens when the task fails:

    RETRY, FAIL, IGNORE (with values for its parameters and `returns`), CANCEL_SUCCESSORS.
    """
    if management not in POLICIES:
        raise Invalid(f"{management!r} is no failure policy.", place="@on_failure", hint=nearest(management, POLICIES))
    return lambda thing: _task(thing).redeclare(on_failure=management, defaults=defaults)


def reduction(*, chunk_size: Any = 0, is_reduce: bool = True) -> Callable[[Any], Task]:
    """Call the task on chunks of its collection, and on their results, until one value is left.

    The collection is the task's first parameter that is one; the operation must be associative.
    """
    import os

    size = os.path.expandvars(chunk_size) if isinstance(chunk_size, str) else chunk_size
    try:
        number = int(size)
    except (TypeError, ValueError):
        raise Invalid(f"{chunk_size!r} is no size of chunks.", place="@reduction: chunk_size") from None
    if number < 0 or number == 1:
        raise Invalid(
            f"{number} is no size of chunks.", place="@reduction: chunk_size", hint="2 or more; 0 for all at once."
        )
    return lambda thing: _task(thing).redeclare(chunk_size=number if is_reduce else 0, is_reduce=is_reduce)


def implement(*, method: str, source_class: str = "", sourceClass: str = "") -> Callable[[Any], Task]:
    """This task is another way to do what `method` of `source_class` does:

    the first whose constraints can be met is taken. `sourceClass`: as older programs spell it.
    """
    source_class = source_class or sourceClass
    if not source_class:
        raise Invalid("@implement needs source_class: the module or class of what it stands for.", place="@implement")

    def mark(thing: Any) -> Task:
        task = _task(thing)
        task.redeclare()
        _alternatives.append((source_class, method, task))
        found = _find(source_class, method)
        if found is not None:
            found.alternatives.append(task)
            found.redeclare()
        return task

    return mark


_alternatives: list[tuple[str, str, Task]] = []


def _find(module: str, name: str) -> Task | None:
    import sys

    place: Any = sys.modules.get(module)
    if place is None and "." in module:
        outer, _, last = module.rpartition(".")
        place = getattr(sys.modules.get(outer), last, None)
    if place is None:
        try:
            place = importlib.import_module(module)
        except ImportError:
            return None
    found = getattr(place, name, None)
    return found if isinstance(found, Task) else None


def alternatives(task: Task) -> list[Task]:
    """The task's other implementations: those declared before it was there, too."""
    for source, name, other in list(_alternatives):
        here = (task.function.__module__, task.name.rpartition(".")[0])
        is_new = other not in task.alternatives and other is not task
        if is_new and name == task.function.__name__ and source in here:
            task.alternatives.append(other)
    return task.alternatives


def local(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the program itself, called with values: futures among its arguments are waited for."""
    import functools

    from isthmus.tasks.current import current

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        program = current()
        values = [program.wait_on(value) for value in args]
        named = {name: program.wait_on(value) for name, value in kwargs.items()}
        return function(*values, **named)

    return call


def io(*args: Any) -> Any:
    """The task only reads and writes: it takes no processor."""
    if args and callable(args[0]):
        return _io(args[0])
    return _io


def _io(thing: Any) -> Task:
    task = _task(thing)
    task.constraints = {**task.constraints, "computing_units": 0}
    return task.redeclare()
