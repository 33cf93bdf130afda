"""Futures: values that tasks will leave.

A future passes freely: as an argument of another task, within lists and dicts, as a task's result. It is also the
datum itself: a task that takes it INOUT gives it a next version.
"""

import functools
import sys
from typing import Any

from isthmus.tasks.declaration import Task
from isthmus.tasks.graph import Datum, Version


class Future(Datum):
    """A value that a task will leave. `wait_on(future)` or `future.result()` gives it."""

    __slots__ = ("__weakref__",)

    def result(self, timeout_s: float | None = None) -> Any:
        """The value; blocks until it is there. Raises what the task raised, TimeoutError after `timeout_s`."""
        from isthmus.tasks.current import current

        return current().value_of(self, timeout_s)

    def done(self) -> bool:
        """Whether the value is there, or the task has failed."""
        return self.version.producer is None

    def __iter__(self) -> Any:
        return iter(self.result())

    def __bool__(self) -> bool:
        # As the sequential program would: the value's own truth, whatever it costs to wait for it.
        return bool(self.result())

    def __getattr__(self, name: str) -> Any:
        """A method of the value's class that is a task: called on the future, nothing waits for the value."""
        if not name.startswith("_"):
            method = getattr(_class_of(self.version), name, None)
            if isinstance(method, Task):
                return functools.partial(method, self)
        raise AttributeError(
            f"A future has no {name!r}, and its value may not be here yet: wait_on it first. A method that is a task "
            "can be called on what a task with returns=THE_CLASS gives."
        )

    def __repr__(self) -> str:
        if self.version.producer is not None:
            return f"<future {self.version.id}, of {self.version.producer.function.name}>"
        return f"<future {self.version.id}, {'failed' if self.version.error else 'done'}>"

    def __del__(self) -> None:
        if self.unused is not None and self.version.error is None:
            _say_unused(self.unused)

    def __reduce__(self) -> Any:
        raise TypeError("A future can't be pickled by itself: pass it to a task, or wait_on it.")


def _class_of(version: Version) -> Any:
    """The class of the value, as far as its task declares it, or its own once it is there."""
    node = version.producer
    if node is None:
        if version.error is not None:
            return None
        from isthmus.tasks.current import current

        return type(current().engine.get(version.value))
    task: Task = node.function
    place = next((place for place, made in enumerate(node.outputs or ()) if made is version), 0)
    returned = task.options.returns
    if isinstance(returned, tuple | list) and place < len(returned):
        returned = returned[place]
    if isinstance(returned, type):
        return returned
    if not task.shape.is_method:
        return None
    found: Any = sys.modules.get(task.function.__module__)
    for part in task.function.__qualname__.split(".")[:-1]:
        found = getattr(found, part, None)
    return found


def _say_unused(task: Any) -> None:
    from isthmus.tasks.current import running

    program = running()
    if program is not None and program.advice is not None:
        program.advice.unused(task)
