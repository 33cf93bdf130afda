"""The simulator: time goes from event to event (a job arrives or ends, a method asked to be woken), a method decides.

A method sees what is there, not what will come. What it believes of the jobs' times may be wrong (``predicted``); time
passes by the true ones. Progress is observed, as a runner reports it.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple, Protocol

from isthmus.domain.errors import Invalid
from isthmus.placement.sizing.problem import Problem, SizedJob
from isthmus.placement.sizing.schedule import EPS_S, Open, Run, Schedule

FINISHED = 1e-9  # a fraction of a job's work


class Place(NamedTuple):
    """Where a job runs: on node ``node``, which is VM number ``vm``, with so many of its GPUs."""

    node: int
    vm: int
    gpus: int


@dataclass(slots=True)
class Active:
    """A job that was released and has not ended, as a method sees it."""

    job: SizedJob  # with the times that are believed
    left: float  # of its work, from 1 to 0
    place: Place | None = None  # where it runs now
    debt_s: float = 0.0  # of its restart there, still to spend before it gets on
    started: bool = False  # it ran before: starting it again costs a restart
    fixed: bool = False  # it can't be moved or stopped; never so in a simulation
    rigid: bool = False  # nor can it once it runs; likewise


@dataclass(slots=True)
class View:
    """What a method decides on. Times in seconds."""

    now: float
    problem: Problem
    active: list[Active]
    restart_s: float = 0.0


@dataclass(slots=True)
class Decision:
    """Who runs where until the next event: by the number in ``View.active``. Others wait."""

    places: dict[int, Place] = field(default_factory=dict)
    wake_at: float = math.inf  # decide again then, though nothing happened


class Method(Protocol):
    """A way to decide. It may remember what it likes from one event to the next."""

    def decide(self, view: View) -> Decision: ...


@dataclass(frozen=True, slots=True)
class Result:
    schedule: Schedule
    decisions: int
    mean_s: float  # per decision, by the clock of this machine
    max_s: float


def simulate(
    problem: Problem,
    method: Method,
    *,
    restart_s: float = 0.0,
    predicted: Problem | None = None,
    begin: Mapping[int | str, tuple[float, Place | None]] | None = None,
    rigid: Collection[int | str] = (),
    on_progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    max_decisions: int = 1_000_000,
) -> Result:
    """Run all jobs to their end. ``predicted``: the same problem with the times that are believed.

    ``begin``: of jobs that were under way before, by id, what is left of their work and where they run. ``rigid``: who
    keeps what it starts with.
    ``on_progress(ended, jobs)`` is called at each end; ``clock`` times the decisions, in seconds. Raises
    Invalid where the method breaks a rule, or never gets the jobs done.
    """
    believed = (predicted or problem).jobs
    coming = sorted(range(len(problem.jobs)), key=lambda one: (problem.jobs[one].release_s, one), reverse=True)
    here: dict[int, Active] = {}
    book = _Book(problem)
    now, spent, longest, decisions, ended = 0.0, 0.0, 0.0, 0, 0
    while coming or here:
        if not here:
            now = max(now, problem.jobs[coming[-1]].release_s)
        while coming and problem.jobs[coming[-1]].release_s <= now + EPS_S:
            number = coming.pop()
            left, place = (begin or {}).get(problem.jobs[number].id, (1.0, None))
            keeps = problem.jobs[number].id in rigid
            begun = place is not None or left < 1.0
            here[number] = Active(believed[number], left, place, 0.0, begun, keeps and place is not None, keeps)
        numbers = list(here)
        began = clock()
        decision = method.decide(View(now, problem, list(here.values()), restart_s))
        took = clock() - began
        spent, longest, decisions = spent + took, max(longest, took), decisions + 1
        _check(problem, decision, len(numbers))
        speeds: dict[int, float] = {}
        next_end = math.inf
        for position, number in enumerate(numbers):
            active, place = here[number], decision.places.get(position)
            if place is None:
                active.place = None
                continue
            if place != active.place:
                active.debt_s = restart_s if active.started else 0.0
            active.place, active.started, active.fixed = place, True, active.rigid
            kind = problem.vms[place.vm].gpu_type
            speeds[number] = 1.0 / problem.jobs[number].time(kind, place.gpus)
            next_end = min(next_end, active.debt_s + active.left / speeds[number] if speeds[number] else math.inf)
        arrival = problem.jobs[coming[-1]].release_s if coming else math.inf
        until = min(now + next_end, arrival, max(decision.wake_at, now + EPS_S))
        if math.isinf(until) or decisions > max_decisions:
            waiting = ", ".join(str(active.job.id) for active in list(here.values())[:5])
            raise Invalid(f"Jobs {waiting} never get on with this method.", place="jobs")
        length = until - now
        for number, speed in speeds.items():
            active = here[number]
            assert active.place is not None
            lost = min(active.debt_s, length)
            active.debt_s -= lost
            active.left -= (length - lost) * speed
            book.run(problem.jobs[number].id, active.place, now, until)
        now = until
        for number in [number for number in speeds if here[number].left <= FINISHED]:
            del here[number]
            ended += 1
            if on_progress is not None:
                on_progress(ended, len(problem.jobs))
    return Result(book.schedule(), decisions, spent / max(1, decisions), longest)


def mispredict(problem: Problem, error: float, seed: int) -> Problem:
    """The same problem as a model sees it whose predictions of each time are wrong by ``error`` on average.

    Errors are log-normal, one for each job, GPU type and number of GPUs, and independent: the worst kind, for no
    observation corrects another.
    """
    if not error:
        return problem
    dice = Random(seed)
    sigma = error * math.sqrt(math.pi / 2)  # the mean of |z| is sqrt(2 / pi)
    jobs = tuple(
        replace(
            job,
            times={
                kind: tuple(time * math.exp(sigma * dice.gauss(0, 1)) for time in row)
                for kind, row in job.times.items()
            },
        )
        for job in problem.jobs
    )
    return replace(problem, jobs=jobs)


def _check(problem: Problem, decision: Decision, active: int) -> None:
    """Raise Invalid where the decision gives what is not there."""
    used: dict[int, int] = {}
    vm_of: dict[int, int] = {}
    for position, (node, vm, gpus) in decision.places.items():
        if not (0 <= position < active and 0 <= node < problem.nodes and 0 <= vm < len(problem.vms) and gpus >= 1):
            raise Invalid(f"The method put job {position} of {active} on VM {vm} of node {node} with {gpus} GPUs.")
        if vm_of.setdefault(node, vm) != vm:
            raise Invalid(f"The method made node {node} two VMs at once.")
        used[node] = used.get(node, 0) + gpus
        if used[node] > problem.vms[vm].gpus:
            raise Invalid(f"The method gave {used[node]} of the {problem.vms[vm].gpus} GPUs of node {node}.")


class _Book:
    """Writes the schedule: what goes on is one entry, not one for each event."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._opens: list[Open] = []
        self._runs: list[Run] = []
        self._open: dict[int, tuple[int, float, float]] = {}  # node -> VM, start, end
        self._run: dict[int | str, tuple[Place, float, float]] = {}

    def run(self, job: int | str, place: Place, start: float, end: float) -> None:
        known = self._run.get(job)
        if known is not None and known[0] == place and known[2] == start:
            self._run[job] = (place, known[1], end)
        else:
            self._close_run(job)
            self._run[job] = (place, start, end)
        node = self._open.get(place.node)
        if node is not None and node[0] == place.vm and node[2] in (start, end):
            self._open[place.node] = (place.vm, node[1], end)
        else:
            self._close_node(place.node)
            self._open[place.node] = (place.vm, start, end)

    def schedule(self) -> Schedule:
        for job in list(self._run):
            self._close_run(job)
        for node in list(self._open):
            self._close_node(node)
        opens = sorted(self._opens, key=lambda one: (one.start_s, one.node))
        return Schedule(tuple(opens), tuple(sorted(self._runs, key=lambda one: (one.start_s, one.node, str(one.job)))))

    def _close_run(self, job: int | str) -> None:
        known = self._run.pop(job, None)
        if known is not None:
            (node, _, gpus), start, end = known
            self._runs.append(Run(job, node, gpus, start, end))

    def _close_node(self, node: int) -> None:
        known = self._open.pop(node, None)
        if known is not None:
            vm, start, end = known
            self._opens.append(Open(node, self._problem.vms[vm].name, start, end))


def summary(result: Result) -> Mapping[str, float]:
    """How long the decisions took, for a line of a report."""
    return {"decisions": result.decisions, "mean_ms": result.mean_s * 1e3, "max_ms": result.max_s * 1e3}
