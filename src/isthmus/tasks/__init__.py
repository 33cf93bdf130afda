"""Sequential Python, run in parallel.

    from isthmus.tasks import INOUT, task, wait_on

    @task(c=INOUT)
    def multiply(a, b, c):
        c += a @ b

Calling a task gives futures at once; which calls may run side by side is found out from what they read and write.
See docs/tasks.md. Imports light: no engine, no numpy, nothing of the control plane.
"""

from typing import Any

from isthmus.tasks.current import start, stop
from isthmus.tasks.declaration import CANCEL_SUCCESSORS, FAIL, IGNORE, RETRY, Task, task
from isthmus.tasks.directions import (
    STDERR,
    STDIN,
    STDOUT,
    TABLE,
    Cache,
    Depth,
    Direction,
    Keep_rename,
    Parameter,
    Prefix,
    StdIOStream,
    Type,
    Weight,
)
from isthmus.tasks.failures import COMPSsException, TaskCancelled, TaskError, TaskTimedOut, WorkerLost
from isthmus.tasks.futures import Future
from isthmus.tasks.groups import TaskGroup
from isthmus.tasks.streams import AT_LEAST_ONCE, AT_MOST_ONCE, FileStream, ObjectStream
from isthmus.tasks.verbs import (
    barrier,
    barrier_group,
    cancel,
    cancel_group,
    delete_file,
    delete_object,
    file_exists,
    open_file,
    wait_on,
    wait_on_file,
)

__all__ = [
    "AT_LEAST_ONCE",
    "AT_MOST_ONCE",
    "CANCEL_SUCCESSORS",
    "FAIL",
    "IGNORE",
    "RETRY",
    "STDERR",
    "STDIN",
    "STDOUT",
    "COMPSsException",
    "Cache",
    "Depth",
    "Direction",
    "FileStream",
    "Future",
    "Keep_rename",
    "ObjectStream",
    "Parameter",
    "Prefix",
    "StdIOStream",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskGroup",
    "TaskTimedOut",
    "Type",
    "Weight",
    "WorkerLost",
    "barrier",
    "barrier_group",
    "cancel",
    "cancel_group",
    "delete_file",
    "delete_object",
    "file_exists",
    "open_file",
    "start",
    "stop",
    "task",
    "wait_on",
    "wait_on_file",
]


def __getattr__(name: str) -> Any:
    if name in TABLE:  # IN, INOUT, FILE_OUT, COLLECTION_IN ...
        return TABLE[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
