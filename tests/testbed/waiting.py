"""Waiting for a condition with a deadline: the only way in which the test bed and its tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.testbed.errors import ServerError

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    what: str,
    *,
    deadline_s: float = 60.0,
    every_s: float = 0.02,
    story: Callable[[], str] | None = None,
) -> T:
    """Calls `condition` until it returns something true, and returns that.

    Raises ServerError after `deadline_s`, saying what was waited for, what came last, and `story()` (a log, say).
    """
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            told = f"\n{story()}" if story else ""
            raise ServerError(f"waited {deadline_s:g} s in vain for {what}; last seen: {value!r}{told}")
        time.sleep(every_s)
