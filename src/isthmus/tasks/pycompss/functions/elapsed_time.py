"""`@timeit()`: what a call gives, with the seconds that the call took."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class TimeIt:
    """Above `@task` it times the submission; below it, the task itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __call__(self, function: Callable[..., Any]) -> Callable[..., list[Any]]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> list[Any]:
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            return [result, time.perf_counter() - begin]

        return timed


timeit = TimeIT = TIMEIT = TimeIt
