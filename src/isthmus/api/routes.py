"""How a route reads and answers: strict JSON in, the domain's types out, every error a documented problem."""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, Depends, Path, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from isthmus import codec
from isthmus.api import problems
from isthmus.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SiteError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

STRICT = {"extra": "forbid"}  # of request bodies: a field that we do not know is a mistake
MAX_ID = 2**53 - 1  # the largest that a client in JavaScript reads exactly

Id = Annotated[int, Path(ge=1, le=MAX_ID)]
Name = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^/\x00]+$")]
Version = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^/\x00]+$")]


def _problem(*errors: type[Exception]) -> dict[int | str, dict[str, Any]]:
    return {
        getattr(error, "status", 500): {
            "description": (error.__doc__ or "").split("\n")[0],
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for error in errors
    }


PROBLEMS = _problem(Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, Invalid, SiteError, Unavailable)


class StrictRequest(Request):
    """Reads JSON as strictly as the rest: no lone surrogates, no null characters, no NaN."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                codec.refuse_null(body)
                self._json = pydantic_core.from_json(body, allow_inf_nan=False)
            except (ValueError, Invalid) as error:
                # The one kind of exception that the framework takes for bad JSON.
                raise JSONDecodeError(str(error), "", 0) from None
        return self._json


class Route(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def router(prefix: str, tag: str) -> APIRouter:
    """A router of this API: strict, and with its problems documented."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=Route,
        responses=PROBLEMS,
        dependencies=[Depends(_refuse_unknown_query)],
    )


async def _refuse_unknown_query(request: Request) -> None:
    problems.refuse_unknown_query(request)


def answer(value: Any, kind: Any = None, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The value as JSON, written by the codec at once: the framework would walk it twice."""
    return Response(codec.write_json(value, kind), status_code=status, media_type="application/json", headers=headers)
