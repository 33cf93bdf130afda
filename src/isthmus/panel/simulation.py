"""Schedules on paper: policies tried on a problem of jobs, GPUs and deadlines, drawn and compared by their costs."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.datastructures import MultiDict
from starlette.responses import Response

from isthmus.control.rights import require
from isthmus.control.scheduling import ScheduleView
from isthmus.domain.errors import Invalid, IsthmusError, NotFound, nearest
from isthmus.domain.users import Role, Scope
from isthmus.panel import fields
from isthmus.panel.visitor import Pages, Visitor
from isthmus.placement.sizing import drawing, gantt, generate, methods
from isthmus.placement.sizing.problem import Problem, read_problem, write_problem
from isthmus.placement.sizing.schedule import Open, Run, Schedule

pages = Pages()

MOST_JOBS = 200  # that a page waits for
ITERATIONS = 20  # of the policies that go by chance
MADE_UP = {"nodes": 4, "jobs": 20, "gap": 7500, "seed": 0}


@dataclass(frozen=True, slots=True)
class _Field:
    """A number in the form."""

    name: str
    least: float
    most: float

    def of(self, typed: MultiDict) -> float:
        text = str(typed.get(self.name, "") or MADE_UP.get(self.name, 0)).strip()
        found = fields.number(text, self.name)
        if not self.least <= found <= self.most:
            raise Invalid(f"It must be from {self.least:g} to {self.most:g}.", place=self.name)
        return found


NODES, JOBS, GAP = _Field("nodes", 1, 100), _Field("jobs", 1, MOST_JOBS), _Field("gap", 0, 1e7)
SEED, RESTART = _Field("seed", 0, 2**31 - 1), _Field("restart", 0, 1e6)


@pages.get("/placement/simulate")
async def blank(visitor: Visitor) -> Response:
    """The form."""
    return _page(visitor, MultiDict([("policy", methods.OURS), ("policy", "edf")]))


@pages.post("/placement/simulate")
async def simulate(visitor: Visitor) -> Response:
    """Simulate the policies that are marked; or make a problem up; or draw what a job's GPUs cost."""
    require(visitor.caller, Role.MEMBER, Scope.JOBS)
    typed = await visitor.form()
    found: dict[str, Any] = {}
    try:
        if typed.get("make"):
            typed["problem"] = json.dumps(write_problem(_made_up(typed)), indent=1)
        elif typed.get("hull"):
            found["hull"] = _hull(_problem(typed)[1], str(typed.get("job", "")).strip())
        else:
            found = await _simulated(visitor, typed)
    except IsthmusError as error:
        return _page(visitor, typed, fault=error)
    return _page(visitor, typed, **found)


def _made_up(typed: MultiDict) -> Problem:
    return generate.generate(
        nodes=int(NODES.of(typed)), jobs=int(JOBS.of(typed)), gap_s=GAP.of(typed), seed=int(SEED.of(typed))
    )


def _problem(typed: MultiDict) -> tuple[Any, Problem]:
    text = str(typed.get("problem", ""))
    if not text.strip():
        raise Invalid("There is no problem yet.", place="problem", hint="Paste one, or have one made up.")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Invalid(f"This is not JSON: {error}.", place="problem") from None
    problem = read_problem(data)
    if len(problem.jobs) > MOST_JOBS:
        raise Invalid(
            f"{len(problem.jobs)} jobs are more than the {MOST_JOBS} that a page waits for.",
            place="problem",
            hint="`isthmus placement simulate` has no such bound.",
        )
    return data, problem


async def _simulated(visitor: Visitor, typed: MultiDict) -> dict[str, Any]:
    data, problem = _problem(typed)
    names = [str(name) for name in typed.getlist("policy")]
    if not names:
        raise Invalid("Mark one at least.", place="policy")
    views: list[ScheduleView] = []
    for name in names:
        work = visitor.services.scheduling.schedule(
            visitor.caller,
            data,
            policy=name,
            restart_s=RESTART.of(typed),
            seed=int(SEED.of(typed)),
            iterations=ITERATIONS,
        )
        views.append(await visitor.services.unless_stopping(work))
    charts = [(one.policy, await asyncio.to_thread(_chart, problem, one)) for one in views]
    return {"views": views, "charts": charts, "best": min(one.total for one in views)}


def _chart(problem: Problem, view: ScheduleView) -> Markup:
    schedule = Schedule(
        tuple(Open(**one) for one in view.schedule["open"]), tuple(Run(**one) for one in view.schedule["runs"])
    )
    return Markup(gantt.svg(problem, schedule, title=view.policy))  # it escapes what it is given


def _hull(problem: Problem, job: str) -> Markup:
    jobs = {str(one.id): one for one in problem.jobs}
    if job and job not in jobs:
        raise NotFound(f"There is no job {job[:40]!r}.", place="job", hint=nearest(job, jobs))
    one = jobs[job] if job else problem.jobs[0]
    return Markup("").join(Markup(drawing.hull_svg(problem, one, kind)) for kind in one.times)


def _page(visitor: Visitor, typed: MultiDict, *, fault: IsthmusError | None = None, **found: Any) -> Response:
    place = fault.place if fault else ""
    known = ("nodes", "jobs", "gap", "seed", "restart", "policy", "job")
    policies = [(name, methods.BUILT_IN.get(name, ("", "a plug-in"))[1]) for name in methods.names()]
    return visitor.page(
        "simulate.html",
        status=fault.status if fault else 200,
        typed=typed,
        chosen=typed.getlist("policy"),
        policies=policies,
        made_up=MADE_UP,
        fault=fault,
        place=place if place in known else "problem",
        views=found.get("views", []),
        charts=found.get("charts", []),
        best=found.get("best", 0.0),
        hull=found.get("hull"),
    )
