"""`pycompss.streams.distro_stream`: file, object and persistent-object streams, on ours.

`is_closed` is True once nothing will come any more, so a loop ``while not s.is_closed(): s.poll()`` misses nothing.
"""

import os
from typing import Any

from isthmus.tasks.streams import FileStream, ObjectStream, Stream
from isthmus.tasks.streams import broker as deliveries

FILE, OBJECT, PSCO = "FILE", "OBJECT", "PSCO"
AT_MOST_ONCE, AT_LEAST_ONCE = "AT_MOST_ONCE", "AT_LEAST_ONCE"
_DELIVERY = {AT_MOST_ONCE: deliveries.AT_MOST_ONCE, AT_LEAST_ONCE: deliveries.AT_LEAST_ONCE}

DistroStream = Stream


class RegistrationException(Exception):
    """The stream can't be made."""


class BackendException(Exception):
    """The stream's carrier is in trouble."""


class _Names:
    """The words of PyCOMPSs that all three share. They close when their last producer has ended."""

    ends_with_producers = True

    name: str
    access_mode: str
    stream_type: str
    alias: str | None

    def get_stream_id(self) -> str:
        """The stream's name."""
        return self.name

    def get_stream_alias(self) -> str | None:
        """The name that it was given."""
        return self.alias

    def get_stream_type(self) -> str:
        """FILE, OBJECT or PSCO."""
        return self.stream_type

    def is_closed(self) -> bool:
        """Whether nothing will come any more."""
        return bool(self.closed)  # type: ignore[attr-defined]

    def publish_list(self, messages: Any) -> None:
        """Publish each of them."""
        for message in messages:
            self.publish(message)  # type: ignore[attr-defined]


def _delivery(access_mode: str) -> str:
    if access_mode not in _DELIVERY:
        raise RegistrationException(f"{access_mode!r} is no access mode; there is: {', '.join(_DELIVERY)}.")
    return _DELIVERY[access_mode]


class ObjectDistroStream(_Names, ObjectStream):
    """A stream of objects. `poll` waits for `timeout` milliseconds at most."""

    stream_type = OBJECT

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        ObjectStream.__init__(self, alias or "", _delivery(access_mode))
        self.alias, self.access_mode = alias, access_mode

    def poll(self, timeout: float | None = 200, most: int = 0) -> list[Any]:
        """What is there."""
        return ObjectStream.poll(self, None if timeout is None else timeout / 1000, most)


class FileDistroStream(_Names, FileStream):
    """A stream of the files that are written into `base_dir`."""

    stream_type = FILE

    def __init__(
        self, alias: str | None = None, access_mode: str = AT_MOST_ONCE, base_dir: str | os.PathLike[str] | None = None
    ) -> None:
        if base_dir is None:
            raise RegistrationException("A stream of files needs its base_dir.")
        FileStream.__init__(self, base_dir, alias or "", _delivery(access_mode))
        self.alias, self.access_mode = alias, access_mode
        self.base_dir = os.fspath(base_dir)

    def publish(self, message: Any) -> None:
        """Nothing to do: a file is published by writing it."""

    def poll(self, timeout: float | None = 0, most: int = 0) -> list[Any]:
        """The paths of the files that are there."""
        return FileStream.poll(self, None if timeout is None else timeout / 1000, most)


class PscoDistroStream(_Names, ObjectStream):
    """A stream of persistent objects: their ids travel. One that is not persistent yet is made so."""

    stream_type = PSCO

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        ObjectStream.__init__(self, alias or "", _delivery(access_mode))
        self.alias, self.access_mode = alias, access_mode

    def publish(self, *values: Any) -> None:
        """Publish persistent objects."""
        for value in values:
            if value.getID() is None:
                value.makePersistent()
        ObjectStream.publish(self, *[value.getID() for value in values])

    def poll(self, timeout: float | None = 200, most: int = 0) -> list[Any]:
        """The objects that are there."""
        from isthmus.tasks.persistent import get_by_id

        return [get_by_id(one) for one in ObjectStream.poll(self, None if timeout is None else timeout / 1000, most)]
