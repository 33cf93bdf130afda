"""/v1/placement: schedules on request, and the plan of the queue."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le
from starlette.responses import Response

from isthmus.api.routes import STRICT, answer, router
from isthmus.api.services import By, Use
from isthmus.control.scheduling import MAX_ITERATIONS, ScheduleView
from isthmus.domain.views import PlanView

routes = router("/placement", "placement")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest:
    """A whole problem of joint scheduling and sizing, and how to solve it."""

    __pydantic_config__ = STRICT

    problem: dict[str, Any] = field(default_factory=dict)  # nodes, vm_types, jobs: see docs/placement.md
    policy: str = "deadline-cost"
    restart_s: Annotated[float, Ge(0), Le(1e6)] = 0.0  # what a job loses whenever it is moved
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    iterations: Annotated[int, Ge(1), Le(MAX_ITERATIONS)] = 100  # of the randomised policies


@routes.get("/plan", response_model=list[PlanView])
async def plan(services: Use, caller: By, site: str = "") -> Response:
    """How the queues of sites with the policy deadline-cost would go on, and what that costs."""
    view = await services.unless_stopping(services.plans.plans(caller, site))
    return answer(view, list[PlanView])


@routes.post("/schedules", response_model=ScheduleView)
async def schedule(request: ScheduleRequest, services: Use, caller: By) -> Response:
    """Schedule a whole problem: who runs when, on which node, with how many GPUs, and what that costs."""
    view = await services.unless_stopping(
        services.scheduling.schedule(
            caller,
            request.problem,
            policy=request.policy,
            restart_s=request.restart_s,
            seed=request.seed,
            iterations=request.iterations,
        )
    )
    return answer(view, ScheduleView)
