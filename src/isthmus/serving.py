"""Serving an app over HTTP: the listening socket, uvicorn, and an orderly stop."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn

from isthmus.app import App
from isthmus.domain.errors import Unavailable
from isthmus.settings import Settings

GRACE_S = 5  # for requests on their way when the server is told to stop
PORTS_TRIED = 20
PORT_FILE = "port"  # in the data folder: what it listened on last


def run(settings: Settings, announce: Callable[[App], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once it listens. Raises IsthmusError. Blocks.

    What runs at sites goes on when this ends, and is found again at the next start.
    """
    _raise_file_limit()
    asyncio.run(_serve(settings, announce))


async def _serve(settings: Settings, announce: Callable[[App], None]) -> None:
    listening = _listen(settings)
    settings = replace(settings, port=listening.getsockname()[1])
    with contextlib.closing(listening):
        async with App.opened(settings) as app:
            _remember(settings)
            config = uvicorn.Config(
                app.web,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
                ssl_certfile=app.certificate.cert if app.certificate else None,
                ssl_keyfile=app.certificate.key if app.certificate else None,
                server_header=False,
            )
            server = _Server(config, app, announce)
            await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """uvicorn, which tells the app when it listens and when it is to stop."""

    def __init__(self, config: uvicorn.Config, app: App, announce: Callable[[App], None]) -> None:
        super().__init__(config)
        self._app = app
        self._announce = announce
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._settling = self._loop.create_task(self._settle())
        self._announce(self._app)

    async def _settle(self) -> None:
        """What is loaded by now stays: each whole garbage collection would walk it, and hold everybody up for 0.2 s."""
        if self._app.supervisor is not None:
            await self._app.supervisor.leading.wait()
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Long polls and streams end now, so that the server need not cut them when its grace is over.
        self._loop.call_soon_threadsafe(self._app.services.stopping.set)
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signals again at the end: the app still has to close."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def _listen(settings: Settings) -> socket.socket:
    """A socket on the port. Where it was not asked for by number: on the one that it had last, so that open pages and
    whoever follows a log find it again after a restart; else on the next free one."""
    if settings.port_is_fixed or not settings.port:
        ports = [settings.port]
    else:
        free = range(settings.port, settings.port + PORTS_TRIED + 1)
        last = last_port(settings.data)
        ports = [last, *free] if last else [*free]
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for port in ports:
        # asyncio turns Nagle's algorithm off only where the protocol is named: without, each answer waits 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, port))
            listening.listen(2048)
        except OSError as error:
            listening.close()
            if port != ports[-1] and error.errno == errno.EADDRINUSE:
                continue
            raise Unavailable(
                f"It can't listen on {settings.host}:{port}: {error.strerror}.",
                hint="Name another address with --listen HOST:PORT.",
                code="address-in-use",
            ) from None
        listening.setblocking(False)
        return listening
    raise AssertionError("unreachable")


def last_port(data: Path) -> int:
    """What the control plane of this data folder listened on last; 0: that is not known."""
    try:
        text = (data / PORT_FILE).read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() and int(text) < 65536 else 0


def _remember(settings: Settings) -> None:
    """Keep the port for the next start. One that can't be kept is no fault: the next start takes a free one."""
    part = settings.data / f".{PORT_FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        part.write_text(f"{settings.port}\n")
        part.replace(settings.data / PORT_FILE)


def _raise_file_limit() -> None:
    """As many open files as the system lets us have: each waiting client and each site is some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
