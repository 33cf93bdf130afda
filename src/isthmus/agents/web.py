"""The agent's REST interface. Every request carries the agent's token; errors are problem+json.

GET    /v1/agent                what it is, has and does
POST   /v1/runs                 {"function": "module:name", "args": [], "kwargs": {}}; 201 with the run
GET    /v1/runs, /v1/runs/ID    ?wait_s=30 answers when it has ended, or after that
DELETE /v1/runs/ID              end it
PUT    /v1/resources            {"workers": 4}
POST   /v1/neighbours           {"name": "fog", "url": "https://…", "token": "…", "certificate": "PEM, if pinned"}
DELETE /v1/neighbours/NAME
POST   /v1/tasks                a call, pickled: for other agents and drivers
"""

import asyncio
import hmac
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from isthmus.agents.agent import Agent
from isthmus.api import problems
from isthmus.domain.errors import Unauthenticated
from isthmus.tasks.agents.line import Line


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wanted(_Strict):
    """A function to run."""

    function: str = Field(description="module:name")
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Resources(_Strict):
    """What the agent is to have."""

    workers: int = Field(ge=1, le=4096)


class Other(_Strict):
    """Another agent."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")
    url: str
    token: str
    certificate: str = ""


def application(agent: Agent, token: str) -> FastAPI:
    """The interface of this agent."""

    def known(authorization: Annotated[str, Header()] = "") -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            raise Unauthenticated(
                "This is not the agent's token.", hint="It is in ISTHMUS_AGENT_TOKEN, or its token file."
            )

    app = FastAPI(title="Isthmus agent", dependencies=[Depends(known)], docs_url=None, redoc_url=None)
    problems.install(app)

    @app.get("/v1/agent")
    async def status() -> dict[str, Any]:
        return agent.facts()

    @app.post("/v1/runs", status_code=201)
    async def start(wanted: Wanted) -> dict[str, Any]:
        return (await agent.runs.start(wanted.function, wanted.args, wanted.kwargs)).facts()

    @app.get("/v1/runs")
    async def runs() -> list[dict[str, Any]]:
        return [run.facts() for run in agent.runs.all()]

    @app.get("/v1/runs/{id}")
    async def run(id: str, wait_s: float = 0.0) -> dict[str, Any]:
        found = agent.runs.get(id)
        if wait_s > 0:
            try:
                async with asyncio.timeout(min(wait_s, 60.0)):
                    await found.over.wait()
            except TimeoutError:
                pass
        return found.facts()

    @app.delete("/v1/runs/{id}")
    async def cancel(id: str) -> dict[str, Any]:
        agent.runs.cancel(id)
        return agent.runs.get(id).facts()

    @app.put("/v1/resources")
    async def resize(wanted: Resources) -> dict[str, Any]:
        agent.resize(wanted.workers)
        return agent.facts()

    @app.post("/v1/neighbours", status_code=201)
    async def add(other: Other) -> dict[str, Any]:
        agent.add_neighbour(other.name, Line(other.url, other.token, other.certificate))
        return agent.neighbours[other.name].facts()

    @app.delete("/v1/neighbours/{name}")
    async def remove(name: str) -> dict[str, Any]:
        await agent.remove_neighbour(name)
        return agent.facts()

    @app.post("/v1/tasks")
    async def run_task(
        request: Request,
        isthmus_function: Annotated[str, Header()],
        isthmus_units: Annotated[int, Header(ge=1)] = 1,
        isthmus_stays: Annotated[int, Header()] = 0,
        isthmus_been: Annotated[str, Header()] = "",
    ) -> Response:
        data = await request.body()
        been = [one for one in isthmus_been.split(",") if one]
        work = asyncio.ensure_future(agent.task(data, isthmus_function, isthmus_units, bool(isthmus_stays), been))
        gone = asyncio.ensure_future(request.receive())  # answers when the one who asks has gone
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return Response(status_code=499)
            return Response(work.result(), media_type="application/octet-stream")
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()

    return app
