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
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from isthmus.db.failures import unreachable
from isthmus.domain.errors import Unavailable

SUPERVISOR = "supervisor"
PLACEMENT = "placement"  # its rules or prices changed
EVERYTHING = "*"

TOPICS = "isthmus.topics"  # where a connection keeps what its transaction told
CHANNEL = "isthmus"
MAX_PAYLOAD = 7900  # PostgreSQL takes less than 8000 bytes
RETRY_S = 1.0

# How every connection to PostgreSQL is made; one that went silent is noticed after a minute.
CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "isthmus",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


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
    """Carries topics between processes that share a PostgreSQL database. Used from the event loop only.

    It waits on the connection's socket itself: no thread, and nothing that must be cancelled.
    """

    def __init__(self, url: URL, topics: Topics) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._topics = topics
        self._me = secrets.token_hex(8)  # its own news, which it knows already
        self._connection: Any = None  # a psycopg.Connection; the package is optional
        self._socket = -1
        self._mending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; returns when what is told from now on will be heard. Raises Unavailable."""
        import psycopg

        loop = asyncio.get_running_loop()
        connecting = loop.run_in_executor(None, self._connect)
        try:
            self._connection = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_hang_up)
            raise
        except psycopg.Error as error:
            raise unreachable(error) from error
        self._socket = self._connection.fileno()
        loop.add_reader(self._socket, self._hear)

    async def stop(self) -> None:
        """Hear no more. May be called again."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
        self._let_go()

    def publish(self, connection: Connection, topics: set[str]) -> None:
        """Send the topics with the transaction's commit. Called in the writer's thread."""
        payload = " ".join([self._me, *sorted(topics)])
        if len(payload.encode()) > MAX_PAYLOAD:
            payload = f"{self._me} {EVERYTHING}"
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    def _connect(self) -> Any:
        import psycopg

        connection = psycopg.connect(self._url, autocommit=True, **CONNECT)
        connection.execute(f"LISTEN {CHANNEL}")
        return connection

    def _hear(self) -> None:
        import psycopg

        try:
            self._connection.pgconn.consume_input()
        except psycopg.Error:
            self._let_go()
            self._mending = asyncio.get_running_loop().create_task(self._mend(), name="database-listener")
            return
        while notification := self._connection.pgconn.notifies():
            sender, *topics = notification.extra.decode().split(" ")
            if sender != self._me:
                self._topics.publish(topics)

    async def _mend(self) -> None:
        # Writes and reads say that the server is away; here it is enough to come back.
        while self._connection is None:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(Unavailable):
                await self.start()
        self._topics.publish([EVERYTHING])

    def _let_go(self) -> None:
        if self._connection is not None:
            # By its number: a connection that was lost has closed its socket already.
            asyncio.get_running_loop().remove_reader(self._socket)
            self._connection.close()
            self._connection = None


def _hang_up(connecting: "asyncio.Future[Any]") -> None:
    """Close a connection that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
