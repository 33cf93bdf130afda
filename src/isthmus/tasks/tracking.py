"""Which objects of the program stand for data that tasks write.

An object is known by its identity for as long as the program itself holds it. Where Python offers weak references they
tell when it has gone; else the table holds it, and looks now and then for what nobody else holds any more.
"""

import sys
import weakref
from typing import Any

from isthmus.tasks.graph import Datum

_FIRST_SWEEP = 1024
# References to an object that only the table holds, as getrefcount counts in the sweep: the table's, the loop's, its
# own.
_ALONE = 3


class Tracker:
    """Objects and their data. Not for several threads at once, but for the removal of what has gone."""

    def __init__(self) -> None:
        self._weak: dict[int, tuple[weakref.ref[Any], Datum]] = {}
        self._strong: dict[int, tuple[Any, Datum]] = {}
        self._sweep_at = _FIRST_SWEEP

    def find(self, value: Any) -> Datum | None:
        """The datum that this very object stands for."""
        entry = self._weak.get(id(value))
        if entry is not None:
            return entry[1] if entry[0]() is value else None
        held = self._strong.get(id(value))
        return held[1] if held is not None and held[0] is value else None

    def track(self, value: Any, datum: Datum) -> None:
        """From now on the object stands for the datum."""
        key = id(value)
        try:
            reference = weakref.ref(value, lambda gone, key=key: self._gone(key, gone))  # type: ignore[misc]
        except TypeError:
            self._strong[key] = (value, datum)
            if len(self._strong) > self._sweep_at:
                self._sweep()
        else:
            self._weak[key] = (reference, datum)

    def forget(self, value: Any) -> Datum | None:
        """The object is the program's own again. Returns the datum that it stood for."""
        datum = self.find(value)
        if datum is not None:
            self._weak.pop(id(value), None)
            self._strong.pop(id(value), None)
        return datum

    def clear(self) -> None:
        """Know nothing."""
        self._weak.clear()
        self._strong.clear()

    def __len__(self) -> int:
        return len(self._weak) + len(self._strong)

    def _gone(self, key: int, reference: Any) -> None:
        entry = self._weak.get(key)
        if entry is not None and entry[0] is reference:
            self._weak.pop(key, None)

    def _sweep(self) -> None:
        for key in list(self._strong):
            value = self._strong[key][0]
            if sys.getrefcount(value) <= _ALONE:
                del self._strong[key]
            del value
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._strong))
