"""Setups: the ways in which one job can run on one VM, and which of them the published methods prefer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from isthmus.placement.sizing.problem import Problem
from isthmus.placement.sizing.simulate import Active


class Setup(NamedTuple):
    """So many GPUs of a VM, and the seconds that what is left of the job takes there."""

    vm: int
    gpus: int
    time_s: float


@dataclass(slots=True)
class Preferred:
    """D*: setups that meet the deadline, cheapest first; those that don't, fastest first. `take` empties it."""

    meets: list[Setup]
    misses: list[Setup]

    @property
    def best(self) -> Setup:
        return (self.meets or self.misses)[0]

    def copy(self) -> "Preferred":
        return Preferred(list(self.meets), list(self.misses))

    def take(self, pick: Callable[[int], int]) -> Setup | None:
        """Take out the one that ``pick`` chooses by the number of candidates; None where none is left."""
        candidates = self.meets or self.misses
        return candidates.pop(pick(len(candidates))) if candidates else None


def preferred(problem: Problem, active: Active, now: float) -> Preferred:
    """All setups of a job. The cost of one is that of the whole VM, as published."""
    meets: list[tuple[float, Setup]] = []
    misses: list[tuple[float, Setup]] = []
    for number, vm in enumerate(problem.vms):
        row = active.job.times.get(vm.gpu_type, ())
        for gpus in range(1, min(vm.gpus, len(row)) + 1):
            time_s = row[gpus - 1] * active.left
            setup = Setup(number, gpus, time_s)
            if now + time_s <= active.job.deadline_s:
                meets.append((vm.price_per_h * time_s, setup))
            else:
                misses.append((time_s, setup))
    return Preferred([setup for _, setup in sorted(meets)], [setup for _, setup in sorted(misses)])


def fastest_s(active: Active) -> float:
    """The least time that what is left of a job takes."""
    return min(min(row) for row in active.job.times.values()) * active.left


def slowest_s(active: Active) -> float:
    """The most."""
    return max(max(row) for row in active.job.times.values()) * active.left


def pressure(active: Active, now: float) -> float:
    """How many seconds late a job is if it runs at its fastest from now on; negative: how many it has to spare."""
    return fastest_s(active) + now - active.job.deadline_s
