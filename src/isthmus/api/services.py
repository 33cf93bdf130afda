"""What the routes stand on: the use cases, and how a request gets at them and at its caller."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from isthmus.control.artefacts import Artefacts
from isthmus.control.doctor import Doctor
from isthmus.control.forecasting import Forecasting
from isthmus.control.governing import Governing
from isthmus.control.identity import Identity
from isthmus.control.jobs import Jobs
from isthmus.control.measurements import Measurements
from isthmus.control.overview import Overviews
from isthmus.control.queueplan import QueuePlans
from isthmus.control.reporting import Reporting
from isthmus.control.scheduling import Scheduling
from isthmus.control.signing import Signing
from isthmus.control.sites import Sites
from isthmus.domain.errors import Unauthenticated, Unavailable
from isthmus.domain.users import Caller
from isthmus.domain.views import ServerView

T = TypeVar("T")


@dataclass(kw_only=True)
class Services:
    """The use cases of one control plane process."""

    identity: Identity
    jobs: Jobs
    measurements: Measurements
    reporting: Reporting
    sites: Sites
    artefacts: Artefacts
    plans: QueuePlans
    signing: Signing
    overviews: Overviews
    doctor: Doctor
    governing: Governing
    forecasting: Forecasting
    server: ServerView
    scheduling: Scheduling = field(default_factory=Scheduling)
    max_body: int = 32 * 1024 * 1024
    max_chunk: int = 64 * 1024 * 1024
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def unless_stopping(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a long wait; ends it with Unavailable when the server is told to stop."""
        waiting = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Unavailable("The control plane is stopping.", hint="Ask again in a moment.", code="stopping")
            return waiting.result()
        finally:
            stop.cancel()
            waiting.cancel()
            await asyncio.gather(stop, waiting, return_exceptions=True)


bearer = HTTPBearer(auto_error=False, description="An access token: `isthmus up` prints the first one.")


async def services_of(request: Request) -> Services:
    """The services of the app that this request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def authenticated(
    services: Annotated[Services, Depends(services_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> Caller:
    """Who calls. Raises Unauthenticated."""
    if credentials is None:
        raise Unauthenticated(
            "There is no access token with this request.",
            hint="Send `Authorization: Bearer TOKEN`; `isthmus login` keeps one for the command line.",
            code="no-token",
        )
    return await services.identity.authenticate(credentials.credentials)


Use = Annotated[Services, Depends(services_of)]
By = Annotated[Caller, Depends(authenticated)]
