"""What `wait_on` gives back: values in the place of futures, and the program's objects as tasks have left them."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from isthmus.tasks.calls import PLAIN, is_object_array
from isthmus.tasks.futures import Future
from isthmus.tasks.graph import Datum, Version
from isthmus.tasks.tracking import Tracker


def data_in(values: Iterable[Any], tracker: Tracker) -> list[Datum]:
    """The data that stand in the values: futures, objects that tasks write, and those within lists and dicts."""
    found: list[Datum] = []
    seen: set[int] = set()
    for value in values:
        _data(value, tracker, found, seen)
    return found


def _data(value: Any, tracker: Tracker, found: list[Datum], seen: set[int]) -> None:
    kind = type(value)
    if kind in PLAIN or id(value) in seen:
        return
    if kind is Future:
        found.append(value)
        return
    datum = tracker.find(value)
    if datum is not None:
        found.append(datum)
    if kind in (list, tuple, dict) or is_object_array(value):
        seen.add(id(value))
        for item in value.values() if kind is dict else value if kind in (list, tuple) else value.flat:
            _data(item, tracker, found, seen)


def synchronised(value: Any, tracker: Tracker, value_of: Callable[[Version], Any]) -> Any:
    """The value with all that stands in it as it is now; `value_of` gives what a version holds, or raises its error.

    Objects are brought up to date in place where their type allows. Where nothing in a container stands for something
    else, the container itself is given back.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is Future:
        return value_of(value.version)
    datum = tracker.find(value)
    if datum is not None:
        latest = value_of(datum.version)
        if datum.in_place and latest is value:
            return value
        updated = _updated(value, latest)
        if updated is value:
            # It is the program's own again. A placeholder, which can't be updated, goes on standing for its datum.
            tracker.forget(value)
        value = updated
    if kind is list or kind is tuple:
        items = [item if type(item) in PLAIN else synchronised(item, tracker, value_of) for item in value]
        return value if all(map(operator.is_, items, value)) else kind(items)
    if kind is dict:
        found = {key: synchronised(item, tracker, value_of) for key, item in value.items()}
        return value if all(found[key] is item for key, item in value.items()) else found
    if is_object_array(value):
        made = value.copy()
        for place, item in enumerate(value.flat):
            made.flat[place] = synchronised(item, tracker, value_of)
        return made
    return value


def _updated(old: Any, new: Any) -> Any:
    """`new`, in the object `old` where its type allows: the program's other names for it see the change."""
    if type(old) is not type(new) or old is new:
        return new
    if isinstance(old, list):
        old[:] = new
        return old
    if isinstance(old, dict | set):
        old.clear()
        old.update(new)
        return old
    if isinstance(old, bytearray):
        old[:] = new
        return old
    shape, kind = getattr(old, "shape", None), getattr(old, "dtype", None)
    if shape is not None and kind is not None and type(old).__module__ == "numpy":
        if shape == new.shape and kind == new.dtype and old.flags.writeable:
            old[...] = new
            return old
        return new
    if hasattr(old, "__dict__") and not hasattr(type(old), "__slots__") and type(old).__module__ != "builtins":
        state = getattr(new, "__dict__", None)
        if state is not None and not isinstance(old, type):
            old.__dict__.clear()
            old.__dict__.update(state)
            return old
    return new
