"""What is known of the jobs' speeds: what was predicted, put right by what was seen.

A job that ran a while with some GPUs has shown its speed there; that replaces the prediction. How far predictions were
off so far, or what is said with them, says how much to doubt the others. If they are doubted at all, more GPUs are
taken never to be slower, for noise would else make chance winners of some.

What is doubted is planned with a quantile instead of the middle, the nearer to it the less is doubted. A job that can
still change takes a time that it might well have better, so that what may be good is tried: if it isn't, that shows
while there is time, and costs a restart or two. One that keeps what it starts with takes a time that it hardly needs
more than.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from isthmus.placement.sizing.options import Option, options
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.simulate import Active, Place, View

EXACT = 1e-3  # predictions that are off by no more are taken as they are
LEAST_S = 1.0  # a shorter run shows nothing
CHANGED = 0.2  # doubts that change by no more than this part of them make no other plans
# Quantiles, in standard deviations. Found by `bench/placement.py`: instances with errors of 13 %.
HOPE = 0.5
CARE = 0.67  # three jobs of four take no longer
TRIAL = 6.0  # restarts that must be less than a job's doubtful time, for any hope

Key = tuple[str, int]  # GPU type, number of GPUs


@dataclass(slots=True)
class _Job:
    seen: dict[Key, float]  # seconds for the whole job, as its progress shows
    rows: tuple[tuple[Option, ...], tuple[Option, ...]] = ((), ())  # (): to be made anew
    doubt: float = 0.0  # of predictions, with which they were made


@dataclass(frozen=True, slots=True)
class _Before:
    """How a job stood after the last decision."""

    at: float
    left: float
    debt_s: float
    key: Key | None
    moving: bool = True  # it was seen to get on: what came before was its start


class Learning:
    """Remembers from one decision to the next.

    ``least_part``: how much of its work a job must have got done for its speed to be believed: progress that is
    reported now and then is not as exact as a simulator's.
    """

    def __init__(self, least_part: float = 0.0) -> None:
        self._least_part = least_part
        self._jobs: dict[int | str, _Job] = {}
        self._before: dict[int | str, _Before] = {}
        self._sum, self._count = 0.0, 0
        self._vms: tuple[Vm, ...] = ()

    @property
    def typical(self) -> float:
        """The root of the mean square of the logarithm of seen over predicted."""
        return math.sqrt(self._sum / self._count) if self._count else 0.0

    def doubt(self, job: SizedJob) -> float:
        """How far what is predicted of the job may be off, as a part of it."""
        return max(self.typical, *(one for row in job.doubts.values() for one in row), 0.0)

    def doubts(self, job: SizedJob) -> bool:
        return self.doubt(job) > EXACT

    def was_seen(self, job: SizedJob, kind: str, gpus: int) -> bool:
        known = self._jobs.get(job.id)
        return known is not None and (kind, gpus) in known.seen

    def look(self, view: View) -> None:
        """Take in what got done since the last decision."""
        for one in view.active:
            before = self._before.get(one.job.id)
            if before is None or before.key is None:
                continue
            if not before.moving:
                # How long a start really took is not known: the clock runs from the first progress that was seen.
                if one.left < before.left:
                    self._before[one.job.id] = _Before(view.now, one.left, 0.0, before.key)
                continue
            worked = view.now - before.at - max(0.0, before.debt_s - one.debt_s)
            if worked < LEAST_S or before.left - one.left <= self._least_part:
                continue
            time_s = worked / (before.left - one.left)
            known = self._jobs[one.job.id]
            if before.key not in known.seen:
                self._sum += math.log(time_s / one.job.time(*before.key)) ** 2
                self._count += 1
            old = known.seen.get(before.key, one.job.time(*before.key))
            if abs(time_s / old - 1) > EXACT:
                known.rows = ((), ())
            known.seen[before.key] = time_s

    def options(
        self, problem: Problem, active: Active, restart_s: float
    ) -> tuple[tuple[Option, ...], tuple[Option, ...]]:
        """The job's options by what is known now: soberly, and by the quantile for who has its nodes to itself."""
        if problem.vms != self._vms:  # other prices make other options worth it
            self._vms = problem.vms
            for one in self._jobs.values():
                one.rows = ((), ())
        job = active.job
        known = self._jobs.setdefault(job.id, _Job({}))
        doubt = self.doubt(job)
        if not known.rows[0] or abs(doubt - known.doubt) > CHANGED * max(doubt, known.doubt):
            known.doubt = doubt
            sober = options(problem, self._believed(job, known.seen, 0.0))
            quantile = CARE if active.rigid else -HOPE * _worth_trying(job, doubt, restart_s)
            known.rows = (sober, options(problem, self._believed(job, known.seen, quantile)) if quantile else sober)
        return known.rows

    def remember(self, view: View, places: Mapping[int, Place]) -> None:
        """What was decided, to compare the next look with."""
        before: dict[int | str, _Before] = {}
        for number, one in enumerate(view.active):
            place = places.get(number)
            debt = one.debt_s if place == one.place else view.restart_s * one.started
            key = (view.problem.vms[place.vm].gpu_type, place.gpus) if place is not None else None
            known = self._before.get(one.job.id)
            if self._least_part and known is not None and known.key == key and place == one.place:
                before[one.job.id] = known  # the longer it is watched, the better
            else:
                before[one.job.id] = _Before(view.now, one.left, debt, key, not self._least_part)
        self._before = before
        self._jobs = {job: self._jobs[job] for job in before if job in self._jobs}

    def _believed(self, job: SizedJob, seen: Mapping[Key, float], quantile: float) -> SizedJob:
        doubted = self.doubts(job)
        if not seen and not doubted:
            return job
        times: dict[str, Sequence[float]] = {}
        for kind, row in job.times.items():
            known = [seen.get((kind, number + 1)) for number in range(len(row))]
            doubts = job.doubts.get(kind) or (self.typical,) * len(row)
            values = [
                was if was is not None else time * math.exp(quantile * doubt)
                for was, time, doubt in zip(known, row, doubts, strict=True)
            ]
            times[kind] = falling(values, [was is not None for was in known]) if doubted else values
        return replace(job, times=times)


def _worth_trying(job: SizedJob, doubt: float, restart_s: float) -> float:
    """From 0 to 1: how much of what trying may bring is left after the restarts that it costs."""
    if doubt <= EXACT:
        return 0.0
    takes_s = min(min(row) for row in job.times.values())
    return max(0.0, 1.0 - TRIAL * restart_s / (doubt * takes_s))


def falling(values: Sequence[float], exact: Sequence[bool]) -> list[float]:
    """The nearest values that never rise (least squares of logarithms); exact ones weigh a thousand times as much."""
    blocks: list[tuple[float, float, int]] = []  # mean of logarithms, weight, length
    for value, sure in zip(values, exact, strict=True):
        blocks.append((math.log(value), 1000.0 if sure else 1.0, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (mean1, weight1, length1), (mean2, weight2, length2) = blocks[-2:]
            weight = weight1 + weight2
            blocks[-2:] = [((mean1 * weight1 + mean2 * weight2) / weight, weight, length1 + length2)]
    found = [math.exp(mean) for mean, _, length in blocks for _ in range(length)]
    return [value if sure else smooth for value, smooth, sure in zip(values, found, exact, strict=True)]
