"""Runs of workflows that jobs of this server drive: all of them, and each with its graph, its steps and their figures.

Read from what a run tells of itself as its job's metrics: see `isthmus.workflows.told`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from isthmus.control.jobs import JobFilter
from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.domain.views import JobView
from isthmus.layers import layout
from isthmus.panel.jobs import done_to
from isthmus.panel.logs import tail_of
from isthmus.panel.rendering import BOXES
from isthmus.panel.visitor import Pages, Visitor
from isthmus.workflows import told
from isthmus.workflows.submission import LABEL, SUBMITTED
from isthmus.workflows.told import StepTold

pages = Pages()

PAGE = 50
RUN = "isthmus.run"  # label of the jobs that a run's steps are
TONES = {"waits": "wait", "running": "run", "done": "good", "reused": "good", "skipped": "dull", "failed": "bad"}
TAIL = 40  # lines of the log of a run that failed


@dataclass(frozen=True)
class Box:
    """A step in the graph: one of the workflow itself, with all that is within it."""

    step: str
    x: float
    y: float
    state: str
    ended: int
    tasks: int
    within: int  # steps that it consists of, where it is a workflow

    @property
    def tone(self) -> str:
        return TONES[self.state]

    @property
    def share(self) -> float:
        return self.ended / self.tasks if self.tasks else 0.0


@pages.get("/workflows")
async def table(visitor: Visitor) -> Response:
    """The runs, the newest first; `mine=1`: only one's own."""
    mine = visitor.query.get("mine", "") == "1"
    # Their names begin so, which is looked at faster than labels.
    which = JobFilter(
        name="workflow ",
        label=((LABEL, ""),),
        user=visitor.caller.user.name if mine else "",
        before=visitor.number("before"),
        limit=PAGE,
    )
    page = await visitor.services.jobs.list(visitor.caller, which)
    steps = await _told(visitor, [job.id for job in page.jobs])
    return visitor.page(
        "workflows.html", mine=mine, page=page, runs=[(job, name_of(job), counted(steps[job.id])) for job in page.jobs]
    )


@pages.get("/workflows/{job:int}")
async def run(visitor: Visitor) -> Response:
    """One run."""
    if visitor.partial == "now":  # it says nothing of who looks
        return await visitor.panel.shared.of(("run", visitor.path["job"]), lambda: _run(visitor))
    return await _run(visitor)


async def _run(visitor: Visitor) -> Response:
    number = visitor.path["job"]
    job = await visitor.services.jobs.get(visitor.caller, number)
    if LABEL not in job.labels:
        raise NotFound(f"Job {number} drives no workflow.", place="job", hint=f"Its page is /jobs/{number}.")
    steps = (await _told(visitor, [number]))[number]
    label = f"{RUN}={job.labels.get(SUBMITTED, '')}"
    parts = await visitor.services.jobs.list(
        visitor.caller, JobFilter(label=((RUN, job.labels.get(SUBMITTED, "-")),), limit=20)
    )
    return visitor.page(
        "workflow.html",
        job=job,
        name=name_of(job),
        steps=told.leaves(steps),
        count=counted(steps),
        graph=graph_of(steps),
        whole=max((one.end_s for one in steps), default=0.0),
        tones=TONES,
        jobs=parts.jobs,
        label=label,
        outputs=await visitor.services.jobs.outputs(visitor.caller, number),
        tail=await _tail(visitor, job),
        mine=job.user == visitor.caller.user.name or visitor.may("admin"),
    )


@pages.post("/workflows/{job:int}/{verb}")
async def act(visitor: Visitor) -> Response:
    """Kill it, or go on with it: what is done stays done."""
    number, verb = visitor.path["job"], visitor.path["verb"]
    back = f"/workflows/{number}"
    try:
        said = await done_to(visitor, {"resume": "retry"}.get(verb, verb), [number], await visitor.form())
    except IsthmusError as error:
        return visitor.go(back, error=error)
    return visitor.go(back, said="The run goes on; what is done stays done." if verb == "resume" else said)


async def _told(visitor: Visitor, jobs: Sequence[int]) -> dict[int, list[StepTold]]:
    """By job, what its run told last."""
    values = await visitor.services.measurements.ends(visitor.caller, jobs) if jobs else {}
    return {job: told.steps({name: ends.last for name, ends in values.get(job, {}).items()}) for job in jobs}


async def _tail(visitor: Visitor, job: JobView) -> str:
    """The end of the log of a run that failed: what went wrong stands there."""
    if job.state.value != "FAILED" or not job.attempts:
        return ""
    try:
        text = (await tail_of(visitor, job.id, job.attempts)).text
    except IsthmusError:
        return ""
    return "\n".join(text.splitlines()[-TAIL:])


def name_of(job: JobView) -> str:
    """The workflow's own name."""
    return job.labels.get(LABEL, "") or job.name.removeprefix("workflow ")


def counted(steps: Sequence[StepTold]) -> dict[str, Any]:
    """All steps together."""
    own = told.leaves(steps)
    found: dict[str, Any] = {
        name: sum(getattr(one, name) for one in own)
        for name in ("tasks", "ended", "running", "done", "reused", "failed", "cpu_s", "wall_s", "moved", "cost")
    }
    return {**found, "steps": len(own), "over": sum(one.state in ("done", "reused", "skipped") for one in own)}


def graph_of(steps: Sequence[StepTold]) -> dict[str, Any]:
    """The boxes and lines of the workflow's own steps."""
    top = [one for one in steps if "/" not in one.step]
    edges = [(other, one.step) for one in top for other in one.after if "/" not in other]
    placed = layout([one.step for one in top], edges, BOXES)
    boxes = []
    for one in top:
        within = [each for each in told.leaves(steps) if each.step.startswith(one.step + "/")] or [one]
        ended, tasks = sum(each.ended for each in within), sum(each.tasks for each in within)
        x, y = placed.places[one.step]
        boxes.append(Box(one.step, x, y, _state(within), ended, tasks, len(within) if within != [one] else 0))
    lines = [placed.line(*edge) for edge in edges]
    return {
        "boxes": boxes,
        "lines": lines,
        "width": placed.width,
        "height": placed.height,
        "wide": BOXES.wide,
        "high": BOXES.high,
    }


def _state(steps: Sequence[StepTold]) -> str:
    """That of several together."""
    states = {one.state for one in steps}
    for word in ("failed", "running"):
        if word in states:
            return word
    if states == {"waits"}:
        return "waits"
    if "waits" in states:  # between two of them
        return "running"
    return states.pop() if len(states) == 1 else "done"
