"""Visitors: a request of a browser, whose it is, and how it is answered.

A page is `async def page(visitor) -> Response`; `Pages` turns it into a route that finds the session, refuses what did
not come from our own forms, and tells errors as pages. Who is not signed in is sent to sign in, and back afterwards.
"""

import base64
import functools
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import MultiDict, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from isthmus.api import problems
from isthmus.api.services import Services
from isthmus.control.signing import IDLE_S, Browser, Signing, Visit
from isthmus.domain.errors import Forbidden, Invalid, IsthmusError, Unauthenticated
from isthmus.domain.users import Caller, Role
from isthmus.panel.rendering import Renderer
from isthmus.panel.shared import Shared

log = logging.getLogger(__name__)

SAFE = ("GET", "HEAD")
MAX_FIELDS = 200_000  # of a form; a bulk action names every job that it is about


@dataclass(kw_only=True)
class Panel:
    """What all pages stand on."""

    services: Services
    signing: Signing
    renderer: Renderer
    url: str  # how others reach the server
    shared: Shared = field(default_factory=Shared)
    parts: dict[str, Any] = field(default_factory=dict)  # of pages that need more: live, openid

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")

    def cookie(self, what: str) -> str:
        """A cookie's name. Cookies do not know of ports: two control planes on one machine must not share them."""
        return f"{'__Host-' if self.secure else ''}isthmus-{self.services.server.instance}-{what}"

    def set_cookie(self, response: Response, what: str, value: str, *, max_age: int) -> None:
        """A cookie that scripts can't read and other sites' forms do not send."""
        response.set_cookie(
            self.cookie(what), value, max_age=max_age, httponly=True, samesite="lax", secure=self.secure, path="/"
        )

    def drop_cookie(self, response: Response, what: str) -> None:
        response.delete_cookie(self.cookie(what), httponly=True, samesite="lax", secure=self.secure, path="/")


class Visitor:
    """One request of a browser that is signed in."""

    def __init__(self, panel: Panel, request: Request, session: str, visit: Visit) -> None:
        self.panel = panel
        self.request = request
        self.services = panel.services
        self.visit = visit
        self._session = session

    @property
    def caller(self) -> Caller:
        return self.visit.caller

    @property
    def csrf(self) -> str:
        """What a form of ours carries and another site can't know: it follows from the session's secret."""
        return csrf_of(self._session)

    @property
    def query(self) -> QueryParams:
        return self.request.query_params

    @property
    def path(self) -> Mapping[str, Any]:
        return self.request.path_params

    @property
    def partial(self) -> str:
        """The id of the region that is asked for anew, or an empty text: the whole page."""
        return self.request.headers.get("x-region", "")

    @property
    def theme(self) -> str:
        """Dark, light, or as the reader's system says."""
        chosen = self.request.cookies.get(self.panel.cookie("theme"), "")
        return chosen if chosen in ("dark", "light") else "auto"

    def number(self, name: str, otherwise: int = 0) -> int:
        """A number of the query. Raises Invalid."""
        text = self.query.get(name, "")
        if not text:
            return otherwise
        if not text.lstrip("-").isdecimal() or len(text) > 15:
            raise Invalid(f"{text[:40]!r} is not a whole number.", place=name)
        return int(text)

    def may(self, role: str) -> bool:
        """Whether the visitor's role includes this one: what to show. What is allowed, the use cases decide."""
        return self.caller.user.role.includes(Role(role))

    async def form(self) -> MultiDict:
        """The fields of the form, several of a name in their order. Raises Invalid."""
        return await read_form(self.request)

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """The page, or the region of it that was asked for."""
        response = self.panel.renderer.page(template, self, status=status, region=self.partial, **context)
        if not self.partial:
            self.panel.set_cookie(response, "session", self._session, max_age=int(IDLE_S))
            if self.panel.cookie("said") in self.request.cookies:
                self.panel.drop_cookie(response, "said")
        return response

    def go(self, path: str, *, said: str = "", error: IsthmusError | None = None) -> Response:
        """On to another page of ours, which will show what is to be said."""
        response = RedirectResponse(local(path), status_code=303)
        if said or error is not None:
            note = {"kind": "error" if error else "note", "text": str(error) if error else said}
            text = base64.urlsafe_b64encode(json.dumps(note).encode()[:2500]).decode()
            self.panel.set_cookie(response, "said", text, max_age=60)
        return response

    @property
    def said(self) -> dict[str, str] | None:
        """What the action before this page has to say."""
        text = self.request.cookies.get(self.panel.cookie("said"), "")
        try:
            note = json.loads(base64.urlsafe_b64decode(text)) if text else None
        except ValueError:
            return None
        return {"kind": str(note.get("kind")), "text": str(note.get("text"))} if isinstance(note, dict) else None


