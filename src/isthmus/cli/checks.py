"""What `isthmus doctor` looks at, one check after another; each says what it found and what to do."""

import os
import platform
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

from isthmus import __version__
from isthmus.client import AsyncClient, config
from isthmus.domain.errors import IsthmusError
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.units import show_bytes
from isthmus.settings import data_home

ENGINES = {
    "apptainer": "apptainer",
    "singularity": "singularity",
    "podman": "podman",
    "docker": "docker",
    "charliecloud": "ch-run",
}
LOW_BYTES = 1 << 30
SKEW_S = 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    what: str
    result: Literal["ok", "warn", "fail"]
    found: str
    hint: str = ""


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
    yield _disk(data_home())


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
    sites = await isthmus.sites.list()
    if not sites:
        yield Check("sites", "warn", "there is none", "isthmus site add NAME URL")
    for site in sites:
        engines = ", ".join(site.inventory.engines) or "no container engine"
        state = "" if site.state is SiteState.ENABLED else f", {site.state.value}"
        words = f"{site.health.value}{state}; {engines}"
        if site.health is Health.UNREACHABLE:
            yield Check(
                f"site {site.name}", "fail", f"{words}: {site.health_message}", f"isthmus site test {site.name}"
            )
        else:
            yield Check(f"site {site.name}", "ok" if site.state is SiteState.ENABLED else "warn", words)


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


def _disk(folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Check("disk", "warn", f"{folder} is not writable", "Name another folder: isthmus up --data DIR")
    if free < LOW_BYTES:
        return Check("disk", "warn", f"{show_bytes(free)} free at {folder}", "Make room, or use isthmus up --data DIR")
    return Check("disk", "ok", f"{show_bytes(free)} free at {folder}")
