"""`@prolog` and `@epilog`: programs that run before and after a task, where it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isthmus.tasks.declaration import Task
from isthmus.tasks.kinds.command import CommandFailed, Streams, execute
from isthmus.tasks.kinds.words import fill, given, listed


@dataclass(frozen=True, slots=True)
class Around:
    """A program before (or `after`) a task."""

    binary: str
    args: str = ""
    fail_by_exit_value: bool = True
    after: bool = False

    def run(self, task: Task, values: dict[str, Any]) -> None:
        """Run it. CommandFailed where it fails, and that is the task's failure."""
        command = [fill(self.binary, values, task), *listed(self.args, values, task, "")]
        try:
            execute(task, command, Streams(), fail=self.fail_by_exit_value)
        except CommandFailed:
            if self.fail_by_exit_value:
                raise


def wrapped(task: Task, run: Callable[..., Any]) -> Callable[..., Any]:
    """What runs for a call: prologs, the task, epilogs."""

    def around(*args: Any, **kwargs: Any) -> Any:
        values = given(task, args, kwargs)
        for program in task.around:
            if not program.after:
                program.run(task, values)
        result = run(*args, **kwargs)
        for program in task.around:
            if program.after:
                program.run(task, values)
        return result

    around.__qualname__ = task.function.__qualname__
    around.__module__ = task.function.__module__
    return around
