"""Schedules on request: a whole problem of joint scheduling and sizing in, its schedule out. Nothing of it is kept."""

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from isthmus.control.rights import require
from isthmus.domain.errors import Invalid
from isthmus.domain.users import Caller, Role, Scope
from isthmus.placement.sizing import methods
from isthmus.placement.sizing.problem import Problem, read_problem
from isthmus.placement.sizing.schedule import judge
from isthmus.placement.sizing.simulate import Result, simulate

MAX_JOBS = 2000
MAX_NODES = 1000
MAX_ITERATIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A schedule with what it costs, in the prices' currency. Its form stands in docs/placement.md."""

    policy: str
    schedule: dict[str, Any]
    total: float
    vm_cost: float
    tardiness_cost: float
    late_jobs: int
    moves: int
    ends_s: dict[str, float] = field(default_factory=dict)  # by the job's id
    decisions: int = 0
    decision_mean_ms: float = 0.0
    decision_max_ms: float = 0.0


class Scheduling:
    """Works in a thread: the server goes on meanwhile. One problem at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def schedule(
        self, caller: Caller, data: Any, *, policy: str, restart_s: float, seed: int, iterations: int
    ) -> ScheduleView:
        """Schedule a problem by a policy. Raises Invalid with the place of what is wrong in it, NotFound."""
        require(caller, Role.MEMBER, Scope.JOBS)
        problem = read_problem(data)
        for what, count, most in (("jobs", len(problem.jobs), MAX_JOBS), ("nodes", problem.nodes, MAX_NODES)):
            if count > most:
                raise Invalid(
                    f"{count} are more than the {most} that the server schedules.",
                    place=what,
                    hint="`isthmus placement simulate` has no such bound.",
                )
        method = methods.make(policy, seed=seed, iterations=min(iterations, MAX_ITERATIONS))
        async with self._turn:
            result = await asyncio.to_thread(
                simulate, problem, method, restart_s=restart_s, clock=perf_counter, max_decisions=200_000
            )
        return _view(policy, problem, result, restart_s)


def _view(policy: str, problem: Problem, result: Result, restart_s: float) -> ScheduleView:
    cost = judge(problem, result.schedule, restart_s)
    return ScheduleView(
        policy=policy,
        schedule=result.schedule.to_json(),
        total=round(cost.total, 2),
        vm_cost=round(cost.vms, 2),
        tardiness_cost=round(cost.tardiness, 2),
        late_jobs=cost.late,
        moves=cost.moves,
        ends_s={str(job): round(end, 3) for job, end in cost.ends_s.items()},
        decisions=result.decisions,
        decision_mean_ms=round(result.mean_s * 1e3, 3),
        decision_max_ms=round(result.max_s * 1e3, 3),
    )
