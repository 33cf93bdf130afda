"""The plan of the queue for people: as tables, as charts."""

import math
from typing import TYPE_CHECKING

from isthmus.cli import output

if TYPE_CHECKING:
    from datetime import datetime

    from isthmus.domain.views import PlanView
    from isthmus.placement.sizing.problem import Problem
    from isthmus.placement.sizing.schedule import Schedule

HEAD = ("JOB", "NAME", "USER", "LEFT", "GPUS", "THEN", "ENDS", "DEADLINE", "LATE", "COST SO FAR", "EXPECTED")


def show(plans: "list[PlanView]") -> None:
    if not plans:
        output.note("No job waits or runs at a site with the policy deadline-cost.")
    for one in plans:
        print(f"{one.site}, {one.nodes} nodes {one.node} with {one.gpus} {one.gpu_type}")
        output.table(HEAD, rows_of(one))
        print(f"cost so far {one.cost_so_far:.2f}, still expected {one.cost_expected:.2f}\n")


def rows_of(plan: "PlanView") -> list[list[str]]:
    from isthmus.domain.units import show_seconds

    rows = []
    for job in plan.jobs:
        runs = [run for run in plan.runs if run.job == job.job]
        rows.append(
            [
                str(job.job),
                job.name,
                job.user,
                f"{job.left * 100:.0f} %",
                str(job.gpus or ""),
                ", ".join(str(run.gpus) for run in runs[:6]) + (" …" if len(runs) > 6 else ""),
                output.when(job.ends_at),
                output.when(job.deadline),
                show_seconds(round(job.late_s)) if job.late_s >= 1 else "",
                f"{job.cost_so_far:.2f}",
                f"{job.cost_expected:.2f}",
            ]
        )
    return rows


def draw(plans: "list[PlanView]", *, as_page: bool) -> str:
    """As one page, or the one plan's picture."""
    from isthmus.domain.errors import Invalid
    from isthmus.placement.sizing import gantt

    if not as_page and len(plans) != 1:
        raise Invalid(f"There are {len(plans)} plans: one picture holds one.", place="--gantt", hint="Name it .html.")
    charts = [_chart(plan) for plan in plans]
    pictures = [gantt.svg(problem, schedule, title=title) for title, problem, schedule in charts]
    return gantt.page_of(pictures, HEAD, [row for plan in plans for row in rows_of(plan)]) if as_page else pictures[0]


def _chart(plan: "PlanView") -> "tuple[str, Problem, Schedule]":
    """A plan as the chart wants it: seconds from now."""
    from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
    from isthmus.placement.sizing.schedule import Open, Run, Schedule

    def seconds(moment: "datetime") -> float:
        return (moment - plan.at).total_seconds()

    vm = Vm(plan.node or "node", plan.gpu_type, plan.gpus, 0.0)
    jobs = [SizedJob(job.job, 0.0, seconds(job.deadline) if job.deadline else math.inf, 0.0, {}) for job in plan.jobs]
    runs = [Run(run.job, run.node, run.gpus, seconds(run.start_at), seconds(run.end_at)) for run in plan.runs]
    last = max((run.end_s for run in runs), default=1.0)
    opens = [Open(node, vm.name, 0.0, last) for node in range(plan.nodes)]
    title = f"{plan.site}, {plan.node}: {plan.nodes} × {plan.gpus} {plan.gpu_type}, from {output.when(plan.at)}"
    return title, Problem(plan.nodes, (vm,), tuple(jobs)), Schedule(tuple(opens), tuple(runs))
