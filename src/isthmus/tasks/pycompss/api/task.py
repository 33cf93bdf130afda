"""`@task`. As in PyCOMPSs, a task that a task calls runs where it is called, and `return a, b` gives two values.

Unless ISTHMUS_TASKS_NESTED, @task(nested=True), or @task(spreads=False) say otherwise.
"""

from typing import Any

from isthmus.tasks import declaration
from isthmus.tasks.declaration import Task


def task(*args: Any, **given: Any) -> Any:
    """Mark a function: see `isthmus.tasks.task`."""
    ours = {"nested": False, "spreads": True}
    if len(args) == 1 and not given and callable(args[0]):
        return declaration.declare(args[0], ours)
    return declaration.task(*args, **{**ours, **given})


__all__ = ["Task", "task"]
