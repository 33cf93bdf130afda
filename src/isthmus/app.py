"""The composition root: one process of the control plane, put together from its settings.

    settings ─► database, vault ─► use cases ─► supervisor (a task), API and panel (ASGI)

`isthmus.serving` puts it behind HTTP; `embedded` gives it to a client in the same process.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI
from starlette.types import ASGIApp

from isthmus import __version__
from isthmus.api import http, tls
from isthmus.api.services import Services
from isthmus.api.tls import Certificate
from isthmus.control.artefacts import Artefacts
from isthmus.control.dispatch import Dispatcher
from isthmus.control.doctor import Doctor
from isthmus.control.forecasting import Forecasting
from isthmus.control.governing import Governing
from isthmus.control.identity import Identity
from isthmus.control.jobs import Jobs
from isthmus.control.logs import Logs
from isthmus.control.measurements import Measurements
from isthmus.control.needs import Needs
from isthmus.control.opening import opener
from isthmus.control.overview import Overviews
from isthmus.control.queueplan import QueuePlans
from isthmus.control.reporting import Reporting
from isthmus.control.sessions import Sessions
from isthmus.control.signing import Signing
from isthmus.control.sites import Sites
from isthmus.control.supervisor import Supervisor
from isthmus.control.tokens import AttemptTokens
from isthmus.control.vault import Vault
from isthmus.data.collection import Collection
from isthmus.data.staging import Staging
from isthmus.data.store import FolderStore, Store
from isthmus.db import instance
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database, parse_url
from isthmus.domain.clock import Clock, SystemClock
from isthmus.domain.errors import Conflict, IsthmusError, Unauthenticated
from isthmus.domain.sites import SiteSpec
from isthmus.domain.views import ServerView
from isthmus.panel import application
from isthmus.panel.live import Live
from isthmus.panel.openid import Provider, provider_of
from isthmus.settings import Settings

log = logging.getLogger(__name__)

LOCAL = "local"
TOKEN_FILE = "admin.token"
LOCK_FILE = "up.lock"


@dataclass(kw_only=True)
class App:
    """One open process of the control plane."""

    settings: Settings
    services: Services
    api: FastAPI
    web: ASGIApp  # what listens: the API, and the panel at all other paths
    db: Database
    supervisor: Supervisor | None
    token: str  # of the first admin, for whoever has the data folder
    link: str  # to the panel; signs that admin in once
    first_start: bool
    certificate: Certificate | None

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings) -> AsyncIterator[Self]:
        """The database, the use cases, the supervisor at work; all of it stopped at the end."""
        async with AsyncExitStack() as stack:
            yield await cls._open(settings, stack)

    @classmethod
    async def _open(cls, settings: Settings, stack: AsyncExitStack) -> Self:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if parse_url(settings.database_url).get_backend_name() == "sqlite":
            stack.enter_context(_locked(settings))
        certificate = await asyncio.to_thread(_certificate, settings)
        clock: Clock = SystemClock()
        db = await Database.open(settings.database_url)
        stack.push_async_callback(db.close)
        vault = await asyncio.to_thread(Vault.open, settings.data)
        name = await db.write(instance.name, now=clock.now().timestamp())
        sessions = Sessions(db, vault, instance=name, data=settings.data)
        stack.push_async_callback(sessions.close)
        identity = Identity(db, vault, clock)
        stack.push_async_callback(identity.close)
        needs = Needs(db)
        logs = Logs(db, sessions, clock)
        tokens = AttemptTokens(vault.derived("attempt tokens"))
        store = await asyncio.to_thread(_store, settings)
        staging = Staging(db, store, opener(db, sessions), clock, zone=settings.zone)
        collection = Collection(store, zone=settings.zone)
        api_of_nodes = {"url": settings.url, "ca_pem": certificate.pem if certificate else ""}
        dispatcher = Dispatcher(db, staging, collection, logs, vault, tokens, clock, api=api_of_nodes)
        supervisor = Supervisor(db, sessions, needs, dispatcher, clock) if settings.supervisor else None
        sites = Sites(db, sessions, vault, clock)
        services = Services(
            identity=identity,
            jobs=Jobs(db, needs, logs, clock),
            measurements=Measurements(db),
            reporting=Reporting(db, tokens, clock),
            sites=sites,
            artefacts=Artefacts(db, store, staging, collection, sessions, clock, zone=settings.zone),
            plans=QueuePlans(db, needs, clock),
            signing=Signing(db, identity, clock, url=settings.url),
            overviews=Overviews(db, sites, clock),
            doctor=Doctor(db, sites, store, settings.data, version=__version__, store_url=settings.store),
            governing=Governing(db, clock),
            forecasting=Forecasting(db, needs, clock),
            server=ServerView(
                version=__version__,
                instance=name,
                started_at=datetime.now(UTC),
                database=db.kind,
                supervisor=settings.supervisor,
                features=_features(settings),
                python=sys.executable,
            ),
            max_body=settings.max_body,
            max_chunk=settings.max_chunk,
        )
        token, first = await _admin(identity, settings.data)
        if settings.local_site:
            await _add_local(services, db, token)
        if supervisor is not None:
            stack.push_async_callback(_stopped, asyncio.create_task(_supervised(supervisor, clock)))
        api = http.create(services)
        live = Live(services)
        stack.push_async_callback(live.close)
        ca = certificate.pem if certificate and certificate.self_signed else ""
        panel = application.create(services, live, settings.url, _provider(settings), api=api, ca=ca)
        return cls(
            settings=settings,
            services=services,
            api=api,
            web=application.Front(api, panel),
            db=db,
            supervisor=supervisor,
            token=token,
            link=(await services.signing.link(await identity.authenticate(token))).url if token else settings.url,
            first_start=first,
            certificate=certificate,
        )


@asynccontextmanager
async def embedded(data: str | Path | None = None, **more: Any) -> AsyncIterator[App]:
    """A control plane for this process alone, reached by its ASGI app. `more`: fields of `Settings`."""
    settings = Settings(**more) if data is None else Settings(data=Path(data), **more)
    async with App.opened(settings) as app:
        try:
            yield app
        finally:
            app.services.stopping.set()


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """The data folder for this process alone: two on one SQLite file would not hear of each other's changes in time.

    Processes on one PostgreSQL share it, or a network file system's, for what is uploaded and collected.
    """
    path = settings.data / LOCK_FILE
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.read(handle, 500).decode(errors="replace").strip()
            raise Conflict(
                f"A control plane runs on {settings.data} already ({other}).",
                hint="Talk to that one (isthmus login, isthmus.Client()), or name another folder with --data.",
                code="already-running",
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, f"pid {os.getpid()}\n".encode())
        yield
    finally:
        os.close(handle)


def _store(settings: Settings) -> Store:
    """The object store at ``s3://bucket/prefix``, with its spool in the data folder; without one, in that folder."""
    folder = settings.data / "store"
    if not settings.store:
        store = FolderStore(folder)
        store.prepare()
        return store
    from isthmus.data.s3 import S3Store

    s3 = S3Store(settings.store, folder / "incoming")
    s3.prepare()
    return s3


