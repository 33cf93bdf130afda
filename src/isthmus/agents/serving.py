"""An agent as a process: its workers, its socket, TLS, and an orderly end."""

import asyncio
import contextlib
import importlib
import os
import secrets
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from isthmus.agents.agent import Agent
from isthmus.agents.runs import Runs
from isthmus.agents.web import application
from isthmus.api.tls import Certificate
from isthmus.domain.errors import Invalid, Unavailable
from isthmus.tasks import start, stop
from isthmus.tasks.agents.line import Line


@dataclass(frozen=True)
class Plan:
    """What an agent is started with."""

    name: str
    host: str
    port: int
    token: str
    modules: list[str]
    workers: int = 0  # 0: one a processor
    certificate: Certificate | None = None
    neighbours: dict[str, Line] = field(default_factory=dict)


def serve(plan: Plan, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the URL once it listens. Raises IsthmusError. Blocks."""
    sys.path.insert(0, str(Path.cwd()))
    for module in plan.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Invalid(
                f"{module} can't be imported: {error}", place="MODULE", hint="Name modules that Python finds from here."
            ) from error
    program = start(engine="processes", workers=plan.workers)
    try:
        asyncio.run(_serve(plan, program, announce))
    finally:
        stop(kill=True)


async def _serve(plan: Plan, program: object, announce: Callable[[str], None]) -> None:
    listening = socket.socket(socket.AF_INET6 if ":" in plan.host else socket.AF_INET, socket.SOCK_STREAM, 6)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((plan.host, plan.port))
    except OSError as error:
        raise Unavailable(
            f"It can't listen on {plan.host}:{plan.port}: {error.strerror}.", hint="Name another with --listen."
        ) from None
    host, port = listening.getsockname()[:2]
    reach = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"{'https' if plan.certificate else 'http'}://{f'[{reach}]' if ':' in reach else reach}:{port}"
    environment = {
        "ISTHMUS_TASKS": "agent",
        "ISTHMUS_TASKS_ADDRESS": url,
        "ISTHMUS_AGENT_TOKEN": plan.token,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    if plan.certificate is not None and plan.certificate.self_signed:
        environment["ISTHMUS_AGENT_CERTIFICATE"] = str(plan.certificate.cert)
    agent = Agent(plan.name, program, Runs(plan.modules, environment))
    for name, line in plan.neighbours.items():
        agent.add_neighbour(name, line)
    config = uvicorn.Config(
        application(agent, plan.token),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        ssl_certfile=plan.certificate.cert if plan.certificate else None,
        ssl_keyfile=plan.certificate.key if plan.certificate else None,
        server_header=False,
    )
    server = _Server(config, lambda: announce(url))
    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            await server.serve(sockets=[listening])
    finally:
        await agent.close()


class _Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()


def token_of(given: str, file: Path) -> str:
    """The token: as given, else that of the file, which is made (0600) with a new one where it is missing."""
    if given:
        return given
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as made:
            made.write(secrets.token_urlsafe(32) + "\n")
    found = file.read_text().strip()
    if len(found) < 16:
        raise Invalid(f"{file} has no token of 16 characters or more.", place="--token-file")
    return found
