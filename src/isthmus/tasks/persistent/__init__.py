"""Persistent objects: they outlive the program, and are found again by their ids.

    from isthmus.tasks.persistent import PersistentObject, get_by_id

    class Model(PersistentObject):
        ...

    model.make_persistent("model-7")
    get_by_id("model-7")        # in this program, in a task, in another program

A task that is given one gets its id, and reads its state where it is kept; what a task changes is kept when the task
ends well. Where that is: `ISTHMUS_TASKS_OBJECTS`, a folder or redis://. See docs/tasks-persistent.md.
"""

from isthmus.tasks.persistent.base import Backend
from isthmus.tasks.persistent.choice import backend, use
from isthmus.tasks.persistent.object import PersistentObject, get_by_id

__all__ = ["Backend", "PersistentObject", "backend", "get_by_id", "use"]
