"""Futures: values that tasks will leave.

A future passes freely: as an argument of another task, within lists and dicts, as a task's result. It is also the
datum itself: a task that takes it INOUT gives it a next version.
"""

from typing import Any

from isthmus.tasks.graph import Datum


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

    def __repr__(self) -> str:
        if self.version.producer is not None:
            return f"<future {self.version.id}, of {self.version.producer.function.name}>"
        return f"<future {self.version.id}, {'failed' if self.version.error else 'done'}>"

    def __del__(self) -> None:
        if self.unused is not None and self.version.error is None:
            _say_unused(self.unused)

    def __reduce__(self) -> Any:
        raise TypeError("A future can't be pickled by itself: pass it to a task, or wait_on it.")


def _say_unused(task: Any) -> None:
    from isthmus.tasks.current import running

    program = running()
    if program is not None and program.advice is not None:
        program.advice.unused(task)
