"""Which tasks hold streams, and the broker of this process.

A task that is given a stream by STREAM_OUT is one of its producers from its call to its end; by STREAM_IN, a consumer.
Each gets a worker of its own while it lives: waiting for one another, they must not wait for a place to run.
"""

import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid
from isthmus.tasks.graph import DONE, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.streams.broker import Broker
from isthmus.tasks.streams.folder import Folder
from isthmus.tasks.streams.queues import Queues

if TYPE_CHECKING:
    from isthmus.tasks.streams.stream import Stream

_numbers = itertools.count(1)
_lock = threading.Lock()
_connected: dict[Any, Broker] = {}


def token() -> str:
    """A name for a member, that no other has."""
    return f"{os.getpid()}-{next(_numbers)}"


class Members:
    """Those of a program. A watcher: it is told of the end of each task, while the program's lock is held."""

    def __init__(self, program: Any) -> None:
        self._program = program
        self._lock = getattr(program, "lock", None) or threading.RLock()
        self._of: dict[int, list[tuple[Stream, bool]]] = {}
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """What carries the streams that are made here."""
        if self._broker is None:
            self._broker = self._make()
        return self._broker

    def _make(self) -> Broker:
        address = self._program.settings.streams
        if address:
            from isthmus.tasks.streams.nats import Nats

            return Nats(address)
        if self._program.engine.name == "sequential":
            return Queues(reopens=True)
        if self._program.engine.depth:
            raise Invalid(
                "A task can't make a stream: it would end with its worker.",
                hint="Make it in the program and pass it; or set ISTHMUS_TASKS_STREAMS=nats://HOST.",
            )
        return Queues(stuck=self._stuck)

    def joined(self, node: Node, held: list[tuple["Stream", bool]]) -> None:
        """The task was called with these streams: each, and whether it writes (locked).

        Raises Conflict where one that it would write is closed.
        """
        for stream, writes in held:
            if writes:
                stream._broker.join(stream.name, stream.member)
        self._of[node.id] = held
        self._lend(1)

    def submitted(self, node: Node) -> None:
        """It has joined already."""

    def retried(self, node: Node) -> None:
        for stream, writes in self._of.get(node.id, ()):
            if not writes:
                stream._broker.leave(stream.name, stream.member, False)

    def ended(self, node: Node, seconds: float, where: int) -> None:
        held = self._of.pop(node.id, None)
        if held is None:
            return
        for stream, writes in held:
            if writes and stream.ends_with_producers:
                stream._broker.finish(stream.name, stream.member)
            stream._broker.leave(stream.name, stream.member, node.state == DONE)
        self._lend(-1)

    def close(self) -> None:
        """The program has ended."""
        if self._broker is not None:
            self._broker.close()

    def last_call(self) -> None:
        """The program calls no more tasks: streams close when their producers have ended."""
        if self._broker is not None:
            self._broker.end()

    def _lend(self, more: int) -> None:
        lend = getattr(self._program.engine, "lend", None)
        if lend is not None:
            lend(more)

    def _stuck(self, name: str) -> bool:
        """Whether all wait: the program for its tasks, and each task that runs for a message."""
        assert isinstance(self._broker, Queues)
        with self._lock:
            if not Waiter.blocked or self._program.has_jobs:
                return False
            nodes = self._program.engine.nodes()
            waiting = self._broker.waiting()
            return bool(nodes) and all(
                any(not writes and stream.member in waiting for stream, writes in self._of.get(node.id, ()))
                for node in nodes
            )


def members(program: Any) -> Members:
    """Those of the program, which has them from now on."""
    with _lock:
        if program.members is None:
            program.members = Members(program)
            program.watchers.append(program.members)
        found: Members = program.members
        return found


def broker() -> Broker:
    """The broker of this process's program, which is started if it was not."""
    from isthmus.tasks.current import current

    return members(current()).broker


def watch(name: str, folder: str, existing: bool) -> None:
    """Files of the folder are messages of the stream."""
    queues = broker()
    if not isinstance(queues, Queues):
        raise Invalid(
            "A stream of files is of one machine.", hint="Publish paths to an ObjectStream where NATS carries streams."
        )
    queues.watch(name, Folder(folder, queues.news, existing=existing))


def connected(make: Any, address: Any) -> Broker:
    """The broker that a stream came with; one for all streams that came with the same."""
    from isthmus.tasks.current import running

    ours = getattr(running(), "members", None)
    if ours is not None and ours._broker is not None and ours._broker.handle()[1] == address:
        return ours._broker  # type: ignore[no-any-return]  # back where it was made: it needs no line
    with _lock:
        found = _connected.get(address)
        if found is None:
            found = _connected[address] = make(*address)
        return found
