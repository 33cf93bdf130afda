"""A pool: the alike GPU nodes of one site, and the jobs whose number of GPUs is chosen there. Pure.

    jobs (waiting, running, stopping) ─► View ─► method ─► Orders: start these, stop those, look again then

The site's own batch system picks the node; what the method decides about a node is only how many GPUs a job has.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.simulate import Active, Method, Place, View


@dataclass(frozen=True, slots=True)
class Member:
    """One job of the pool at one moment. ``gpus`` is what it holds now, 0 where it waits."""

    job: SizedJob
    left: float  # of its work, from 1 to 0
    gpus: int = 0
    fixed: bool = False  # it can't be stopped: it has no checkpoint, or is only just starting
    ran_s: float = 0.0  # since it started last
    stopping: bool = False  # it was told to stop, and has not yet
    rigid: bool = False  # once it runs, it keeps the number that it has


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do about the jobs, by their ids; who is not named stays as it is."""

    start: Mapping[int | str, int] = field(default_factory=dict)  # with so many GPUs
    stop: tuple[int | str, ...] = ()
    wake_s: float = math.inf  # from now
    wants: Mapping[int | str, int] = field(default_factory=dict)  # what each job should have now, for `explain`


class Pool:
    """Remembers, as its method does, what it saw of the jobs. ``nodes`` may change from one call to the next."""

    def __init__(self, kind: str, gpus: int, gpu_hour: float, restart_s: float, method: Method) -> None:
        self._kind = kind
        self._gpus = gpus
        self.method = method
        self._nodes_of: dict[int | str, int] = {}
        self.say(gpu_hour, restart_s)

    def say(self, gpu_hour: float, restart_s: float) -> None:
        """What an hour of a GPU costs from now on, and a restart."""
        # A node is what it is: whole, whoever uses how much of it. A GPU costs its part of that.
        self._vms = (Vm(self._kind, self._kind, self._gpus, (gpu_hour or 1.0) * self._gpus),)
        self._restart_s = restart_s

    def problem(self, nodes: int, jobs: Sequence[SizedJob]) -> Problem:
        """What is to be solved here."""
        return Problem(nodes, self._vms, tuple(jobs))

    def orders(self, now: float, nodes: int, members: Sequence[Member]) -> Orders:
        """Decide. ``now`` in the same seconds as the jobs' releases and deadlines."""
        if nodes < 1 or not members:
            return Orders()
        problem = self.problem(nodes, [one.job for one in members])
        active = self._active(nodes, members)
        decision = self.method.decide(View(now, problem, active, self._restart_s))
        wants = {one.job.id: 0 for one in members}
        for number, place in decision.places.items():
            wants[members[number].job.id] = place.gpus
            self._nodes_of[members[number].job.id] = place.node
        start = {
            one.job.id: wants[one.job.id]
            for one in members
            if not one.gpus and not one.stopping and wants[one.job.id] > 0
        }
        stop = tuple(
            one.job.id
            for one in members
            if one.gpus and not one.fixed and not one.stopping and wants[one.job.id] != one.gpus
        )
        return Orders(start, stop, decision.wake_at - now, wants)

    def under_way(self, nodes: int, members: Sequence[Member]) -> dict[int | str, tuple[float, Place | None]]:
        """What is left of each job, and the place where it runs."""
        return {one.job.id: (one.left, one.place) for one in self._active(nodes, members)}

    def _active(self, nodes: int, members: Sequence[Member]) -> list[Active]:
        """The jobs as the method sees them; those that hold GPUs somewhere where these fit together."""
        most = self._vms[0].gpus
        used: dict[int, int] = {}
        homes: dict[int | str, int] = {}
        for one in sorted(members, key=lambda member: (-member.gpus, str(member.job.id))):
            if not one.gpus:
                continue
            known = self._nodes_of.get(one.job.id, 0)
            for node in (known, *range(nodes)):
                if node < nodes and used.get(node, 0) + one.gpus <= most:
                    used[node] = used.get(node, 0) + one.gpus
                    homes[one.job.id] = node
                    break
        self._nodes_of = dict(homes)
        return [self._see(one, homes.get(one.job.id)) for one in members]

    def _see(self, one: Member, node: int | None) -> Active:
        place = Place(node, 0, one.gpus) if node is not None and one.gpus else None
        # In a real batch system the first start takes its time, too.
        debt = max(0.0, self._restart_s - one.ran_s) if one.gpus else 0.0
        return Active(one.job, one.left, place, debt, True, fixed=one.fixed and place is not None, rigid=one.rigid)
