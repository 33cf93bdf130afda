"""One rank of an MPI task that is a Python function: `python -m isthmus.tasks.kinds.rank FOLDER`."""

import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from isthmus.tasks.declaration import Task, importable


def packed(task: Task, values: Mapping[str, Any]) -> bytes:
    """A call, for ranks: by name where the function can be imported, else by value."""
    if importable(task):
        return pickle.dumps((task, dict(values)), 5)
    import cloudpickle

    return bytes(cloudpickle.dumps((task, dict(values)), 5))


def main(folder: str) -> None:
    """Call the function and write what it returns, and what it has changed."""
    from isthmus.tasks.current import install
    from isthmus.tasks.settings import Settings

    install(_sequential(Settings(engine="sequential")))
    from mpi4py import MPI

    number = MPI.COMM_WORLD.Get_rank()
    with open(os.path.join(folder, "call"), "rb") as file:
        task, values = pickle.load(file)
    with open(os.path.join(folder, f"layout-{number}"), "rb") as file:
        values.update(pickle.load(file))
    positional = [values.pop(name) for name in task.shape.names if name in values]
    result = task.function(*positional, **values)
    named = dict(zip(task.shape.names, positional, strict=False)) | values
    changed = {name: named[name] for name in task.shape.written if name in named and number == 0}
    with open(os.path.join(folder, f"result-{number}"), "wb") as file:
        pickle.dump((result, changed), file, 5)


def _sequential(settings: Any) -> Any:
    from isthmus.tasks.engines.sequential import Sequential

    return Sequential(settings)


if __name__ == "__main__":
    main(sys.argv[1])
