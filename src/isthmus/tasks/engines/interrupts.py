"""A thread's stretch of somebody else's code, which other threads may end by an exception.

Python raises such an exception wherever the thread happens to be (`PyThreadState_SetAsyncExc`): also a moment after the
code has ended, between taking a lock and the block that would give it back, or within a handler. A stretch says where
it may come out, takes one at most, and lets none through to what follows.
"""

import ctypes
import threading
import time
from collections.abc import Callable

from isthmus.tasks.failures import TaskCancelled


class Interrupted(TaskCancelled):
    """A task was cancelled while it ran."""

    def __init__(self, message: str = "It was cancelled while it ran.") -> None:
        super().__init__(message)  # Python makes it without arguments


class Stretch:
    """Made by the thread that will `run` it. `interrupt` is for other threads, one at a time."""

    __slots__ = ("_asked", "_ident", "_open", "_over", "_sending")

    def __init__(self) -> None:
        self._ident = threading.get_ident()
        self._open = self._over = False
        self._asked = self._sending = False

    def run(self, work: Callable[[], None]) -> Interrupted | None:
        """Do the work, unless it was interrupted before. It keeps its own exceptions to itself.

        Gives the interruption that the work let through, or that came around it. None comes after the return.
        """
        begun = False
        interruption: Interrupted | None = None
        while True:
            try:
                if not begun:
                    begun = True
                    self._open = True
                    if self._asked:
                        self._settle()
                        raise Interrupted
                    work()
                self._over = True
                self._settle()
                return interruption
            except Interrupted as error:
                begun = True
                interruption = error

    def interrupt(self) -> None:
        """Raise `Interrupted` in the work at its next line of Python, or keep it from beginning. Nothing if it is over.

        May be called again.
        """
        if self._asked:
            return
        # In this order: whoever sees the one waits for the other.
        self._sending = True
        self._asked = True
        if self._open and not self._over:
            _raise_in(self._ident, Interrupted)
        self._sending = False

    def _settle(self) -> None:
        """From here on nothing is sent, and what was sent and has not come out never will."""
        while self._sending:
            time.sleep(0)
        _raise_in(self._ident, None)


def _raise_in(ident: int, error: type[BaseException] | None) -> None:
    what = ctypes.py_object() if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), what)
