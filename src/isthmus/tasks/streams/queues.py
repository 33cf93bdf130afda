"""The built-in broker: queues in the program's own process, for it and, over `line`, for its workers."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.domain.errors import Conflict, Invalid, NotFound, nearest
from isthmus.tasks.streams.broker import AT_LEAST_ONCE

# How long a reader is left waiting before it is asked whether anybody can publish at all.
_STUCK_S = 0.5


class Source(Protocol):
    """Where messages come from besides `publish`: a watched folder."""

    def taken(self) -> list[bytes]:
        """What is there and was not taken yet. Does not block."""

    def close(self) -> None:
        """No more is wanted."""


@dataclass
class _Queue:
    delivery: str
    limit: int
    unread: deque[bytes] = field(default_factory=deque)
    writers: set[str] = field(default_factory=set)
    taken: dict[str, list[bytes]] = field(default_factory=dict)  # by reader, until it polls again or ends
    ages: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # how often a reader has left
    blocked: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # readers that wait for a message
    begun: bool = False  # something was published
    ending: bool = False  # closes when nobody writes
    closed: bool = False
    source: Source | None = None


class Queues:
    """See the module. Implements `Broker`."""

    def __init__(self, *, reopens: bool = False, stuck: Callable[[str], bool] | None = None) -> None:
        """`reopens`: a closed stream may be written again, as when tasks run one after the other.

        `stuck` is asked, when a reader has waited a while, whether nobody can ever publish to that stream.
        """
        self._queues: dict[str, _Queue] = {}
        # Taken by itself, not through the condition, whose Python code a task that is cancelled may be stopped within.
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._reopens = reopens
        self._stuck = stuck
        self._server: Any = None

    def open(self, name: str, delivery: str, limit: int) -> None:
        with self._lock:
            there = self._queues.setdefault(name, _Queue(delivery, limit))
            if there.delivery != delivery:
                raise Conflict(f"The stream {name!r} delivers {there.delivery}, not {delivery}.")

    def publish(self, name: str, messages: list[bytes]) -> None:
        with self._lock:
            queue = self._of(name)
            for message in messages:
                while queue.limit and len(queue.unread) >= queue.limit and not queue.closed and not self._reopens:
                    self._change.wait()
                if queue.closed and not self._reopens:
                    raise Conflict(f"The stream {name!r} is closed.", hint="Its last producer has ended or closed it.")
                queue.closed = False
                queue.begun = True
                queue.unread.append(message)
                self._change.notify_all()

    def poll(self, name: str, reader: str, most: int, timeout_s: float | None) -> list[bytes]:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            queue = self._of(name)
            queue.taken.pop(reader, None)  # it has dealt with those that it took before
            age = queue.ages[reader]
            self._draw(queue)
            queue.blocked[reader] += 1
            try:
                while not queue.unread and not queue.closed:
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return []
                    if self._reopens and end is None:
                        if queue.begun:
                            break  # its producers have ended
                        raise Invalid(
                            f"Nobody has published to the stream {name!r} yet, and tasks run one after the other.",
                            hint="With ISTHMUS_TASKS=sequential, call producers before consumers.",
                        )
                    heard = self._change.wait(_STUCK_S if left is None else min(left, _STUCK_S))
                    if queue.ages[reader] != age:
                        return []  # its task has ended: this asks for somebody who is gone
                    self._draw(queue)
                    if not heard and end is None and not queue.unread:
                        self._ask_whether_stuck(name, queue)
            finally:
                queue.blocked[reader] -= 1
            count = len(queue.unread) if not most else min(most, len(queue.unread))
            found = [queue.unread.popleft() for _ in range(count)]
            if queue.delivery == AT_LEAST_ONCE and reader:
                queue.taken[reader] = found
            self._change.notify_all()
            return found

    def join(self, name: str, writer: str) -> None:
        with self._lock:
            queue = self._of(name)
            if queue.closed:
                raise Conflict(
                    f"The stream {name!r} was closed before this producer was called.",
                    hint="Let the program close it, once it has called all of its producers.",
                )
            queue.writers.add(writer)

    def finish(self, name: str, writer: str) -> None:
        with self._lock:
            queue = self._of(name)
            queue.ending = True
            queue.writers.discard(writer)
            self._settle(queue)

    def leave(self, name: str, member: str, ok: bool) -> None:
        with self._lock:
            queue = self._of(name)
            queue.ages[member] += 1
            back = queue.taken.pop(member, [])
            if not ok:
                queue.unread.extendleft(reversed(back))
                queue.ending = queue.ending or member in queue.writers
            queue.writers.discard(member)
            self._settle(queue)
            self._change.notify_all()

    def give_back(self, name: str, reader: str, messages: list[bytes]) -> None:
        """These could not be handed over: they are unread again."""
        with self._lock:
            queue = self._of(name)
            queue.taken.pop(reader, None)
            queue.unread.extendleft(reversed(messages))
            self._change.notify_all()

    def over(self, name: str) -> bool:
        with self._lock:
            queue = self._of(name)
            self._draw(queue)
            return queue.closed and not queue.unread

    def watch(self, name: str, source: Source) -> None:
        """Take messages from this source, too."""
        with self._lock:
            self._of(name).source = source

    def news(self) -> None:
        """A source has something: whoever waits looks."""
        with self._lock:
            self._change.notify_all()

    def waiting(self) -> set[str]:
        """The readers that wait for messages. `stuck` may call it."""
        with self._lock:
            return {reader for queue in self._queues.values() for reader, count in queue.blocked.items() if count}

    def end(self) -> None:
        with self._lock:
            for queue in self._queues.values():
                queue.ending = True
                self._settle(queue)

    def handle(self) -> Any:
        from isthmus.tasks.streams.line import Line, Server

        with self._lock:
            if self._server is None:
                self._server = Server(self)
        return Line, self._server.address

    def close(self) -> None:
        """Nobody reads or writes any more."""
        with self._lock:
            server, self._server = self._server, None
            for queue in self._queues.values():
                queue.closed = True
                if queue.source is not None:
                    queue.source.close()
            self._change.notify_all()
        if server is not None:
            server.close()

    def _of(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            raise NotFound(f"There is no stream {name!r}.", hint=nearest(name, self._queues))
        return queue

    def _draw(self, queue: _Queue) -> None:
        if queue.source is not None and not queue.closed:
            queue.unread.extend(queue.source.taken())
            queue.begun = queue.begun or bool(queue.unread)

    def _settle(self, queue: _Queue) -> None:
        if queue.ending and not queue.writers and not queue.closed:
            self._draw(queue)
            queue.closed = True
            self._change.notify_all()

    def _ask_whether_stuck(self, name: str, queue: _Queue) -> None:
        if self._stuck is None or queue.closed or queue.writers or queue.source is not None:
            return
        # Whoever answers holds the program's lock, and its tasks' ends come here with it: never both the other way.
        self._lock.release()
        try:
            stuck = self._stuck(name)
        finally:
            self._lock.acquire()
        if stuck and not queue.writers:
            queue.ending = True
            self._settle(queue)