def _features(settings: Settings) -> tuple[str, ...]:
    """What this server can do that others may not."""
    optional = {"ssh": "asyncssh", "postgresql": "psycopg", "openid": "authlib"}
    found = [name for name, module in optional.items() if importlib.util.find_spec(module)]
    return (*found, *(["tls"] if settings.https else []))


def _provider(settings: Settings) -> Provider | None:
    if not settings.openid:
        return None
    return provider_of(
        settings.openid,
        settings.openid_client,
        settings.openid_secret,
        settings.openid_claim,
        settings.openid_role,
        settings.openid_label,
        settings.url,
    )


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is not None:
        return tls.load(settings.tls_cert, settings.tls_key or settings.tls_cert)
    if settings.tls == "self-signed":
        host = settings.host if settings.host not in ("0.0.0.0", "::") else ""
        return tls.self_signed(settings.data, [host] if host else [])
    return None


async def _admin(identity: Identity, data: Path) -> tuple[str, bool]:
    """The admin's token that lies in the data folder; a new one where there is none that is good."""
    path = data / TOKEN_FILE
    made = await identity.bootstrap()
    if made is None and path.exists():
        token = path.read_text().strip()
        with contextlib.suppress(Unauthenticated):
            await identity.authenticate(token)
            return token, False
    first = made is not None
    if made is None:
        try:
            made = await identity.recover()
        except IsthmusError as error:
            log.warning("no admin's token for %s: %s", path, error)
            return "", False
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(made.token + "\n")
    part.replace(path)
    return made.token, first


async def _add_local(services: Services, db: Database, token: str) -> None:
    """This machine as the first site, unless there was ever another."""
    known = await db.read(lambda connection: len(site_rows.every(connection, removed=True)))
    if known or not token:
        return
    caller = await services.identity.authenticate(token)
    try:
        await services.sites.add(caller, SiteSpec(name=LOCAL, kind="local"))
    except IsthmusError as error:
        log.warning("this machine could not be added as a site: %s", error)


async def _supervised(supervisor: Supervisor, clock: Clock) -> None:
    """Keep the supervisor going: a fault of its own is logged, and it begins anew from the database."""
    delay = 1.0
    while True:
        began = clock.monotonic()
        try:
            await supervisor.run()
        except Exception:
            log.exception("the supervisor failed; it begins anew in %.0f s", delay)
        if clock.monotonic() - began > 60:
            delay = 1.0
        await clock.sleep(delay)
        delay = min(delay * 2, 30.0)


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
