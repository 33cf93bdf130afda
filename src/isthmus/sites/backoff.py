"""When to try an unreachable site again: ever later, at random, and with the reason kept for people to see."""

import random
from collections.abc import Callable
from dataclasses import replace

from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import IsthmusError, Unreachable
from isthmus.domain.sites import Health
from isthmus.domain.units import show_seconds
from isthmus.sites.base import Contact

FIRST_S = 1.0
LONGEST_S = 60.0


class Backoff:
    """Counts failures one after another; after the n-th, waits a random part of `first_s * 2**(n-1)`.

    "Full jitter": the whole wait is random, so that many who lost the same site don't come back at once.
    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock or SystemClock()
        self._first_s, self._longest_s, self._uniform = first_s, longest_s, uniform
        self._contact = Contact()
        self._error: IsthmusError | None = None
        self._next = 0.0

    @property
    def contact(self) -> Contact:
        """What is known of the site by now."""
        return replace(self._contact, retry_in_s=max(0.0, self._next - self._clock.monotonic()))

    def check(self) -> None:
        """Raise Unreachable, with why it failed the last time, while it is too early to try again."""
        left = self._next - self._clock.monotonic()
        if self._error is not None and left > 0:
            hint = f"{self._error.hint} It is tried again in {show_seconds(round(left, 1))}.".strip()
            raise Unreachable(self._error.message, hint=hint, code=self._error.code)

    def succeeded(self) -> None:
        self._error, self._next = None, 0.0
        if self._contact.health is not Health.UP:
            self._contact = Contact(Health.UP, since=self._clock.now())

    def failed(self, error: IsthmusError) -> None:
        """It could not be reached: wait before the next try."""
        self._set(error, self._contact.failures + 1)
        wait = self._uniform(0.0, min(self._longest_s, self._first_s * 2.0 ** (self._contact.failures - 1)))
        self._next = self._clock.monotonic() + wait

    def lost(self, error: IsthmusError) -> None:
        """The connection broke in use: the next try may come at once."""
        self._set(error, 0)
        self._error, self._next = None, 0.0

    def forget(self) -> None:
        """Somebody wants to know now."""
        self._error, self._next = None, 0.0

    def _set(self, error: IsthmusError, failures: int) -> None:
        down = self._contact.health is Health.UNREACHABLE
        since = self._contact.since if down else self._clock.now()
        self._contact = Contact(Health.UNREACHABLE, error.message, since, failures)
        self._error = error
