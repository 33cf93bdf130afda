"""Problems of joint scheduling and sizing: nodes, the VM types that each can be, jobs with deadlines.

    {"nodes": N,
     "vm_types": [{"vm", "gpu_type", "gpus", "price_per_h"}],
     "jobs": [{"id", "release_s", "deadline_s", "tardiness_weight_per_s",
               "time_s": {gpu_type: [seconds with 1, 2, … GPUs]}}]}

A node is one VM at a time and costs its price for as long as it is open; a job that ends after its deadline costs its
weight for each second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from isthmus.domain.errors import Invalid, nearest

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Vm:
    """What a node can be: so many GPUs of one type, at a price."""

    name: str
    gpu_type: str
    gpus: int
    price_per_h: float

    @property
    def price_per_s(self) -> float:
        return self.price_per_h / HOUR_S


@dataclass(frozen=True, slots=True)
class SizedJob:
    """A job that can run on different numbers of GPUs. Times in seconds; ``times[gpu type][n - 1]`` is on n GPUs.

    ``doubts``: how far each of the times may be off, where that is known: the standard deviation of its logarithm.
    """

    id: int | str
    release_s: float
    deadline_s: float
    weight_per_s: float
    times: Mapping[str, Sequence[float]]
    doubts: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def time(self, gpu_type: str, gpus: int) -> float:
        """Seconds from start to end with so many GPUs all the while; infinite where it can't run so."""
        row = self.times.get(gpu_type, ())
        return row[gpus - 1] if gpus <= len(row) else math.inf


@dataclass(frozen=True)
class Problem:
    nodes: int
    vms: tuple[Vm, ...]
    jobs: tuple[SizedJob, ...]

    @cached_property
    def gpu_types(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(vm.gpu_type for vm in self.vms))

    @cached_property
    def smallest(self) -> Mapping[tuple[str, int], int]:
        """The cheapest VM, by its number, that has at least so many GPUs of a type."""
        best: dict[tuple[str, int], int] = {}
        for number in sorted(range(len(self.vms)), key=lambda one: -self.vms[one].price_per_h):
            vm = self.vms[number]
            for gpus in range(1, vm.gpus + 1):
                best[vm.gpu_type, gpus] = number
        return best

    @cached_property
    def most_gpus(self) -> Mapping[str, int]:
        """The size of the largest VM of each GPU type."""
        return {kind: max(vm.gpus for vm in self.vms if vm.gpu_type == kind) for kind in self.gpu_types}

    @cached_property
    def prices_per_s(self) -> Mapping[tuple[str, int], float]:
        """The least that a second of so many GPUs of a type costs: their part of the VM that is cheapest for it."""
        return {
            (kind, gpus): min(
                vm.price_per_s * gpus / vm.gpus for vm in self.vms if vm.gpu_type == kind and vm.gpus >= gpus
            )
            for kind, most in self.most_gpus.items()
            for gpus in range(1, most + 1)
        }


def read_problem(data: Any) -> Problem:
    """A problem from its JSON. Raises Invalid with the place of the first fault."""
    top = _object(data, "the problem", {"nodes", "vm_types", "jobs"})
    nodes = _number(top["nodes"], "nodes", least=1)
    if nodes != int(nodes):
        raise Invalid(f"{nodes} is not a number of nodes.", place="nodes")
    vms = tuple(_vm(one, f"vm_types[{number}]") for number, one in enumerate(_list(top["vm_types"], "vm_types")))
    _unique([vm.name for vm in vms], "vm_types", "vm")
    known = {vm.gpu_type: max(one.gpus for one in vms if one.gpu_type == vm.gpu_type) for vm in vms}
    jobs = tuple(_job(one, f"jobs[{number}]", known) for number, one in enumerate(_list(top["jobs"], "jobs")))
    _unique([job.id for job in jobs], "jobs", "id")
    return Problem(int(nodes), vms, jobs)


