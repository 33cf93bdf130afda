"""Passwords: argon2id hashes, made and compared in a thread, and a pause for who guesses.

Parameters are those of argon2-cffi, RFC 9106's low-memory profile: 64 MiB and some 50 ms for each look.
"""

import asyncio
import time

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from isthmus.domain.errors import Invalid, Unavailable

MIN_LENGTH = 10
MAX_LENGTH = 1000
TRIES = 5  # of one name in a row, before it must wait
PAUSE_S = 30.0
NAMES = 10_000  # that are remembered; more than so many guesses at once are not one person's typing errors

_hasher = PasswordHasher()
_NOBODY = _hasher.hash("the password of nobody, so that an unknown name takes as long as a wrong password")


def check(password: str) -> None:
    """Raise Invalid unless it can be a password: long enough, and not one character again and again."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise Invalid(
            f"A password has from {MIN_LENGTH} to {MAX_LENGTH} characters.",
            place="password",
            hint="Four or five words that have nothing to do with each other are good and easy to keep.",
        )
    if len(set(password)) < 4:
        raise Invalid("That one is too easy to guess.", place="password", hint="Use more different characters.")


class Passwords:
    """Makes and compares hashes, no more than two at once: each takes 64 MiB."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(2)
        self._failures: dict[str, tuple[int, float]] = {}

    async def hash(self, password: str) -> str:
        """What is to be kept of it. Raises Invalid."""
        check(password)
        async with self._room:
            return await asyncio.to_thread(_hasher.hash, password)

    async def matches(self, name: str, hashed: str | None, password: str) -> bool:
        """Whether it is the password. Raises Unavailable for a name that was guessed at too often lately.

        Takes as long where there is no such user or no password.
        """
        count, last = self._failures.get(name, (0, 0.0))
        left = last + PAUSE_S - time.monotonic()
        if count >= TRIES and left > 0:
            raise Unavailable(
                "That was wrong too often.", hint=f"Wait {left:.0f} seconds, then try again.", code="too-many-tries"
            )
        async with self._room:
            good = await asyncio.to_thread(_compare, hashed or _NOBODY, password) and hashed is not None
        if good:
            self._failures.pop(name, None)
        else:
            if len(self._failures) >= NAMES:
                self._failures.clear()
            self._failures[name] = (count + 1, time.monotonic())
        return good


def _compare(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password[:MAX_LENGTH])
    except (VerificationError, InvalidHashError):
        return False
