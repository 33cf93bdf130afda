"""Errors as the API tells them: problem+json (RFC 9457), whatever went wrong and wherever.

    {"type": "urn:isthmus:problem:invalid", "title": "…", "status": 422, "detail": "There is no field 'gpu' here.",
     "code": "invalid", "place": "resources.gpu", "hint": "Did you mean 'gpus'?", "errors": [{…}, …]}

`type` names the class of the error, `code` the case within it. This is the one place where errors become answers.
"""

import logging
import secrets
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from isthmus import codec
from isthmus.domain.errors import Invalid, IsthmusError, TooLarge, Unauthenticated, Unavailable, nearest

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

TOO_LARGE_HINT = "Submit in several requests; upload big files in pieces."

SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "urn:isthmus:problem:<class of the error>"},
        "title": {"type": "string", "description": "What this class of error means."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The sentence for a person."},
        "code": {"type": "string", "description": "The case within the class."},
        "place": {"type": "string", "description": "Where in what was sent the fault lies."},
        "hint": {"type": "string", "description": "What to do next."},
        "errors": {
            "type": "array",
            "description": "Each fault, where several were found.",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("place", "detail", "hint")},
            },
        },
    },
}


def body_of(error: IsthmusError) -> dict[str, Any]:
    """The members of the problem."""
    kind = type(error)
    body: dict[str, Any] = {
        "type": f"urn:isthmus:problem:{kind.kind()}",
        "title": (kind.__doc__ or "").split("\n")[0],
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    if error.place:
        body["place"] = error.place
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, Invalid) and error.faults:
        body["errors"] = [{"place": fault.place, "detail": fault.message, "hint": fault.hint} for fault in error.faults]
    return body


def answer(error: IsthmusError) -> Response:
    """The response that tells this error."""
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    return JSONResponse(body_of(error), status_code=error.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of this app a problem."""

    @app.exception_handler(IsthmusError)
    async def ours(request: Request, error: IsthmusError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        return answer(_translated(request, error))

    @app.exception_handler(HTTPException)
    async def by_the_framework(request: Request, error: HTTPException) -> Response:
        return _framework(request, error)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return fault(error)


def fault(error: Exception) -> Response:
    """The answer to an error that nobody foresaw: its story goes to the log, a number for it to the client."""
    number = logged(error)
    body = {
        "type": "urn:isthmus:problem:fault",
        "title": "A fault of the control plane.",
        "status": 500,
        "detail": f"The control plane failed at this request: {type(error).__name__}.",
        "code": "fault",
        "hint": f"Its log has the story under 'fault {number}'.",
    }
    return JSONResponse(body, status_code=500, media_type=MEDIA_TYPE)


def logged(error: Exception) -> str:
    """Write an error that nobody foresaw to the log; the number by which it is found there."""
    number = secrets.token_hex(4)
    log.error("fault %s", number, exc_info=error)
    return number


def _framework(request: Request, error: HTTPException) -> Response:
    """Errors that come from routing: no such path, no such method."""
    detail, hint = str(error.detail), ""
    if error.status_code == 404:
        detail = f"There is no {request.url.path}."
        hint = "GET /openapi.json lists what there is."
    elif error.status_code == 405:
        detail = f"{request.url.path} does not take {request.method}."
    elif error.status_code == 413:
        return answer(TooLarge(detail, place="body", hint=TOO_LARGE_HINT))
    body = {
        "type": "about:blank",
        "title": detail,
        "status": error.status_code,
        "detail": detail,
        "code": f"http-{error.status_code}",
    }
    if hint:
        body["hint"] = hint
    return JSONResponse(body, status_code=error.status_code, headers=dict(error.headers or {}), media_type=MEDIA_TYPE)


def _translated(request: Request, error: RequestValidationError) -> Invalid:
    """What pydantic found in the path, the query, the headers or the body, in readable lines."""
    body_kind = _body_kind(request)
    faults = []
    for each in error.errors():
        where, *loc = each["loc"]
        if where == "body":
            if each["type"] == "json_invalid":
                return Invalid(f"The body is not JSON: {each['ctx']['error']}.", place="body")
            if not loc and each["type"] == "missing":
                return Invalid("The body is missing.", place="body", hint="Send JSON.")
            if isinstance(each.get("input"), bytes):
                return Invalid("The body is not JSON.", place="body", hint="Send it as application/json.")
            faults.append(codec.invalid(body_kind, [{**each, "loc": tuple(loc)}]))
        else:
            fault = codec.invalid(None, [{**each, "loc": tuple(loc)}])
            faults.append(Invalid(fault.message, place=f"{where}.{fault.place}", hint=fault.hint))
    if all(each["loc"][0] == "body" for each in error.errors()):
        return codec.invalid(body_kind, [{**each, "loc": tuple(each["loc"][1:])} for each in error.errors()])
    first = faults[0]
    return Invalid(first.message, place=first.place, hint=first.hint, faults=tuple(faults))


def _body_kind(request: Request) -> Any:
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and route.body_field is not None:
        return route.body_field.field_info.annotation
    return None


def refuse_unknown_query(request: Request) -> None:
    """Raise Invalid for a query parameter that this path, or that nothing, can take. A dependency of every route."""
    if not request.query_params:
        return
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = set(_query_names(route))
    for name, value in request.query_params.multi_items():
        if "\0" in value:
            raise Invalid("There is a null character in it, which no database takes.", place=f"query.{name}")
        if name not in known:
            raise Invalid(
                f"This path takes no query parameter {name!r}.",
                place=f"query.{name}",
                hint=nearest(name, known) if known else "",
            )


def _query_names(route: APIRoute) -> Iterator[str]:
    waiting = [route.dependant]
    while waiting:
        one = waiting.pop()
        waiting.extend(one.dependencies)
        for field in one.query_params:
            yield field.alias
