"""How a command talks to the server: asynchronous functions as Typer's commands, and the client they use."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from isthmus.client import AsyncClient

P = ParamSpec("P")

BRIEF_S = 1.0  # how long an ordinary command goes on trying when no server answers
PATIENT_S = 120.0  # and one that waits for a job: a restart of the server must not end it


def command(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The asynchronous function as a command."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        import asyncio

        asyncio.run(function(*args, **kwargs))

    return call


@asynccontextmanager
async def client(*, patience_s: float = BRIEF_S) -> "AsyncIterator[AsyncClient]":
    """The server of ISTHMUS_URL or `isthmus login`."""
    _lighten()
    from isthmus.client import AsyncClient

    async with AsyncClient(patience_s=patience_s) as found:
        yield found


def _lighten() -> None:
    """Leave out httpx's own command line, which brings rich, pygments and click: a third of a command's start-up."""
    import sys

    if "httpx" not in sys.modules:
        left_out: Any = None  # what makes the import fail, which httpx is prepared for
        sys.modules["httpx._main"] = left_out
        import httpx  # noqa: F401

        del sys.modules["httpx._main"]
