"""/v1/attempts: what runners push. Their token is good for one attempt alone, and for nothing else."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials
from starlette.responses import Response

from isthmus.api.routes import MAX_ID, STRICT, answer, router
from isthmus.api.services import Use, bearer
from isthmus.domain.errors import Unauthenticated

routes = router("/attempts", "runners")

Key = Annotated[str, Path(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9.-]+$")]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """JSON lines from the byte offset `from` of the reports file on."""

    __pydantic_config__ = STRICT

    begin: Annotated[int, Query(alias="from", ge=0, le=MAX_ID)]
    reports: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The next byte that the control plane wants."""

    next: int


@routes.post("/{key}/reports", response_model=Wanted)
async def reports(key: Key, request: Reports, services: Use, credentials: Credentials) -> Response:
    """Take reports. What is known is skipped; a gap is not taken: the answer says where to go on."""
    lines = request.reports.encode()
    return answer(Wanted(next=await services.reporting.report(key, _token(credentials), request.begin, lines)))


@routes.post(
    "/{key}/log",
    response_model=Wanted,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def log(
    key: Key,
    request: Request,
    services: Use,
    credentials: Credentials,
    begin: Annotated[int, Query(alias="from", ge=0, le=MAX_ID)],
) -> Response:
    """Take bytes of the log from the offset `from` on."""
    token = _token(credentials)
    data = await request.body()
    return answer(Wanted(next=await services.reporting.push_log(key, token, begin, data)))


def _token(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise Unauthenticated("There is no attempt token with this request.", code="no-token")
    return credentials.credentials
