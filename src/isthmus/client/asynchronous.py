"""`AsyncClient`: the asynchronous SDK, over HTTP or to a control plane in the same process."""

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from isthmus.client import config
from isthmus.client.config import Config
from isthmus.client.connection import Connection
from isthmus.client.events import Events
from isthmus.client.jobs import Jobs
from isthmus.client.placement import Placement
from isthmus.client.sites import Sites
from isthmus.client.users import Secrets, Tokens, Users
from isthmus.domain.views import Check, Overview, ServerView

if TYPE_CHECKING:
    from isthmus.client.artefacts import Datasets, Images


class AsyncClient:
    """A server, spoken to: ``client.jobs``, ``.sites``, ``.datasets``, ``.images``, ``.users``, ``.tokens``,
    ``.secrets``, ``.events``, ``.placement``.

    Without a `url`, the server of ISTHMUS_URL or of `isthmus login`. `ca` is the PEM of an authority, or its file;
    `fingerprint` pins the server's own certificate (it is fetched once, here, and blocks for that). A call goes on
    trying for `patience_s` while the server does not answer, where asking twice does no harm.
    """

    def __init__(
        self,
        url: str = "",
        token: str = "",
        *,
        ca: str | Path = "",
        fingerprint: str = "",
        patience_s: float = 5.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        found = _config(url, token, ca)
        if fingerprint:
            from isthmus.client import pinning

            found = replace(found, certificate=pinning.fetch(found.url, fingerprint))
        self._begin(Connection(found, transport=transport, patience_s=patience_s))

    def _begin(self, connection: Connection) -> None:
        self.connection = connection
        self.jobs = Jobs(connection)
        self.sites = Sites(connection)
        self.placement = Placement(connection)
        self.users = Users(connection)
        self.tokens = Tokens(connection)
        self.secrets = Secrets(connection)
        self.events = Events(connection)
        self._stack = AsyncExitStack()

    @cached_property
    def datasets(self) -> "Datasets":
        """Datasets: content that jobs read."""
        from isthmus.client.artefacts import Datasets  # what few commands need

        return Datasets(self.connection)

    @cached_property
    def images(self) -> "Images":
        """Images: what jobs run in."""
        from isthmus.client.artefacts import Images

        return Images(self.connection)

    @classmethod
    def of(cls, config: Config, *, patience_s: float = 5.0, transport: httpx.AsyncBaseTransport | None = None) -> Self:
        """A client for the server of this configuration."""
        client = cls.__new__(cls)
        client._begin(Connection(config, transport=transport, patience_s=patience_s))
        return client

    def with_token(self, token: str) -> "AsyncClient":
        """A client for the same server by another token."""
        theirs = replace(self.connection.config, token=token)
        return AsyncClient.of(theirs, patience_s=self.connection.patience_s, transport=self.connection.transport)

    async def ping(self) -> str:
        """The server's version. Needs no token. Raises Unavailable where none answers."""
        return (await self.connection.ask(dict[str, str], "GET", "/v1/ping"))["isthmus"]

    async def server(self) -> ServerView:
        """Which control plane this is."""
        return await self.connection.ask(ServerView, "GET", "/v1/server")

    async def checks(self) -> list[Check]:
        """Whether all is well where the control plane runs, one thing after another."""
        return await self.connection.ask(list[Check], "GET", "/v1/server/checks")

    async def overview(self, user: str = "") -> Overview:
        """What needs somebody, what runs, what ended today, what the week took; of one user's jobs, or everybody's."""
        return await self.connection.ask(Overview, "GET", "/v1/overview", query={"user": user or None})

    async def close(self) -> None:
        """Let go of connections; of the control plane too, where it is embedded."""
        await self.connection.close()
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _config(url: str, token: str, ca: str | Path) -> Config:
    if not url:
        found = config.load()
        found = replace(found, token=token or found.token)
    else:
        found = Config(url=url.rstrip("/"), token=token)
    text = str(ca)
    if text:
        found = replace(found, ca=text if "BEGIN CERTIFICATE" in text else Path(ca).read_text())
    return found
