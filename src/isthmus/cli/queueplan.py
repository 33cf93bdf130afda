"""The plan of the queue for people: as tables, as charts."""

from typing import TYPE_CHECKING

from isthmus.cli import output

if TYPE_CHECKING:
    from isthmus.domain.views import PlanView

NOTHING = "No job waits or runs at a site with the policy deadline-cost."
HEAD = ("JOB", "NAME", "USER", "LEFT", "GPUS", "THEN", "ENDS", "DEADLINE", "LATE", "COST SO FAR", "EXPECTED")


def show(plans: "list[PlanView]") -> None:
    if not plans:
        output.note(NOTHING)
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
    from isthmus.placement.sizing import gantt, planned

    if not as_page and not plans:
        raise Invalid(NOTHING, place="--gantt", hint="There is nothing to draw.")
    if not as_page and len(plans) != 1:
        raise Invalid(f"There are {len(plans)} plans: one picture holds one.", place="--gantt", hint="Name it .html.")
    pictures = [planned.svg(plan, title=_title(plan)) for plan in plans]
    return gantt.page_of(pictures, HEAD, [row for plan in plans for row in rows_of(plan)]) if as_page else pictures[0]


def _title(plan: "PlanView") -> str:
    return f"{plan.site}, {plan.node}: {plan.nodes} × {plan.gpus} {plan.gpu_type}, from {output.when(plan.at)}"
