"""A call of a task as it travels between agents: by value where it can't be imported, its inputs along with it."""

import pickle
from collections.abc import Sequence
from typing import Any

from isthmus.tasks.calls import Encoding, arguments, fill, results
from isthmus.tasks.declaration import Task
from isthmus.tasks.failures import TaskError, noted, portable
from isthmus.tasks.functions import body_of

OK, RAISED = "ok", "raised"


def packed(value: Any) -> bytes:
    """A value as it travels."""
    import cloudpickle

    return bytes(cloudpickle.dumps(value, 5))


def call(task: Task, args: Any, encoding: Any, returns: int, inputs: Sequence[bytes]) -> bytes:
    """The call as one piece of bytes."""
    return packed((task, args, encoding, returns, list(inputs)))


def perform(piece: bytes) -> bytes:
    """Make the call here: (OK, the values, each packed) or (RAISED, the exception, pickled)."""
    name = "the task"
    filled: Sequence[Any] = ()
    keywords: dict[str, Any] = {}
    try:
        task, args, encoding, returns, given = pickle.loads(piece)
        name = task.name
        inputs = [pickle.loads(one) for one in given]
        described = Encoding(*encoding) if encoding is not None else None
        filled, keywords = arguments(args, described, inputs, lambda tree: fill(pickle.loads(tree), inputs))
        value = body_of(task)(*filled, **keywords)
        made = results(value, returns, described, filled, keywords, task.name)
        return pickle.dumps((OK, [packed(one) for one in _settled(made)]), 5)
    except BaseException as error:  # noqa: BLE001  (a task's SystemExit is the task's own end)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            error = TaskError(f"The task ended with {type(error).__name__}: {error}")
        return pickle.dumps((RAISED, portable(noted(error, name, filled, keywords))), 5)


def _settled(values: list[Any]) -> list[Any]:
    """What tasks of the task have left for it, instead of futures."""
    from isthmus.tasks.current import running

    program = running()
    return values if program is None else [program.wait_on(value) for value in values]
