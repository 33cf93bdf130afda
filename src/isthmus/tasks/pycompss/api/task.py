"""`@task`. As in PyCOMPSs, a task that a task calls runs where it is called.

Unless ISTHMUS_TASKS_NESTED, or @task(nested=True), says otherwise.
"""

from typing import Any

from isthmus.tasks import declaration
from isthmus.tasks.declaration import Task


def task(*args: Any, **given: Any) -> Any:
    """Mark a function: see `isthmus.tasks.task`."""
    given = {"nested": False, **given}
    if len(args) == 1 and len(given) == 1 and callable(args[0]):
        return declaration.declare(args[0], given)
    return declaration.task(*args, **given)


__all__ = ["Task", "task"]
