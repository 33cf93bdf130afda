"""The HTTP API put together: its routes, its limits, its problems, its OpenAPI."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus import __version__
from isthmus.api import (
    artefacts,
    attempts,
    events,
    jobs,
    placement,
    problems,
    secrets,
    server,
    sites,
    tokens,
    uploads,
    users,
)
from isthmus.api.limits import BodyLimit
from isthmus.api.services import Services

ROUTES = (
    server.routes,
    jobs.routes,
    sites.routes,
    *artefacts.all_routes,
    uploads.routes,
    users.routes,
    tokens.routes,
    secrets.routes,
    events.routes,
    placement.routes,
    attempts.routes,
)


class Signed:
    """Puts the server's name on every answer, by which a client tells it from a stranger at its address."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"isthmus-server", __version__.encode())]
            await send(message)

        await self.app(scope, receive, signed if scope["type"] == "http" else send)


def create(services: Services) -> FastAPI:
    """The API over these services."""
    app = FastAPI(
        title="Isthmus",
        version=__version__,
        summary="One job, any site.",
        middleware=[
            Middleware(Signed),
            Middleware(BodyLimit, limit=services.max_body, chunk_limit=services.max_chunk),
        ],
        redoc_url=None,
        docs_url=None,  # its page loads scripts from elsewhere
    )
    app.state.services = services
    problems.install(app)
    for routes in ROUTES:
        app.include_router(routes)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with our problems in place of its own errors."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for theirs in ("HTTPValidationError", "ValidationError"):
            schemas.pop(theirs, None)
        schemas["Problem"] = problems.SCHEMA
        app.openapi_schema = schema
    return app.openapi_schema
