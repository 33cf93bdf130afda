"""Which back end this process uses: made on first use, so that only the one that is wanted is imported."""

import os
from pathlib import Path

from isthmus.domain.errors import Invalid
from isthmus.tasks.persistent.base import Backend

_backend: Backend | None = None
_of = 0  # the process that made it: connections don't survive a fork


def backend() -> Backend:
    """The back end of this process: of `ISTHMUS_TASKS_OBJECTS`, else a folder of the user's own."""
    global _backend, _of
    if _backend is None or _of != os.getpid():
        _backend, _of = make(_place()), os.getpid()
    return _backend


def _before_fork() -> None:
    # SQLite counts locks by process, and a child would believe that it has those of its parent.
    rest = getattr(_backend, "rest", None)
    if rest is not None and _of == os.getpid():
        rest()


os.register_at_fork(before=_before_fork)


def use(place: Backend | str) -> None:
    """Keep objects there from now on: a back end, a folder or redis://. Workers follow where it is set before tasks."""
    global _backend, _of
    if isinstance(place, str):
        os.environ["ISTHMUS_TASKS_OBJECTS"] = place
        place = make(place)
    _backend, _of = place, os.getpid()


def make(place: str) -> Backend:
    """The back end that this place names. Raises Invalid where there is no such kind."""
    scheme, separator, _ = place.partition("://")
    if not separator:
        from isthmus.tasks.persistent.embedded import Embedded

        return Embedded(place)
    if scheme in ("redis", "rediss", "unix"):
        from isthmus.tasks.persistent.redis import Redis

        return Redis(place)
    raise Invalid(
        f"{scheme}:// keeps no objects.", place="ISTHMUS_TASKS_OBJECTS", hint="There is: a folder, redis://, rediss://."
    )


def _place() -> str:
    from isthmus.tasks.current import running

    program = running()
    given: str = program.settings.objects if program is not None else ""
    given = given or os.environ.get("ISTHMUS_TASKS_OBJECTS", "")
    if given:
        return given
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(data) / "isthmus" / "objects")
