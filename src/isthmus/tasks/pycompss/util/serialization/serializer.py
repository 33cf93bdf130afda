"""Objects in files, pickled: for programs that pass them to tasks by name."""

import pickle
from typing import Any


def serialize_to_file(obj: Any, file_name: str, logger: Any = None) -> None:
    """Write the object; functions and classes that can't be imported go by value, where cloudpickle is installed."""
    try:
        data = pickle.dumps(obj, 5)
    except (pickle.PicklingError, AttributeError, TypeError):
        import cloudpickle

        data = cloudpickle.dumps(obj, 5)
    with open(file_name, "wb") as file:
        file.write(data)


def deserialize_from_file(file_name: str, logger: Any = None) -> Any:
    """Read what `serialize_to_file` has written. As with any pickle: only what you trust."""
    with open(file_name, "rb") as file:
        return pickle.load(file)
