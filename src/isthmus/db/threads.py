"""Threads that run functions on connections: a few readers, and the one writer with its shared commits.

A thread keeps its connection; a function costs one hop to it and back. It owns transactions, and knows neither
tables nor which database it is.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import DBAPIError

from isthmus.db.failures import translate
from isthmus.db.notifications import TOPICS, Topics
from isthmus.domain.errors import Unavailable

T = TypeVar("T")

# Writes that wait at the same moment share one commit and its fsync. A group that took this long is committed,
# so that those in front don't wait for all behind them.
GROUP = 64
GROUP_S = 0.005


class Ask:
    """One function that waits for its turn in a thread."""

    __slots__ = ("error", "fn", "future", "value")

    def __init__(self, fn: Callable[[Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.fn = fn
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None


class Link:
    """A thread's connection, opened on first use and again after it was lost."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def get(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    @property
    def lost(self) -> bool:
        return self._connection is None or self._connection.invalidated

    def drop(self) -> None:
        if self._connection is not None:
            # A connection in trouble may fail to close as well; its server or file lets go of it anyway.
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None


class Threads:
    """Up to ``limit`` threads, started when needed, that take functions from one queue."""

    name = ""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, topics: Topics, limit: int) -> None:
        self._engine = engine
        self._loop = loop
        self._topics = topics
        self._limit = limit
        self._queue: queue.SimpleQueue[Ask | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unanswered = 0
        self._closed = False

    def put(self, fn: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Have ``fn`` run. Called from the loop only."""
        if self._closed:
            raise Unavailable("The database is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._unanswered += 1
        if len(self._threads) < min(self._limit, self._unanswered):
            thread = threading.Thread(target=self._run, name=f"isthmus-db-{self.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put(Ask(fn, future))
        return future

    def close(self) -> None:
        """Finish what is in the queue and end the threads. Blocks. May be called again."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._engine.dispose()

    def _run(self) -> None:
        link = Link(self._engine)
        while (ask := self._queue.get()) is not None:
            self._serve(link, ask)
        link.drop()

    def _serve(self, link: Link, ask: Ask) -> None:
        raise NotImplementedError

    def _answer(self, asks: Sequence[Ask], topics: Iterable[str] = ()) -> None:
        # RuntimeError: the loop is closed, and with it everybody who waited.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, asks, topics)

    def _deliver(self, asks: Sequence[Ask], topics: Iterable[str]) -> None:
        self._topics.publish(topics)
        for ask in asks:
            self._unanswered -= 1
            if ask.future.done():  # cancelled meanwhile
                continue
            if ask.error is None:
                ask.future.set_result(ask.value)
            elif isinstance(ask.error, StopIteration):  # which a future can't carry
                ask.future.set_exception(RuntimeError("A query's function let StopIteration escape."))
            else:
                ask.future.set_exception(ask.error)


class Readers(Threads):
    """Each function sees one snapshot; a lost connection costs a second try."""

    name = "reader"

    def _serve(self, link: Link, ask: Ask) -> None:
        if not ask.future.cancelled():
            fresh = link.lost
            self._try(link, ask)
            if ask.error is not None and link.lost:
                link.drop()
                if not fresh:  # it broke while it lay idle, or just now: reading twice harms nothing
                    ask.error = None
                    self._try(link, ask)
        self._answer([ask])

    def _try(self, link: Link, ask: Ask) -> None:
        try:
            connection = link.get()
            with connection.begin():
                ask.value = ask.fn(connection)
        except BaseException as error:  # noqa: BLE001 - carried to the one who asked
            ask.error = translate(error)


class Writer(Threads):
    """One thread, so one writer. Functions that wait at the same moment are committed together, each behind a
    savepoint of its own; nobody is answered before the commit."""

    name = "writer"

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        topics: Topics,
        publish: Callable[[Connection, set[str]], None] | None,
    ) -> None:
        super().__init__(engine, loop, topics, 1)
        self._publish = publish

    def _serve(self, link: Link, ask: Ask) -> None:
        waiting = deque([ask])
        with contextlib.suppress(queue.Empty):
            while len(waiting) < GROUP:
                following = self._queue.get_nowait()
                if following is None:
                    self._queue.put(None)  # the end: nothing is put after it
                    break
                waiting.append(following)
        while waiting:
            self._commit_some(link, waiting)

    def _commit_some(self, link: Link, waiting: deque[Ask]) -> None:
        group = [waiting.popleft()]
        topics: set[str] = set()
        try:
            with _begin(link) as transaction:
                self._run_group(transaction.connection, group, waiting, topics)
                if topics and self._publish:
                    self._publish(transaction.connection, topics)
        except BaseException as error:  # noqa: BLE001 - carried to those who asked; nothing of the group was kept
            broken = translate(error)
            for ask in group:
                ask.error = ask.error or broken
            topics.clear()
        if link.lost:
            link.drop()
        self._answer(group, topics)

    def _run_group(self, connection: Connection, group: list[Ask], waiting: deque[Ask], topics: set[str]) -> None:
        until = time.monotonic() + GROUP_S
        alone = not waiting
        while True:
            ask = group[-1]
            if not ask.future.cancelled():
                told: set[str] = connection.info.setdefault(TOPICS, set())
                told.clear()
                if alone:
                    ask.value = ask.fn(connection)
                else:
                    _behind_savepoint(connection, ask)
                if ask.error is None:
                    topics |= told
            if not waiting or time.monotonic() > until:
                return
            group.append(waiting.popleft())


def _begin(link: Link) -> RootTransaction:
    """A transaction, on a new connection where the old one was lost while it lay idle."""
    fresh = link.lost
    try:
        return link.get().begin()
    except DBAPIError:
        lost = link.lost
        link.drop()
        if fresh or not lost:
            raise
    return link.get().begin()


def _behind_savepoint(connection: Connection, ask: Ask) -> None:
    savepoint = connection.begin_nested()
    try:
        ask.value = ask.fn(connection)
    except BaseException as error:  # carried to the one who asked; the others are not touched
        ask.error = translate(error)
        if isinstance(ask.error, Unavailable) and error is not ask.error:
            raise  # the disk or the server: the whole transaction may be gone
        savepoint.rollback()
    else:
        savepoint.commit()
