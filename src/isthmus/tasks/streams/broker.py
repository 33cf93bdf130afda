"""What a stream asks of whatever carries its messages. A message is bytes; a member is a task that holds the stream."""

from typing import Any, Final, Protocol

AT_MOST_ONCE: Final = "at most once"  # a message goes to one consumer; if that dies with it, it is gone
AT_LEAST_ONCE: Final = "at least once"  # if the consumer's task fails with it, the next one gets it
UNNAMED: Final = "stream-"  # how the names of streams begin that were given none
DELIVERIES = (AT_MOST_ONCE, AT_LEAST_ONCE)


class Broker(Protocol):
    """Carries messages. From any thread. `name` is the stream's; an unknown one raises NotFound."""

    def open(self, name: str, delivery: str, limit: int) -> None:
        """There is such a stream from now on; nothing happens where there is already."""

    def publish(self, name: str, messages: list[bytes]) -> None:
        """Add messages. Blocks while the stream has its limit of unread ones. Raises Conflict when it is closed."""

    def poll(self, name: str, reader: str, most: int, timeout_s: float | None) -> list[bytes]:
        """Take up to `most` messages (0: all that are there); blocks until there is one.

        Nothing once the stream is closed and empty, or after `timeout_s`.
        """

    def join(self, name: str, writer: str) -> None:
        """A task that writes was called: the stream stays open for it. Raises Conflict when it is closed."""

    def finish(self, name: str, writer: str) -> None:
        """This writer ("": the program) will publish nothing more. The stream closes when no other writes."""

    def leave(self, name: str, member: str, ok: bool) -> None:
        """The member's task has ended. Not `ok`: what it took comes back, where messages go at least once."""

    def over(self, name: str) -> bool:
        """Whether nothing will come any more: closed, and read to the end."""

    def handle(self) -> Any:
        """What another process makes its own broker for the same streams from: a function and its arguments."""

    def end(self) -> None:
        """The program calls nothing more: its streams close when their last producers have ended."""

    def close(self) -> None:
        """The process wants no more of it."""
