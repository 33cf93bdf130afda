"""The program of this process: the one that `start` has started, or a worker's own. There is one, or none.

Whoever asks for it needs to know nothing else of programs and engines.
"""

import atexit
import importlib
import os
import sys
import threading
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks import settings as configuration

_current: Any = None
_start_lock = threading.Lock()


def current() -> Any:
    """The program of this process, started with the settings of the environment if there was none."""
    return _current if _current is not None else start()


def running() -> Any:
    """The program of this process, or None."""
    return _current


def start(**given: Any) -> Any:
    """Start the program with these settings over those of the environment: see `isthmus.tasks.settings`.

    Called by the first task where nobody has. Raises Invalid where it runs already with others.
    """
    global _current
    with _start_lock:
        if _current is not None:
            if given:
                raise Invalid("Tasks run already.", hint="Call start before the first task, or stop first.")
            return _current
        # By name, on first use: engines are built on all the rest, which may ask here.
        make = importlib.import_module("isthmus.tasks.engines.choice").make
        _current = make(configuration.settings(given))
        atexit.register(_at_exit)
    return _current


def install(program: Any) -> None:
    """Make this the program of the process: in a worker."""
    global _current
    _current = program


def stop(*, kill: bool = False) -> None:
    """Wait for all tasks and stop the workers; with `kill`, at once. Raises the first failure that nobody has seen."""
    global _current
    program, _current = _current, None
    if program is not None:
        atexit.unregister(_at_exit)
        program.close(kill=kill)
        program.raise_unseen()


def _at_exit() -> None:
    """A program's end is a barrier; one that ends by an exception cancels what is left."""
    global _failed
    crashed = getattr(sys, "last_value", None) is not None and not hasattr(sys, "ps1")
    try:
        stop(kill=crashed)
    except Exception as error:  # noqa: BLE001  (the last chance to say it)
        _failed = True
        sys.excepthook(type(error), error, error.__traceback__)


_failed = False


def _exit_code() -> None:
    # At exit an exception does not change the exit code: a job whose tasks failed would be called done.
    if _failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


atexit.register(_exit_code)  # early, so it runs late
