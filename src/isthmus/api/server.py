"""/v1/ping and /v1/server: whether this is Isthmus, and which."""

from dataclasses import dataclass

from starlette.responses import Response

from isthmus import __version__
from isthmus.api.routes import answer, router
from isthmus.api.services import By, Use
from isthmus.domain.views import ServerView

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
