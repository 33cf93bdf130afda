"""The plan of a queue as a chart."""

import math
from datetime import datetime

from isthmus.domain.views import PlanView
from isthmus.placement.sizing import gantt
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.schedule import Open, Run, Schedule


def svg(plan: PlanView, *, title: str = "") -> str:
    """Time from the plan's moment on, as `isthmus.placement.sizing.gantt` draws a schedule."""

    def seconds(moment: datetime) -> float:
        return (moment - plan.at).total_seconds()

    vm = Vm(plan.node or "node", plan.gpu_type, plan.gpus, 0.0)
    jobs = [SizedJob(job.job, 0.0, seconds(job.deadline) if job.deadline else math.inf, 0.0, {}) for job in plan.jobs]
    runs = [Run(run.job, run.node, run.gpus, seconds(run.start_at), seconds(run.end_at)) for run in plan.runs]
    last = max((run.end_s for run in runs), default=1.0)
    opens = [Open(node, vm.name, 0.0, last) for node in range(plan.nodes)]
    return gantt.svg(Problem(plan.nodes, (vm,), tuple(jobs)), Schedule(tuple(opens), tuple(runs)), title=title)
