"""Reductions as a tree of tasks, so that they run side by side."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any


def merge_reduce(function: Callable[..., Any], data: Sequence[Any]) -> Any:
    """One value of all, two by two: what is merged first is merged again last. None for no data."""
    return merge_n_reduce(function, 2, data)


def merge_n_reduce(function: Callable[..., Any], arity: int, data: Sequence[Any]) -> Any:
    """As `merge_reduce`, `arity` at a time: `function` takes up to so many arguments."""
    if arity < 2:
        raise ValueError(f"A reduction takes two or more values at a time, not {arity}.")
    queue = deque(data)
    while len(queue) > 1:
        taken = [queue.popleft() for _ in range(min(arity, len(queue)))]
        queue.append(function(*taken))
    return queue[0] if queue else None
