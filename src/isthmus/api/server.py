"""/v1/ping, /v1/server and /v1/overview: whether this is Isthmus, which, how it is, and what needs somebody."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from isthmus import __version__
from isthmus.api.routes import answer, router
from isthmus.api.services import By, Use
from isthmus.domain.views import Check, Overview, ServerView

routes = router("", "server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """This is Isthmus."""

    isthmus: str  # its version


@routes.get("/ping", response_model=Pong)
async def ping() -> Response:
    """Whether this is Isthmus. Needs no token: runners ask it before anything else."""
    return answer(Pong(isthmus=__version__))


@routes.get("/server", response_model=ServerView)
async def server(services: Use, caller: By) -> Response:
    """Which control plane this is."""
    return answer(services.server)


@routes.get("/server/checks", response_model=list[Check])
async def checks(services: Use, caller: By) -> Response:
    """Whether all is well here: database, supervisor, store, disk, sites."""
    return answer(await services.doctor.checks(caller), list[Check])


@routes.get("/overview", response_model=Overview)
async def overview(
    services: Use, caller: By, user: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")] = ""
) -> Response:
    """What needs somebody, what runs, what ended today, and what the week took; of one user's jobs, or everybody's."""
    return answer(await services.overviews.of(caller, user), Overview)
