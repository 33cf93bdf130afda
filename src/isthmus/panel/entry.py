"""Signing in and out: by token, by password, by a link that works once."""

import contextlib
import functools
import hmac
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from isthmus.control.signing import IDLE_S
from isthmus.domain.errors import Forbidden, IsthmusError, Unauthenticated
from isthmus.panel.visitor import Panel, browser_of, local, new_secret, read_form


def routes(panel: Panel) -> list[BaseRoute]:
    """The routes that need no session."""
    return [
        Route("/sign-in", functools.partial(sign_in, panel), methods=["GET", "POST"]),
        Route("/sign-in/{code}", functools.partial(by_link, panel), methods=["GET"]),
        Route("/sign-out", functools.partial(sign_out, panel), methods=["POST"]),
    ]


async def sign_in(panel: Panel, request: Request) -> Response:
    """The form, and what comes from it."""
    if request.method == "GET":
        return sign_in_form(panel, request, next_page=request.query_params.get("next", "/"))
    form = await read_form(request)
    name, password, token = (form.get(field, "") for field in ("name", "password", "token"))
    next_page = form.get("next", "/")
    try:
        _refuse_foreign(panel, request, form.get("csrf", ""))
        if token.strip():
            session = await panel.signing.by_token(token, browser_of(request))
        elif name.strip() and password:
            session = await panel.signing.by_password(name.strip(), password, browser_of(request))
        else:
            raise Unauthenticated("Give a name with its password, or a token.")
    except IsthmusError as error:
        return sign_in_form(panel, request, next_page=next_page, error=error, name=name, status=error.status)
    return signed_in(panel, session, next_page)


async def by_link(panel: Panel, request: Request) -> Response:
    """A link that works once."""
    try:
        session = await panel.signing.by_link(request.path_params["code"], browser_of(request))
    except IsthmusError as error:
        return sign_in_form(panel, request, next_page="/", error=error, status=error.status)
    return signed_in(panel, session, "/")


async def sign_out(panel: Panel, request: Request) -> Response:
    """End the session. Without a good one there is nothing to end."""
    session = request.cookies.get(panel.cookie("session"), "")
    with contextlib.suppress(Unauthenticated):
        await panel.signing.sign_out(await panel.signing.visit(session))
    response = RedirectResponse("/sign-in", status_code=303)
    panel.drop_cookie(response, "session")
    return response


def signed_in(panel: Panel, session: str, next_page: str) -> Response:
    """On to the page that one wanted, with the session."""
    response = RedirectResponse(local(next_page), status_code=303)
    panel.set_cookie(response, "session", session, max_age=int(IDLE_S))
    panel.drop_cookie(response, "form")
    return response


def sign_in_form(
    panel: Panel,
    request: Request,
    *,
    next_page: str,
    error: IsthmusError | None = None,
    name: str = "",
    status: int = 200,
) -> Response:
    """The form, with what went wrong."""
    mark = request.cookies.get(panel.cookie("form"), "") or new_secret()
    response = panel.renderer.page(
        "sign-in.html",
        None,
        status=status,
        panel=panel,
        csrf=mark,
        next_page=local(next_page),
        error=error,
        why=request.query_params.get("why", "")[:200],
        name=name,
        openid=panel.parts.get("openid"),
        quote=quote,
    )
    panel.set_cookie(response, "form", mark, max_age=3600)
    return response


def _refuse_foreign(panel: Panel, request: Request, given: str) -> None:
    """Another site must not sign people in as somebody else: the form's mark is in a cookie of ours too."""
    mark = request.cookies.get(panel.cookie("form"), "")
    if not mark or not hmac.compare_digest(mark.encode(), given.encode()):
        raise Forbidden("This form is too old.", hint="Try again.", code="csrf")
