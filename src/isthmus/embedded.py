"""The SDK with a control plane in the same process, on a data folder, without any server.

    with isthmus.EmbeddedClient("folder") as client:
        client.jobs.run(isthmus.JobRequest(command=("true",)))

It stands above the app that it starts; `isthmus.client`, which speaks to servers, is below.
"""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from isthmus import app
from isthmus.client import AsyncClient, Client


class AsyncEmbeddedClient(AsyncClient):
    """`AsyncClient` with its own control plane: see `open`."""

    @classmethod
    async def open(cls, data: str | Path | None = None, **settings: Any) -> Self:
        """Start a control plane on the data folder; `close` stops it. ``settings``: fields of `isthmus.settings`.

        What it has started goes on after that, and is found again by whatever opens the folder next. Raises Conflict
        where a control plane runs on that folder already.
        """
        stack = AsyncExitStack()
        plane = await stack.enter_async_context(app.embedded(data, **settings))
        client = cls("http://embedded", plane.token, transport=httpx.ASGITransport(plane.api))
        client._stack = stack
        return client


class EmbeddedClient(Client):
    """`Client` with its own control plane: see `AsyncEmbeddedClient.open`."""

    def __init__(self, data: str | Path | None = None, **settings: Any) -> None:
        self._open(AsyncEmbeddedClient.open(data, **settings))
