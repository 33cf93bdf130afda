"""News between those who write and those who wait: topics, in this process and through PostgreSQL's NOTIFY.

A topic is a short word such as ``supervisor`` or ``job:17``. A write tells topics; when it is committed, every
:meth:`Database.watch` of one of them is set. News may come twice or for nothing; it never comes before the commit,
and after a lost connection everything is told once, since some of it may have been missed.
"""

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.engine import URL

SUPERVISOR = "supervisor"
EVERYTHING = "*"

TOPICS = "isthmus.topics"  # where a connection keeps what its transaction told
CHANNEL = "isthmus"
MAX_PAYLOAD = 7900  # PostgreSQL takes less than 8000 bytes
RETRY_S = 1.0


def tell(connection: Connection, *topics: str) -> None:
    """Let those who watch these topics know, once the transaction is committed. Called within a write."""
    connection.info.setdefault(TOPICS, set()).update(topics)


class Topics:
    """Who waits for what in this process. Used from the event loop only."""

    def __init__(self) -> None:
        self._watches: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def add(self, topics: Iterable[str], news: asyncio.Event) -> None:
        for topic in topics:
            self._watches[topic].add(news)

    def discard(self, topics: Iterable[str], news: asyncio.Event) -> None:
        for topic in topics:
            self._watches[topic].discard(news)
            if not self._watches[topic]:
                del self._watches[topic]

    def publish(self, topics: Iterable[str]) -> None:
        """Set every watch of one of the topics."""
        for topic in topics:
            if topic == EVERYTHING:
                topics = tuple(self._watches)
                break
        for topic in topics:
            for news in self._watches.get(topic, ()):
                news.set()


class Listener:
    """Carries topics between processes that share a PostgreSQL database."""

    def __init__(self, url: URL, topics: Topics) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._topics = topics
        self._me = secrets.token_hex(8)  # its own news, which it knows already
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns when what is told from now on will be heard."""
        listening = asyncio.Event()
        self._task = asyncio.create_task(self._run(listening), name="database-listener")
        await listening.wait()

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    def publish(self, connection: Connection, topics: set[str]) -> None:
        """Send the topics with the transaction's commit."""
        payload = " ".join([self._me, *sorted(topics)])
        if len(payload.encode()) > MAX_PAYLOAD:
            payload = f"{self._me} {EVERYTHING}"
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    async def _run(self, listening: asyncio.Event) -> None:
        import psycopg

        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, connect_timeout=10, application_name="isthmus-listener"
                ) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    if listening.is_set():
                        self._topics.publish([EVERYTHING])
                    listening.set()
                    async for notification in connection.notifies():
                        sender, *topics = notification.payload.split(" ")
                        if sender != self._me:
                            self._topics.publish(topics)
            except psycopg.Error:
                # Writes and reads say that the server is away; here it is enough to come back.
                await asyncio.sleep(RETRY_S)
