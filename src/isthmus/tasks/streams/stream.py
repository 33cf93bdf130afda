"""The streams that programs hold: of objects, and of the files that appear in a folder.

A stream passes to tasks like any argument, and is the same stream there. What a task gets knows its member: the task
as a producer or a consumer.
"""

import os
import pickle
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Self

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.streams.broker import AT_MOST_ONCE, DELIVERIES, UNNAMED, Broker


class Stream:
    """What both kinds share. Not made itself."""

    ends_with_producers = False  # closed when its last producer's task has ended, though nobody has said so

    def __init__(self, name: str = "", delivery: str = AT_MOST_ONCE, limit: int = 0) -> None:
        """`name`: two streams of one name are one; without, it is a new one. `limit` of unread messages, at which
        `publish` blocks; 0: none. Raises Invalid for a delivery that there is not."""
        if delivery not in DELIVERIES:
            raise Invalid(f"{delivery!r} is no delivery.", place="stream", hint=nearest(delivery, DELIVERIES))
        if limit < 0:
            raise Invalid(f"{limit} is too small.", place="limit")
        from isthmus.tasks.streams.members import broker

        self.name = name or UNNAMED + uuid.uuid4().hex[:16]
        self.member = ""
        self._broker: Broker = broker()
        self._broker.open(self.name, delivery, limit)

    def poll(self, timeout_s: float | None = None, most: int = 0) -> list[Any]:
        """What is there (at most so many), in order; blocks until something is.

        An empty list: the stream is closed and read to the end, or `timeout_s` is over. With "at least once" the
        messages of one poll are dealt with when the next is made, or the task ends.
        """
        return [pickle.loads(one) for one in self._broker.poll(self.name, self.member, most, timeout_s)]

    def __iter__(self) -> Iterator[Any]:
        """Messages one by one, until the stream is closed. Blocks."""
        while found := self.poll(most=1):
            yield found[0]

    def close(self) -> None:
        """In a producer: it publishes nothing more. In the program: it calls no more producers.

        The stream is closed when no producer is left; what is unread can still be read. May be called again.
        """
        self._broker.finish(self.name, self.member)

    @property
    def closed(self) -> bool:
        """Whether nothing will come any more: the stream is closed, and read to the end."""
        return self._broker.over(self.name)

    def as_member(self, member: str) -> Self:
        """The same stream, in the hand of a task."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.member = member
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *trouble: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["_broker"] = self._broker.handle()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from isthmus.tasks.streams.members import connected

        self.__dict__.update(state)
        self._broker = connected(*state["_broker"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class ObjectStream(Stream):
    """A stream of values that can be pickled. ``with ObjectStream() as stream:`` closes it at the end."""

    def publish(self, *values: Any) -> None:
        """Add values. Blocks while the stream has its limit. Raises Conflict when it is closed."""
        self._broker.publish(self.name, [_dumps(value) for value in values])

    def publish_all(self, values: Iterable[Any]) -> None:
        """Add each of the values."""
        self._broker.publish(self.name, [_dumps(value) for value in values])


class FileStream(Stream):
    """A stream of the paths of files that are written, or moved, into a folder once it is made.

    A file comes when whoever wrote it has closed it. The folder is made where it is missing. Names that begin with a
    dot are left out. Of one machine: the program's.
    """

    def __init__(
        self, folder: str | os.PathLike[str], name: str = "", delivery: str = AT_MOST_ONCE, *, existing: bool = False
    ) -> None:
        """`existing`: the files that are there already come first."""
        from isthmus.tasks.streams.members import watch

        self.folder = os.path.abspath(os.fspath(folder))
        super().__init__(name, delivery)
        watch(self.name, self.folder, existing)

    def __fspath__(self) -> str:
        return self.folder

    def __str__(self) -> str:
        return self.folder


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        try:
            import cloudpickle

            return bytes(cloudpickle.dumps(value, 5))
        except Exception:  # noqa: BLE001  (the first error says better what is wrong)
            raise Invalid(
                f"What was published can't be pickled: {type(error).__name__}: {error}", place="publish"
            ) from error
