"""A worker process, as the program knows it: its lines, what it has been given, and whether it takes more."""

import socket
from typing import Any

from isthmus.tasks.engines.processes import wire
from isthmus.tasks.functions import Key

# Work that a worker may have before it, in seconds.
AHEAD_S = 0.005


class Hand:
    """A worker process, as the program knows it."""

    __slots__ = (
        "acknowledged", "alive", "batch", "bell", "calls", "functions", "heard", "helps", "known", "leaving", "line",
        "load", "number", "out", "payloads", "pid", "reader", "reserve", "rung", "units", "why",
    )  # fmt: skip

    def __init__(self, number: int, line: socket.socket, bell: socket.socket) -> None:
        self.number = number
        self.line = line
        self.bell = bell
        self.reader = wire.Reader(line)
        self.pid = 0
        self.alive = True
        self.leaving = False  # it gets no more calls
        self.calls: dict[int, tuple[Any, float]] = {}  # what it has, in order: id -> (node, seconds expected)
        self.load = 0.0
        self.units = 0
        self.acknowledged = 0
        self.batch: list[Any] = []
        self.known: dict[int, Any] = {}
        self.payloads: dict[Key, bytes] = {}
        self.functions: set[Key] = set()
        self.out = bytearray()
        self.heard = 0.0
        self.rung = False
        self.reserve = 0  # the call that waits behind a long one, only so that the worker has the next at hand
        self.helps: list[int] = []  # depths of its tasks that wait for their own
        self.why: BaseException | None = None

    def first(self) -> Any:
        """What it runs, if it has been given anything: calls run in order."""
        entry = next(iter(self.calls.values()), None)
        return None if entry is None else entry[0]

    def takes_calls(self) -> bool:
        """Whether there is room for more calls of the program's own."""
        return self.alive and not self.leaving and not self.helps and (self.load < AHEAD_S or not self.calls)

    def takes_reserve(self) -> bool:
        """Whether one more call may stand behind the one that runs."""
        return self.alive and not self.leaving and not self.helps and len(self.calls) == 1 and not self.units


def load_of(worker: Hand) -> float:
    """The work that it has before it, in seconds."""
    return worker.load
