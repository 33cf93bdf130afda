"""`compss_wait_on` and the other calls of the API.

Where PyCOMPSs gives None for a value whose task was cancelled, so do these.
"""

import logging
import os
from typing import Any

from isthmus.tasks import verbs
from isthmus.tasks.current import current, stop
from isthmus.tasks.failures import TaskCancelled
from isthmus.tasks.groups import TaskGroup


def compss_start(log_level: str = "off", tracing: bool = False, interactive: bool = False, **options: Any) -> None:
    """Start the runtime, if it is not running."""
    current()


def compss_stop(code: int = 0, _hard_stop: bool = False) -> None:
    """Wait for all tasks and stop the runtime; with another code than 0, cancel what is left."""
    stop(kill=_hard_stop or code != 0)


def compss_file_exists(*file_name: Any) -> Any:
    """Whether files are there, or will be."""
    return _each(verbs.file_exists, file_name)


def compss_open(file_name: str, mode: str = "r") -> Any:
    """Open a file once the tasks that use it have ended."""
    return verbs.open_file(file_name, mode)


def compss_delete_file(*file_name: Any) -> Any:
    """Delete files once the tasks that use them have ended."""
    return _each(verbs.delete_file, file_name)


def compss_wait_on_file(*file_name: Any) -> Any:
    """Wait for the last writers of files. Gives the names as they were given."""
    _each(verbs.wait_on_file, file_name)
    return file_name[0] if len(file_name) == 1 else list(file_name)


def compss_wait_on_directory(*directory_name: Any) -> Any:
    """Wait for the last writers of directories. Gives the names as they were given."""
    _each(verbs.wait_on_file, directory_name)
    return directory_name[0] if len(directory_name) == 1 else list(directory_name)


def compss_delete_object(*objs: Any) -> Any:
    """Forget objects."""
    found = [verbs.delete_object(value) for value in objs]  # which goes into lists itself
    return found[0] if len(found) == 1 else found


def _each(verb: Any, names: Any) -> Any:
    """The verb for each of the names, which may stand in lists and tuples: what it gives stands there as they do."""
    found = [_one(verb, name) for name in names]
    return found[0] if len(found) == 1 else found


def _one(verb: Any, name: Any) -> Any:
    kind = type(name)
    return kind(_one(verb, item) for item in name) if kind in (list, tuple) else verb(name)


def compss_barrier(no_more_tasks: bool = False) -> None:
    """Wait for all tasks."""
    verbs.barrier()


def compss_barrier_group(group_name: str) -> None:
    """Wait for a group's tasks."""
    verbs.barrier_group(group_name)


def compss_cancel_group(group_name: str) -> None:
    """Cancel a group's tasks."""
    verbs.cancel_group(group_name)


def compss_snapshot() -> None:
    """Write a checkpoint of all that has ended."""
    current().snapshot()


def compss_wait_on(*args: Any, **kwargs: Any) -> Any:
    """The values of futures and of objects that tasks have written."""
    values = []
    for value in args:
        try:
            values.append(verbs.wait_on(value))
        except TaskCancelled:
            values.append(None)
    return values[0] if len(values) == 1 else values


def compss_get_number_of_resources() -> int:
    """How many machines run tasks."""
    return 1


def compss_request_resources(num_resources: int, group_name: str | None = None) -> None:
    """Ask for more workers."""
    current().resize(num_resources)


def compss_free_resources(num_resources: int, group_name: str | None = None) -> None:
    """Give workers back."""
    current().resize(-num_resources)


def compss_set_wall_clock(wall_clock_limit: int) -> None:
    """Cancel what is left when so many seconds are over."""
    current().limit_time(float(wall_clock_limit))


def compss_add_logger(logger_name: str) -> None:
    """Show this logger's messages."""
    logger = logging.getLogger(logger_name)
    logger.setLevel(os.environ.get("ISTHMUS_TASKS_LOG", "INFO").upper())


__all__ = [
    "TaskGroup",
    "compss_add_logger",
    "compss_barrier",
    "compss_barrier_group",
    "compss_cancel_group",
    "compss_delete_file",
    "compss_delete_object",
    "compss_file_exists",
    "compss_free_resources",
    "compss_get_number_of_resources",
    "compss_open",
    "compss_request_resources",
    "compss_set_wall_clock",
    "compss_snapshot",
    "compss_start",
    "compss_stop",
    "compss_wait_on",
    "compss_wait_on_directory",
    "compss_wait_on_file",
]
