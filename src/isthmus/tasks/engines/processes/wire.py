"""Frames between a program and its workers: eight bytes of length, then a pickled tuple whose first item is its kind.

To a worker:

    (RUN, acknowledged, functions, values, calls)   run these; call = (id, function, returns,
                                                    args, encoding, inputs, outputs, depth)
    (ENDED, id, code, payload)                      a task that the worker's own task called has ended
    (STOP,)

From a worker:

    (RESULTS, [(id, code, payload, seconds), ...])
    (BACK, [id, ...])                               not begun, given back
    (ERRANDS, [errand, ...])                        calls that its task has made
    (WAITS, depth), (GOES_ON, depth)                its task at that depth waits for its own tasks, and doesn't any more
"""

import pickle
import socket
from typing import Any

RUN, ENDED, STOP = range(3)
RESULTS, BACK, ERRANDS, WAITS, GOES_ON = range(5)

# How a call ended: nothing to say, one plain value, wire values, an exception, an input is missing.
NONE, ONE, MANY, RAISED, SKIPPED = range(5)

_BUFFER = 1 << 20
_PIECE = 1 << 18


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends with room for large batches."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return ours, theirs


def frame(message: tuple[Any, ...]) -> bytes:
    """A message as it goes over the line."""
    body = pickle.dumps(message, 5)
    return len(body).to_bytes(8, "little") + body


class Reader:
    """Puts frames together from what comes."""

    __slots__ = ("_buffer", "_line")

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._buffer = bytearray()

    def next(self) -> Any:
        """The next message; blocks. None at the end of the line."""
        while True:
            message = self.taken()
            if message is not None:
                return message
            if not self.receive():
                return None

    def receive(self, *, wait: bool = True) -> bool:
        """Take what the line has. False at its end, or, not to `wait`, where it has nothing.

        Raises BlockingIOError where the line itself does not block.
        """
        try:
            piece = self._line.recv(_PIECE, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            if wait:
                raise
            return False
        except ConnectionError:
            return False
        self._buffer += piece
        return bool(piece)

    def taken(self) -> Any:
        """A message that is whole already, or None."""
        buffer = self._buffer
        if len(buffer) < 8:
            return None
        end = 8 + int.from_bytes(buffer[:8], "little")
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            message = pickle.loads(view[8:end])
        del buffer[:end]
        return message
