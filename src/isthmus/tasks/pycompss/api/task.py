"""`@task`."""

from isthmus.tasks.declaration import task

Task = task
__all__ = ["Task", "task"]
