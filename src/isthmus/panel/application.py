"""The panel put together: its routes, its files, its headers; and the front that stands before panel and API."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.api.limits import BodyLimit
from isthmus.api.services import Services
from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.panel import (
    compare,
    data,
    doctor,
    entry,
    events,
    files,
    home,
    job,
    jobs,
    logs,
    newrun,
    openid,
    people,
    placement,
    plan,
    preferences,
    simulation,
    sites,
    submit,
    tasks,
    workflows,
)
from isthmus.panel import live as live_pages
from isthmus.panel.live import Live
from isthmus.panel.openid import Provider
from isthmus.panel.rendering import STATIC
from isthmus.panel.visitor import Panel, refused

API = ("/v1/", "/openapi.json")

PAGES = (
    home.pages,
    jobs.pages,
    submit.pages,
    job.pages,
    logs.pages,
    tasks.pages,
    newrun.pages,
    workflows.pages,
    compare.pages,
    files.pages,
    sites.pages,
    plan.pages,
    placement.pages,
    simulation.pages,
    data.pages,
    people.pages,
    events.pages,
    preferences.pages,
    doctor.pages,
    live_pages.pages,
)

# Nothing is loaded from elsewhere, no script or style stands in a page.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "private, no-cache",
}
TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}


class Guarded:
    """Puts the headers on every answer that does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message.get("headers", [])}
                more = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given
                ]
                message["headers"] = [*message.get("headers", []), *more]
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)


class Front:
    """What listens: the API at its paths, the panel at all others."""

    def __init__(self, api: ASGIApp, panel: ASGIApp) -> None:
        self._api = api
        self._panel = panel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["type"] == "http" and not scope["path"].startswith(API)
        await (self._panel if mine else self._api)(scope, receive, send)


def create(
    services: Services,
    live: Live,
    url: str,
    provider: Provider | None = None,
    *,
    api: ASGIApp | None = None,
    ca: str = "",
) -> ASGIApp:
    """The panel over these use cases. ``url``: how others reach the server; ``ca``: PEM of what its certificate is
    checked by, where no authority is; ``api``: the API of this process, by which workflows are handed in."""
    panel = Panel(services=services, signing=services.signing, renderer=live.renderer, url=url)
    panel.parts.update(live=live, openid=provider, api=api, ca=ca)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, IsthmusError)
        return refused(panel, request, error)

    async def by_the_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = NotFound("There is no such page.", hint="The links above lead everywhere.", code="no-page")
        told = known if error.status_code == 404 else IsthmusError(error.detail)
        told.status = error.status_code
        return refused(panel, request, told)

    return Starlette(
        routes=[
            Route("/static/{digest}/{name:path}", static, methods=["GET"]),
            Route("/favicon.ico", favicon, methods=["GET"]),
            *(openid.routes(panel, provider) if provider else ()),
            *entry.routes(panel),
            *(route for pages in PAGES for route in pages.routes(panel)),
        ],
        middleware=[
            Middleware(Guarded),
            Middleware(BodyLimit, limit=services.max_body, chunk_limit=services.max_chunk),
        ],
        exception_handlers={IsthmusError: ours, HTTPException: by_the_framework},
    )


async def static(request: Request) -> Response:
    """A file of ours. Its address has a digest in it, so it never changes."""
    name = request.path_params["name"]
    folder = STATIC
    for part in name.split("/"):
        folder = folder / part
    if ".." in name.split("/") or not folder.is_file():
        raise HTTPException(404)
    kind = TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return Response(
        folder.read_bytes(), media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"}
    )


async def favicon(request: Request) -> Response:
    return Response((STATIC / "icon.svg").read_bytes(), media_type="image/svg+xml")
