"""A control plane on a real SQLite database, with sites in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus.control import places
from isthmus.control.dispatch import Dispatcher
from isthmus.control.jobs import Jobs
from isthmus.control.logs import Logs
from isthmus.control.measurements import Measurements
from isthmus.control.needs import Needs
from isthmus.control.reporting import Reporting
from isthmus.control.sessions import Sessions
from isthmus.control.supervisor import Supervisor
from isthmus.control.tokens import AttemptTokens
from isthmus.control.vault import Vault
from isthmus.db import attempts as attempt_rows
from isthmus.db import credentials, users
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import SystemClock
from isthmus.domain.jobs import JobRequest
from isthmus.domain.sites import Health, SiteSpec
from isthmus.domain.users import Caller, Role
from isthmus.domain.views import JobView
from isthmus.sites.base import Site
from isthmus.testing.site import FakeSite

TRUE = JobRequest(command=("true",))


class FakeSessions(Sessions):
    """Sessions whose sites are in memory."""

    def __init__(self, db: Database, vault: Vault, data: Path, fakes: dict[str, FakeSite]) -> None:
        super().__init__(db, vault, instance="0a1b2c3d", data=data)
        self.fakes = fakes

    def lazy(self, site_id: int, user_id: int) -> Site:
        return self.fakes[self._specs[site_id].name]


class Plane:
    """One control plane in a test's hands. ``lead`` starts a supervisor; several may be started."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        self.fakes: dict[str, FakeSite] = {}
        self.clock = SystemClock()
        self.tokens = AttemptTokens(b"0" * 32)
        vault = Vault.open(folder)
        self.sessions = FakeSessions(db, vault, folder, self.fakes)
        self.needs = Needs(db)
        self.logs = Logs(db, self.sessions, self.clock)
        self.dispatcher = Dispatcher(
            db,
            None,
            None,
            self.logs,
            vault,
            self.tokens,
            self.clock,
            api=None,  # type: ignore[arg-type]
        )
        self.jobs = Jobs(db, self.needs, self.logs, self.clock)
        self.measurements = Measurements(db)
        self.reporting = Reporting(db, self.tokens, self.clock)
        self.caller: Caller
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        user = await self.db.write(lambda conn: users.create(conn, "ada", Role.ADMIN, now=1.0))
        self.caller = Caller(user=user)

    async def add(self, name: str = "here", kind: str = "local", **more: Any) -> FakeSite:
        fake = self.fakes[name] = FakeSite(name, clock=self.clock, **more)

        def write(conn: Any) -> None:
            spec = places.write_site(SiteSpec(name=name, kind=kind))
            inventory = places.write_inventory(fake.inventory)
            site_id = site_rows.add(conn, name, spec, now=1.0, inventory=inventory, health=Health.UP)
            credentials.put(conn, self.caller.user.id, site_id, now=1.0, shared=True)

        await self.db.write(write)
        return fake

    def lead(self, name: str = "") -> Supervisor:
        supervisor = Supervisor(self.db, self.sessions, self.needs, self.dispatcher, self.clock, name=name)
        self.tasks.append(asyncio.create_task(supervisor.run()))
        return supervisor

    async def stop(self) -> None:
        """As abrupt as a test can be without killing its own process."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.tasks.clear()

    async def submit(self, request: JobRequest = TRUE, **more: Any) -> JobView:
        (view,) = await self.jobs.submit(self.caller, [request], **more)
        return view

    async def done(self, *job_ids: int, timeout_s: float = 60.0) -> list[JobView]:
        views = await self.jobs.wait(self.caller, job_ids, timeout_s)
        assert all(view.state.ended for view in views), views
        return views

    async def until(self, condition: Callable[[JobView], bool], job_id: int, timeout_s: float = 60.0) -> JobView:
        """Wait until the job is as the condition wants it."""
        async with asyncio.timeout(timeout_s):
            with self.db.watch(f"job:{job_id}") as news:
                while True:
                    news.clear()
                    view = await self.jobs.get(self.caller, job_id)
                    if condition(view):
                        return view
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            await news.wait()

    async def key(self, job_id: int) -> str:
        """The key of its last attempt."""
        rows = await self.db.read(attempt_rows.of_job, job_id)
        return str(rows[-1].key)

    async def placed(self, job_id: int, site: FakeSite, attempts: int = 1) -> str:
        """Wait until the site has the job's attempt; its key."""
        await self.until(lambda view: view.attempts >= attempts, job_id)
        key = await self.key(job_id)
        async with asyncio.timeout(60):
            while key not in site.attempts:
                await site.called("submit", site.calls["submit"] + 1)
        return key


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    db = await Database.open(f"sqlite:///{tmp_path}/isthmus.db")
    plane = Plane(db, tmp_path)
    await plane.start()
    yield plane
    await plane.stop()
    await db.close()
