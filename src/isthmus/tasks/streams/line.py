"""The built-in broker for the program's other processes: over a Unix socket, with a key that travels with the stream.

`multiprocessing.connection` frames the messages and checks the key both ways (HMAC). A connection is one thread's, and
one thread serves it, so that a `poll` may block.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import IsthmusError, Unavailable

if TYPE_CHECKING:
    from isthmus.tasks.streams.queues import Queues

_VERBS = ("open", "publish", "poll", "join", "finish", "leave", "over")

Address = tuple[str, bytes]


class Server:
    """Answers workers for a broker of this process."""

    def __init__(self, queues: "Queues") -> None:
        self._queues = queues
        key = secrets.token_bytes(32)
        # No file, which would be gone before the program's last tasks: Linux's abstract names (man 7 unix).
        path = f"\0isthmus-streams-{os.getpid()}-{secrets.token_hex(8)}"
        self._listener = Listener(path, "AF_UNIX", backlog=64, authkey=key)
        self.address: Address = (path, key)
        self._closed = False
        threading.Thread(target=self._accept, name="isthmus-streams", daemon=True).start()

    def close(self) -> None:
        """No new connections; those that are there end with their processes."""
        self._closed = True
        with suppress(OSError):
            Client(self.address[0], "AF_UNIX").close()  # closing a socket wakes nobody who waits at it
        self._listener.close()

    def _accept(self) -> None:
        from multiprocessing import AuthenticationError

        while not self._closed:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):
                continue
            threading.Thread(target=self._serve, args=(connection,), name="isthmus-stream", daemon=True).start()

    def _serve(self, connection: Any) -> None:
        with connection, suppress(EOFError, OSError):
            while True:
                verb, arguments = connection.recv()
                if verb not in _VERBS:
                    return
                answer: Callable[..., Any] = getattr(self._queues, verb)
                try:
                    reply: tuple[bool, Any] = (True, answer(*arguments))
                except IsthmusError as error:
                    reply = (False, error)
                try:
                    connection.send(reply)
                except OSError:
                    if verb == "poll" and reply[0] and reply[1]:
                        self._queues.give_back(arguments[0], arguments[1], reply[1])
                    raise


class Line:
    """The program's broker, in another process of the same machine. Implements `Broker`."""

    def __init__(self, path: str, key: bytes) -> None:
        self._address: Address = (path, key)
        self._here = threading.local()

    def open(self, name: str, delivery: str, limit: int) -> None:
        self._ask("open", name, delivery, limit)

    def publish(self, name: str, messages: list[bytes]) -> None:
        self._ask("publish", name, messages)

    def poll(self, name: str, reader: str, most: int, timeout_s: float | None) -> list[bytes]:
        found: list[bytes] = self._ask("poll", name, reader, most, timeout_s)
        return found

    def join(self, name: str, writer: str) -> None:
        self._ask("join", name, writer)

    def finish(self, name: str, writer: str) -> None:
        self._ask("finish", name, writer)

    def leave(self, name: str, member: str, ok: bool) -> None:
        self._ask("leave", name, member, ok)

    def over(self, name: str) -> bool:
        return bool(self._ask("over", name))

    def handle(self) -> Any:
        return Line, self._address

    def end(self) -> None:
        """The program's own affair."""

    def close(self) -> None:
        """Its connections end with their threads."""

    def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            line = self._line()
            line.send((verb, arguments))
            ok, reply = line.recv()
        except (OSError, EOFError) as error:
            raise Unavailable(
                f"The program whose stream this is can't be reached: {error or type(error).__name__}.",
                hint="It has ended, or is on another machine: ISTHMUS_TASKS_STREAMS=nats://HOST carries streams there.",
            ) from error
        if not ok:
            raise reply
        return reply

    def _line(self) -> "Connection[Any, Any]":
        line: Connection[Any, Any] | None = getattr(self._here, "line", None)
        if line is None or self._here.pid != os.getpid():
            path, key = self._address
            line = self._here.line = Client(path, "AF_UNIX", authkey=key)
            self._here.pid = os.getpid()
        return line
