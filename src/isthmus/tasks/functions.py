"""How a worker gets hold of a task's function: by its number if it was there at the fork, by its name if it can be
imported, else by value (which cloudpickle does, where it is installed). Each is sent to a worker once.
"""

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks import declaration
from isthmus.tasks.declaration import Task, importable, load_task, place_of

Key = int | str | bytes

_names: dict[str, Task] = {}
_values: dict[bytes, Task] = {}


def newest() -> int:
    """The number of the task that was declared last."""
    return max(declaration.declared, default=0)


def key_of(task: Task, forked: int) -> tuple[Key, bytes | None]:
    """What a worker that was forked after task number `forked` knows the task by, and, by value, its pickle."""
    if task.number <= forked:
        return task.number, None
    if importable(task):
        return f"{task.function.__module__}:{task.function.__qualname__}", None
    try:
        import cloudpickle
    except ImportError:
        raise Invalid(
            f"{task.name} can't be sent to a worker: it was declared after the first task ran, and can't be imported.",
            place=place_of(task.function),
            hint="Declare it at the top of a module, or pip install cloudpickle.",
        ) from None
    payload = cloudpickle.dumps(task, 5)
    return hashlib.sha256(payload).digest(), payload


def of_key(key: Key, payload: bytes | None = None) -> Task:
    """The task of a key, in a worker."""
    if isinstance(key, int):
        return declaration.declared[key]
    if isinstance(key, str):
        task = _names.get(key)
        if task is None:
            module, _, name = key.partition(":")
            task = _names[key] = load_task(module, name)
        return task
    task = _values.get(key)
    if task is None:
        assert payload is not None
        task = _values[key] = pickle.loads(payload)
    return task


def body_of(task: Task) -> Callable[..., Any]:
    """What runs for a call of the task."""
    run: Callable[..., Any] = task.function
    if task.options.numba:
        from isthmus.tasks.compiled import compiled

        run = compiled(task)
    if task.kind is not None:

        def run(*args: Any, **kwargs: Any) -> Any:
            return task.kind.run(task, *args, **kwargs)

        run.__module__, run.__qualname__ = task.function.__module__, task.function.__qualname__
    if task.around:
        from isthmus.tasks.kinds.around import wrapped

        run = wrapped(task, run)
    return run
