"""/v1/placement: schedules on request, the plan of the queue, rules, prices and figures."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Le
from starlette.responses import Response

from isthmus.api.routes import STRICT, answer, router
from isthmus.api.services import By, Use
from isthmus.control.scheduling import MAX_ITERATIONS, ScheduleView
from isthmus.domain.placement import (
    Catalogue,
    CatalogueView,
    FigureView,
    PolicyView,
    Rules,
    RulesView,
    WhatIf,
    WhatIfView,
)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesRequest:
    """Rules to hold instead of those of this version; without one, of whichever."""

    __pydantic_config__ = STRICT

    rules: Rules
    version: Annotated[int, Ge(0), Le(2**31 - 1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRequest:
    """Prices to hold instead of those of this version; without one, of whichever."""

    __pydantic_config__ = STRICT

    catalogue: Catalogue
    version: Annotated[int, Ge(0), Le(2**31 - 1)] | None = None


@routes.get("/rules", response_model=RulesView)
async def rules(services: Use, caller: By) -> Response:
    """Metrics and where their figures come from, weights of scores, policies of sites and queues."""
    return answer(await services.governing.rules(caller))


@routes.put("/rules", response_model=RulesView)
async def set_rules(request: RulesRequest, services: Use, caller: By) -> Response:
    """Let other rules hold."""
    return answer(await services.governing.set_rules(caller, request.rules, request.version))


@routes.get("/catalogue", response_model=CatalogueView)
async def catalogue(services: Use, caller: By) -> Response:
    """Prices of clouds and of energy."""
    return answer(await services.governing.catalogue(caller))


@routes.put("/catalogue", response_model=CatalogueView)
async def set_catalogue(request: CatalogueRequest, services: Use, caller: By) -> Response:
    """Let other prices hold."""
    return answer(await services.governing.set_catalogue(caller, request.catalogue, request.version))


@routes.get("/metrics", response_model=list[FigureView])
async def metrics(services: Use, caller: By) -> Response:
    """Each metric at each site, as placement sees it now."""
    return answer(await services.governing.figures(caller), list[FigureView])


@routes.get("/policies", response_model=list[PolicyView])
async def policies(services: Use, caller: By) -> Response:
    """The policies that sites and queues may choose."""
    return answer(await services.governing.policies(caller), list[PolicyView])


@routes.post("/whatif", response_model=WhatIfView)
async def whatif(request: WhatIf, services: Use, caller: By) -> Response:
    """What would become of the queue with other nodes, deadlines, priorities, policies or weights."""
    return answer(await services.unless_stopping(services.forecasting.whatif(caller, request)))
