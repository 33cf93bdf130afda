"""The doctor: whether all is well where the control plane runs, one thing after another, and what to do where not."""

import asyncio
import os
import platform
import shutil
import time
from pathlib import Path

from sqlalchemy import Connection

from isthmus.control.leadership import LEASE
from isthmus.control.rights import require
from isthmus.control.sites import Sites
from isthmus.data.store import Store
from isthmus.db import leases
from isthmus.db.engine import Database
from isthmus.domain.errors import IsthmusError
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.units import show_bytes
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import Check, SiteView

LOW_BYTES = 1 << 30
SLOW_S = 1.0
NOTHING = f"sha256:{'0' * 64}"  # a digest that no content has: asking for it tries the way to the store


class Doctor:
    """Looks at the server's side; what a client sees from where it is, `isthmus doctor` adds."""

    def __init__(
        self, db: Database, sites: Sites, store: Store, data: Path, *, version: str, store_url: str = ""
    ) -> None:
        self._db = db
        self._sites = sites
        self._store = store
        self._data = data
        self._version = version
        self._store_url = store_url  # "": a folder of the data folder

    async def checks(self, caller: Caller) -> list[Check]:
        """Everything, in the order in which one thing rests on another. Raises Unavailable without a database."""
        require(caller, Role.VIEWER, Scope.READ)
        python = f"{self._version}, Python {platform.python_version()}, {platform.machine()}"
        found = [Check("server", "ok", python)]
        began = time.perf_counter()
        leader = await self._db.read(_leader)
        found.append(_timed("database", self._db.kind, time.perf_counter() - began))
        found.append(_supervisor(leader))
        found.append(await self._of_store())
        found.append(await asyncio.to_thread(_disk, self._data))
        sites = await self._sites.list(caller)
        if not sites:
            found.append(Check("sites", "warn", "there is none", "isthmus site add NAME URL"))
        return [*found, *map(_site, sites)]

    async def _of_store(self) -> Check:
        began = time.perf_counter()
        try:
            await self._store.stat(NOTHING)
        except IsthmusError as error:
            return Check("store", "fail", error.message, error.hint)
        return _timed("store", self._store_url or "a folder", time.perf_counter() - began)


def _disk(folder: Path) -> Check:
    """Whether there is room for more. Blocks."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        hint = "Name another folder: isthmus up --data DIR"
        return Check("disk", "warn", f"{folder} is not writable", hint)
    if free < LOW_BYTES:
        hint = "Make room, or use isthmus up --data DIR"
        return Check("disk", "warn", f"{show_bytes(free)} free at {folder}", hint)
    return Check("disk", "ok", f"{show_bytes(free)} free at {folder}")


def _leader(conn: Connection) -> leases.Lease | None:
    return leases.holder(conn, LEASE, now=leases.clock(conn))


def _timed(what: str, kind: str, seconds: float) -> Check:
    found = f"{kind}, answers in {seconds * 1000:.0f} ms"
    if seconds > SLOW_S:
        return Check(what, "warn", found, "Everything waits for it: is its machine too busy?")
    return Check(what, "ok", found)


def _supervisor(leader: leases.Lease | None) -> Check:
    if leader is None:
        hint = "After a restart it takes some seconds; else start `isthmus up` without --no-supervisor."
        return Check("supervisor", "warn", "no process leads: no job is started or ended", hint)
    return Check("supervisor", "ok", f"{leader.owner} leads")


def _site(site: SiteView) -> Check:
    engines = ", ".join(site.inventory.engines) or "no container engine"
    state = "" if site.state is SiteState.ENABLED else f", {site.state.value}"
    words = f"{site.health.value}{state}; {engines}"
    what = f"site {site.name}"
    if site.health is Health.UNREACHABLE:
        found = f"{words}: {site.health_message}"
        return Check(what, "fail", found, f"isthmus site test {site.name}")
    return Check(what, "ok" if site.state is SiteState.ENABLED else "warn", words)
