"""Calls that are more than one call of one function: reductions, alternatives, transformations, jobs."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks.constraints import Unmet, resources, units
from isthmus.tasks.declaration import Task
from isthmus.tasks.directions import COLLECTION
from isthmus.tasks.transformations import of_call

NOTHING = object()


def wanted(task: Task) -> bool:
    """Whether a call of the task needs a look here."""
    return bool(
        task.options.chunk_size
        or task.alternatives
        or task.transforms is not None
        or hasattr(type(task.kind), "COUNTS")
    )


def before(
    program: Any, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Task, tuple[Any, ...], Mapping[str, Any], Any]:
    """The call to make instead, or its result."""
    if task.transforms is not None:
        kwargs, asked = of_call(task, kwargs)
        for transform in (*asked, *reversed(task.transforms)):
            args, kwargs = transform.apply(task, args, kwargs)
    if task.alternatives:
        task = _possible(program, task)
    task = _counted(task)
    if task.options.chunk_size:
        return task, args, kwargs, _reduce(program, task, args, kwargs)
    return task, args, kwargs, NOTHING


def _possible(program: Any, task: Task) -> Task:
    """The first implementation whose constraints this machine can meet; the task itself where it can meet none."""
    for candidate in (task, *task.alternatives):
        with suppress(Invalid):
            units(candidate, {}, program.engine.workers)
            return candidate
    return task


def _reduce(program: Any, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A tree of calls, each of at most `chunk_size` elements."""
    shape, size = task.shape, task.options.chunk_size
    name = next((n for n, how in shape.parameters.items() if how.kind == COLLECTION and not how.writes), None)
    if name is None:
        raise Invalid(
            f"{task.name} is a reduction, but takes no COLLECTION_IN.", hint="Declare the collection's direction."
        )
    given = dict(zip(shape.names, args, strict=False)) | dict(kwargs)
    whole = task.options.chunk_size
    plain = _plain(task)
    elements = list(program.wait_on(given[name]) if not isinstance(given[name], list | tuple) else given[name])
    while len(elements) > whole:
        step: list[Any] = []
        for begin in range(0, len(elements), size):
            chunk = elements[begin : begin + size]
            step.append(chunk[0] if len(chunk) == 1 else program.call(plain, (), {**given, name: chunk}))
        elements = step
    return program.call(plain, (), {**given, name: elements})


def as_job(program: Any, task: Task, given: Mapping[str, Any], unmet: Unmet) -> Task:
    """The same task as a job of the platform, which may have what this machine lacks. Raises `unmet` without one."""
    from isthmus.tasks.jobs import server_answers

    if not (program.has_jobs or server_answers()):
        raise unmet
    needed = resources(task, given) or {"cpus": 1}
    return _variant(task, needed, options=replace(task.options, resources=needed))


def _counted(task: Task) -> Task:
    """The task with the values that globals of the program have now, where its kind counts by their names.

    A worker has the values that they had when it began.
    """
    kind, known = task.kind, task.function.__globals__
    found = {}
    for field in getattr(type(kind), "COUNTS", ()):
        name = getattr(kind, field)
        if isinstance(name, str) and name in known and name not in task.shape.index:
            found[field] = known[name]
    return _variant(task, found, kind=replace(kind, **found)) if found else task


def _plain(task: Task) -> Task:
    """The same task, without its reduction: a call of it is one call."""
    return _variant(task, "plain", options=replace(task.options, chunk_size=0))


def _variant(task: Task, name: Any, **changes: Any) -> Task:
    """The same task but for these changes; made once for each name."""
    known: dict[str, Task] = task.__dict__.setdefault("_variants", {})
    found = known.get(repr(name))
    if found is None:
        found = Task(task.function, changes.get("options", task.options), task.declared)
        found.constraints, found.around = task.constraints, task.around
        found.kind = changes.get("kind", task.kind)
        found.stands_for = task
        known[repr(name)] = found
    return found
