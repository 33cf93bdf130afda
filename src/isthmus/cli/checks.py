"""What `isthmus doctor` looks at: from here to the server, then what the server says of its own side."""

import platform
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from isthmus import __version__
from isthmus.client import AsyncClient, config
from isthmus.domain.errors import IsthmusError
from isthmus.domain.views import Check

ENGINES = {
    "apptainer": "apptainer",
    "singularity": "singularity",
    "podman": "podman",
    "docker": "docker",
    "charliecloud": "ch-run",
}
SKEW_S = 30


async def all_of(client: Callable[[], AbstractAsyncContextManager[AsyncClient]]) -> AsyncIterator[Check]:
    """Everything, in the order in which one thing rests on another."""
    yield Check("isthmus", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    try:
        found = config.load()
    except IsthmusError as error:
        yield Check("configuration", "fail", str(error.message), error.hint)
    else:
        yield Check("configuration", "ok", f"{found.url} (from {found.source})")
        async with client() as isthmus:
            async for check in _server(isthmus):
                yield check
    yield _engines()


async def _server(isthmus: AsyncClient) -> AsyncIterator[Check]:
    began = time.perf_counter()
    try:
        answer = await isthmus.connection.send("GET", "/v1/ping")
    except IsthmusError as error:
        yield Check("server", "fail", error.message, error.hint)
        return
    took = (time.perf_counter() - began) * 1000
    version = answer.json().get("isthmus", "")
    hint = "" if version == __version__ else f"This client is {__version__}: use the same version on both sides."
    yield Check("server", "warn" if hint else "ok", f"version {version}, answers in {took:.0f} ms", hint)
    yield _clock(answer.headers.get("date", ""))
    try:
        me = await isthmus.users.me()
    except IsthmusError as error:
        yield Check("token", "fail", error.message, error.hint)
        return
    yield Check("token", "ok", f"{me.user} ({me.role.value}); scopes: {', '.join(scope.value for scope in me.scopes)}")
    for check in await isthmus.checks():
        yield check


def _clock(date: str) -> Check:
    """Whether this machine and the server agree on the time, to the second that HTTP tells."""
    if not date:
        return Check("clock", "warn", "the server tells no time")
    skew = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    if abs(skew) > SKEW_S:
        return Check(
            "clock",
            "warn",
            f"{skew:+.0f} s against the server's",
            "Set both by NTP: tokens and deadlines expire by it.",
        )
    return Check("clock", "ok", "agrees with the server's")


def _engines() -> Check:
    have = [name for name, program in ENGINES.items() if shutil.which(program)]
    return Check("engines here", "ok", ", ".join(have) or "none (jobs with images need one where they run)")