PageOf = Callable[[Visitor], Awaitable[Response]]


class Pages:
    """Some pages, and their routes."""

    def __init__(self) -> None:
        self._made: list[tuple[str, tuple[str, ...], PageOf]] = []

    @property
    def paths(self) -> list[str]:
        """Their paths, as they are routed."""
        return [path for path, _, _ in self._made]

    def get(self, path: str) -> Callable[[PageOf], PageOf]:
        return self._route(path, "GET")

    def post(self, path: str) -> Callable[[PageOf], PageOf]:
        return self._route(path, "POST")

    def patch(self, path: str) -> Callable[[PageOf], PageOf]:
        return self._route(path, "PATCH")

    def _route(self, path: str, *methods: str) -> Callable[[PageOf], PageOf]:
        def keep(page: PageOf) -> PageOf:
            self._made.append((path, methods, page))
            return page

        return keep

    def routes(self, panel: Panel) -> list[BaseRoute]:
        """The routes of these pages."""
        return [
            Route(path, functools.partial(_answer, panel, page), methods=list(methods))
            for path, methods, page in self._made
        ]


async def _answer(panel: Panel, page: PageOf, request: Request) -> Response:
    visitor: Visitor | None = None
    try:
        session = request.cookies.get(panel.cookie("session"), "")
        visitor = Visitor(panel, request, session, await panel.signing.visit(session))
        if request.method not in SAFE:
            await _refuse_foreign(visitor)
        return await page(visitor)
    except Unauthenticated as error:
        return _to_sign_in(panel, request, error)
    except IsthmusError as error:
        return refused(panel, request, error, visitor)
    except HTTPException:
        raise
    except Exception as error:  # noqa: BLE001 - the panel's edge: told as a page, its story in the log
        hint = f"The server's log has the story under 'fault {problems.logged(error)}'."
        return refused(panel, request, IsthmusError("The server failed at this page.", hint=hint), visitor)


async def _refuse_foreign(visitor: Visitor) -> None:
    """Raise Forbidden unless the request came from a form or a script of ours."""
    request = visitor.request
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    given = request.headers.get("x-csrf", "")
    if not given and not foreign:
        given = (await visitor.form()).get("csrf", "")
    if foreign or not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
        raise Forbidden(
            "This form is not from this page, or too old.", hint="Load the page again, then try again.", code="csrf"
        )


def _to_sign_in(panel: Panel, request: Request, error: Unauthenticated) -> Response:
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in SAFE:
        back = urlsplit(request.headers.get("referer", "")).path or "/"
    elif request.headers.get("x-region") or request.headers.get("accept", "").startswith(
        ("application/json", "text/event-stream")
    ):
        return Response(error.message, status_code=401, media_type="text/plain")
    known = panel.cookie("session") in request.cookies
    why = f"&why={quote(error.message)}" if known else ""
    response = RedirectResponse(f"/sign-in?next={quote(local(back), safe='')}{why}", status_code=303)
    if known:
        panel.drop_cookie(response, "session")
    return response


def refused(panel: Panel, request: Request, error: IsthmusError, visitor: Visitor | None = None) -> Response:
    """The page, or for a script the words, that tell an error."""
    if request.headers.get("accept", "").startswith("application/json"):
        body = {"detail": error.message, "hint": error.hint, "place": error.place, "code": error.code}
        return Response(json.dumps(body), status_code=error.status, media_type="application/json")
    return panel.renderer.page("error.html", visitor, status=error.status, region="", error=error, panel=panel)


async def read_form(request: Request) -> MultiDict:
    """An urlencoded form; read again it is the same. Raises Invalid."""
    if not hasattr(request.state, "form"):
        body = await request.body()
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )  # browsers send text fields in UTF-8
        except ValueError as error:
            raise Invalid(f"This is not a form: {error}.", place="body") from None
        request.state.form = MultiDict([(name, value.replace("\r\n", "\n")) for name, value in pairs])
    form: MultiDict = request.state.form
    return form


def csrf_of(session: str) -> str:
    return hashlib.sha256(b"csrf:" + session.encode()).hexdigest()[:32]


def new_secret() -> str:
    return secrets.token_urlsafe(24)


def local(path: str) -> str:
    """The path if it is one of ours, else the first page: nobody is sent elsewhere by a link to here."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or any(ord(letter) < 32 for letter in path):
        return "/"
    return path


def browser_of(request: Request) -> Browser:
    address = request.client.host if request.client else ""
    return Browser(agent=request.headers.get("user-agent", ""), address=address)