def write_problem(problem: Problem) -> dict[str, Any]:
    """The problem as JSON."""
    return {
        "nodes": problem.nodes,
        "vm_types": [
            {"vm": vm.name, "gpu_type": vm.gpu_type, "gpus": vm.gpus, "price_per_h": vm.price_per_h}
            for vm in problem.vms
        ],
        "jobs": [
            {
                "id": job.id,
                "release_s": job.release_s,
                "deadline_s": job.deadline_s,
                "tardiness_weight_per_s": job.weight_per_s,
                "time_s": {kind: list(times) for kind, times in job.times.items()},
            }
            for job in problem.jobs
        ],
    }


def _vm(data: Any, place: str) -> Vm:
    fields = _object(data, place, {"vm", "gpu_type", "gpus", "price_per_h"})
    gpus = _number(fields["gpus"], f"{place}.gpus", least=1)
    if gpus != int(gpus) or gpus > 1024:
        raise Invalid(f"{gpus:g} is not a number of GPUs.", place=f"{place}.gpus", hint="From 1 to 1024.")
    price = _number(fields["price_per_h"], f"{place}.price_per_h")
    name, kind = _text(fields["vm"], f"{place}.vm"), _text(fields["gpu_type"], f"{place}.gpu_type")
    return Vm(name, kind, int(gpus), price)


def _job(data: Any, place: str, known: Mapping[str, int]) -> SizedJob:
    fields = _object(data, place, {"id", "release_s", "deadline_s", "tardiness_weight_per_s", "time_s"})
    if isinstance(fields["id"], bool) or not isinstance(fields["id"], int | str):
        raise Invalid("An id is a number or a text.", place=f"{place}.id")
    release = _number(fields["release_s"], f"{place}.release_s")
    deadline = _number(fields["deadline_s"], f"{place}.deadline_s")
    if deadline < release:
        raise Invalid(
            f"The deadline, {deadline:g} s, is before the release, {release:g} s.",
            place=f"{place}.deadline_s",
            hint="Both are seconds since the beginning of the schedule.",
        )
    weight = _number(fields["tardiness_weight_per_s"], f"{place}.tardiness_weight_per_s")
    if not isinstance(fields["time_s"], Mapping) or not fields["time_s"]:
        raise Invalid("It has no times.", place=f"{place}.time_s", hint='Write it like {"A100": [7200, 3800]}.')
    times: dict[str, tuple[float, ...]] = {}
    for kind, row in fields["time_s"].items():
        where = f"{place}.time_s.{kind}"
        if kind not in known:
            raise Invalid(f"No VM type has GPUs of type {kind!r}.", place=where, hint=nearest(str(kind), known))
        values = _list(row, where)
        times[kind] = tuple(_time(value, f"{where}[{number}]") for number, value in enumerate(values[: known[kind]]))
    return SizedJob(fields["id"], release, deadline, weight, times)


def _time(value: Any, place: str) -> float:
    seconds = _number(value, place)
    if seconds <= 0:
        raise Invalid("A job takes longer than no time.", place=place, hint="Give seconds, greater than 0.")
    return seconds


def _object(data: Any, place: str, names: set[str]) -> Mapping[str, Any]:
    where = "" if place == "the problem" else place
    if not isinstance(data, Mapping):
        raise Invalid(f"This is not an object with {', '.join(sorted(names))}.", place=where)
    for name in sorted(names - set(data)):
        raise Invalid(f"{name!r} is missing.", place=f"{where}.{name}".lstrip("."))
    for name in sorted(set(data) - names):
        raise Invalid(f"There is no field {name!r}.", place=f"{where}.{name}".lstrip("."), hint=nearest(name, names))
    return data


def _list(data: Any, place: str) -> list[Any]:
    if not isinstance(data, list | tuple) or not data:
        raise Invalid("This is not a list with something in it.", place=place)
    return list(data)


def _text(data: Any, place: str) -> str:
    if not isinstance(data, str) or not data:
        raise Invalid("This is not a text.", place=place)
    return data


def _number(data: Any, place: str, *, least: float = 0.0) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
        raise Invalid(f"{data!r} is not a number.", place=place)
    if data < least:
        raise Invalid(f"{data:g} is less than {least:g}.", place=place)
    return float(data)


def _unique(names: Sequence[object], place: str, field: str) -> None:
    seen: set[object] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise Invalid(f"{name!r} is there twice.", place=f"{place}[{number}].{field}")
        seen.add(name)
