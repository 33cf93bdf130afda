"""What a program says besides calling tasks. Each but `delete_object` starts the program if nothing has."""

from typing import Any

from isthmus.tasks.current import current, running
from isthmus.tasks.futures import Future


def wait_on(*values: Any) -> Any:
    """The values themselves: of futures, of objects that tasks write, of lists and dicts of them. Blocks.

    One argument gives its value, several give a list. Raises what a task raised. An array, list, dict or object that
    tasks have changed is brought up to date in place where it can be, so that its other names see the change too.
    """
    return current().wait_on(*values)


def barrier() -> None:
    """Block until every task so far has ended. Raises the first failure that nobody has seen."""
    current().barrier()


def barrier_group(name: str) -> None:
    """Block until the group's tasks have ended. Raises the COMPSsException that cancelled it."""
    current().barrier_group(name)


def cancel_group(name: str) -> None:
    """Cancel the tasks of a group: those that wait, and those that run."""
    current().cancel_group(name)


def cancel(future: Future) -> bool:
    """Cancel the task that would leave this value. False if it has ended already."""
    return bool(current().cancel(future))


def wait_on_file(*paths: Any) -> Any:
    """Block until the files are as their last writers leave them. Gives the path, or a list of them."""
    current().wait_file(*paths)
    return paths[0] if len(paths) == 1 else list(paths)


def open_file(path: Any, mode: str = "r") -> Any:
    """Open a file once the tasks that use it have ended: to read, its writers; to write, its readers too."""
    return current().open(path, mode)


def delete_file(*paths: Any) -> bool:
    """Delete files once the tasks that use them have ended."""
    done = [current().delete_file(path) for path in paths]
    return all(done)


def file_exists(path: Any) -> bool:
    """Whether the file is there, or a task will write it."""
    return bool(current().file_exists(path))


def delete_object(*values: Any) -> bool:
    """The program won't use these again: what tasks know of them goes. Whether tasks knew all of them.

    From a destructor, too, after the program's end: it starts nothing.
    """
    program = running()
    return program is not None and all(program.delete_object(value) for value in values)
