"""`map`: a function, usually a task, for each item of a list."""

from collections.abc import Callable, Sequence
from typing import Any

from isthmus.tasks.pycompss.api.api import compss_wait_on


def map(func: Callable[..., Any], iterable: Sequence[Any], chunksize: int | None = None) -> Any:
    """The values of `func` for each item; with `chunksize`, for each slice of so many. Blocks."""
    if chunksize:
        given: Sequence[Any] = [iterable[begin : begin + chunksize] for begin in range(0, len(iterable), chunksize)]
    else:
        given = iterable
    return compss_wait_on([func(item) for item in given])
