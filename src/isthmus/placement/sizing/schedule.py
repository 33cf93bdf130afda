"""Schedules: which node is which VM when, and which job holds how many of its GPUs; and what that costs.

{"open": [{"node", "vm", "start_s", "end_s"}],
 "runs": [{"job", "node", "gpus", "start_s", "end_s"}]}
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.placement.sizing.problem import Problem

EPS_S = 1e-6
SAME_S = 1e-3  # two runs that are closer than this follow each other without a gap


@dataclass(frozen=True, slots=True)
class Open:
    """Node ``node`` is a VM of type ``vm`` from ``start_s`` to ``end_s``."""

    node: int
    vm: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """Job ``job`` holds ``gpus`` GPUs of the VM that ``node`` is."""

    job: int | str
    node: int
    gpus: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a schedule costs, in the prices' currency."""

    total: float
    vms: float
    tardiness: float
    late: int  # jobs that end after their deadline
    moves: int  # runs that don't simply go on: each costs a restart
    ends_s: Mapping[int | str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    opens: tuple[Open, ...] = ()
    runs: tuple[Run, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "open": [
                {"node": one.node, "vm": one.vm, "start_s": one.start_s, "end_s": one.end_s} for one in self.opens
            ],
            "runs": [
                {"job": run.job, "node": run.node, "gpus": run.gpus, "start_s": run.start_s, "end_s": run.end_s}
                for run in self.runs
            ],
        }


def judge(problem: Problem, schedule: Schedule, restart_s: float = 0.0) -> Cost:
    """What the schedule costs. Raises Invalid, with the place, where it breaks a rule of the problem.

    A run that does not go on (same node, VM and number of GPUs, no gap) first spends ``restart_s`` without progress.
    """
    vms = {vm.name: vm for vm in problem.vms}
    homes: dict[int, list[Open]] = {}
    spent = 0.0
    for number, one in enumerate(schedule.opens):
        place = f"open[{number}]"
        if not 0 <= one.node < problem.nodes:
            raise Invalid(f"There is no node {one.node}.", place=place)
        if one.vm not in vms:
            raise Invalid(f"There is no VM type {one.vm!r}.", place=place)
        if one.end_s < one.start_s:
            raise Invalid("It ends before it starts.", place=place)
        spent += vms[one.vm].price_per_s * (one.end_s - one.start_s)
        homes.setdefault(one.node, []).append(one)
    for node, opens in homes.items():
        opens.sort(key=lambda one: one.start_s)
        for one, two in pairwise(opens):
            if two.start_s < one.end_s - EPS_S:
                raise Invalid(f"Node {node} is two VMs at {two.start_s:.3f} s.", place="open")
    runs: dict[int | str, list[tuple[Run, str]]] = {}
    uses: dict[tuple[int, float], list[tuple[float, int]]] = {}
    known = {job.id: job for job in problem.jobs}
    for number, run in enumerate(schedule.runs):
        place = f"runs[{number}]"
        if run.job not in known:
            raise Invalid(f"There is no job {run.job!r}.", place=place)
        if run.end_s <= run.start_s:
            raise Invalid("It is empty.", place=place)
        home = next(
            (
                one
                for one in homes.get(run.node, ())
                if one.start_s <= run.start_s + EPS_S and run.end_s <= one.end_s + EPS_S
            ),
            None,
        )
        if home is None:
            raise Invalid(f"Node {run.node} is not one VM for all of it.", place=place)
        if not 1 <= run.gpus <= vms[home.vm].gpus:
            raise Invalid(f"It asks for {run.gpus} GPUs of a {home.vm}.", place=place)
        runs.setdefault(run.job, []).append((run, home.vm))
        uses.setdefault((run.node, home.start_s), []).extend(((run.start_s, run.gpus), (run.end_s, -run.gpus)))
    for (node, start), changes in uses.items():
        home = next(one for one in homes[node] if one.start_s == start)
        _check_capacity(node, vms[home.vm].gpus, changes)
    penalty, late, moves = 0.0, 0, 0
    ends: dict[int | str, float] = {}
    for job in problem.jobs:
        mine = sorted(runs.get(job.id, ()), key=lambda pair: pair[0].start_s)
        if not mine:
            raise Invalid(f"Job {job.id} never runs.", place="runs")
        if mine[0][0].start_s < job.release_s - EPS_S:
            raise Invalid(f"Job {job.id} starts before its release.", place="runs")
        done, debt = 0.0, 0.0
        before: tuple[Run, str] | None = None
        for run, vm in mine:
            if before is not None:
                if run.start_s < before[0].end_s - EPS_S:
                    raise Invalid(f"Job {job.id} runs twice at {run.start_s:.3f} s.", place="runs")
                if not _goes_on(before, (run, vm)):
                    debt, moves = restart_s, moves + 1
            length = run.end_s - run.start_s
            lost = min(debt, length)
            debt -= lost
            done += (length - lost) / job.time(vms[vm].gpu_type, run.gpus)
            before = (run, vm)
        if done < 1 - 1e-6:
            raise Invalid(f"Job {job.id} is only {done:.6f} done.", place="runs")
        end = mine[-1][0].end_s
        ends[job.id] = end
        tardy = max(0.0, end - job.deadline_s)
        late += tardy > SAME_S
        penalty += job.weight_per_s * tardy
    return Cost(spent + penalty, spent, penalty, late, moves, ends)


def _goes_on(before: tuple[Run, str], after: tuple[Run, str]) -> bool:
    one, two = before[0], after[0]
    no_gap = abs(two.start_s - one.end_s) <= SAME_S
    return no_gap and (one.node, before[1], one.gpus) == (two.node, after[1], two.gpus)


def _check_capacity(node: int, gpus: int, changes: Iterable[tuple[float, int]]) -> None:
    used = 0
    for at, change in sorted((round(at, 6), change) for at, change in changes):
        used += change
        if used > gpus:
            raise Invalid(f"Node {node} holds {used} of {gpus} GPUs at {at:.3f} s.", place="runs")
