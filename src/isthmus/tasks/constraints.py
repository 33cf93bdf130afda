"""`@constraint`: what a task needs of the machine that runs it.

Values are numbers, strings, `${VARIABLE}` of the environment, or the name of one of the task's parameters. What no
machine of this program can meet is said at the call, with what there is: it would wait for ever.
"""

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, declare, place_of
from isthmus.tasks.expressions import evaluate

# Those of PyCOMPSs; what is checked on this machine, and what is only known to a batch system.
CHECKED = (
    "computing_units",
    "memory_size",
    "processor_architecture",
    "operating_system_type",
    "storage_size",
    "processors",
)
ACCEPTED = (
    "processor_name", "processor_speed", "processor_type", "processor_internal_memory_size", "processor_property_name",
    "processor_property_value", "memory_type", "storage_type", "storage_bandwidth", "operating_system_distribution",
    "operating_system_version", "wall_clock_limit", "host_queues", "app_software", "is_local",
)  # fmt: skip
KEYS = (*CHECKED, *ACCEPTED)

_OLD = {"storageBW": "storage_bandwidth", "storage_bw": "storage_bandwidth"}
_VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")
_told: set[str] = set()


class Unmet(Invalid):
    """This machine has not got what a task needs."""


def constraint(**given: Any) -> Callable[[Any], Task]:
    """Say what a task needs: `@constraint(computing_units=2, memory_size="${GB}")` above its `@task`.

    Raises Invalid for an unknown name. Sizes are in GB.
    """
    words: dict[str, Any] = {}
    for word, value in given.items():
        name = _OLD.get(word) or _snake(word)
        if name not in KEYS:
            raise Invalid(f"{word!r} is no constraint.", place="@constraint", hint=nearest(name, KEYS))
        words[name] = value

    def mark(task: Any) -> Task:
        if not isinstance(task, Task):
            task = declare(task, {})
        task.constraints = {**task.constraints, **words}
        task._shape = None
        return task  # type: ignore[no-any-return]

    return mark


def units(task: Task, arguments: Mapping[str, Any], workers: int) -> int:
    """How many processors a call takes. Raises Unmet where this machine can't meet the task's constraints."""
    given = task.constraints
    if not given:
        return 1
    needed = 1
    if "processors" in given:
        needed = _processors(task, given["processors"], arguments)
    elif "computing_units" in given:
        needed = _whole(task, "computing_units", given["computing_units"], arguments)
    if needed > max(workers, 1):
        raise _impossible(task, f"computing_units={needed}", f"{workers} workers")
    if "memory_size" in given:
        wanted = _number(task, "memory_size", given["memory_size"], arguments)
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        if wanted > there:
            raise _impossible(task, f"memory_size={wanted:g} (GB)", f"{there:.1f} GB of memory")
    if "storage_size" in given:
        wanted = _number(task, "storage_size", given["storage_size"], arguments)
        disk = os.statvfs(".")
        there = disk.f_blocks * disk.f_frsize / 2**30
        if wanted > there:
            raise _impossible(task, f"storage_size={wanted:g} (GB)", f"{there:.0f} GB of storage")
    for name, what in _KINDS.items():
        if name in given:
            asked, here = _text(given[name], arguments), what()
            if asked and asked.lower() not in ("[unassigned]", here.lower(), platform.machine().lower()):
                raise _impossible(task, f"{name}={asked}", here)
    return max(1, needed)


def _processors(task: Task, listed: Any, arguments: Mapping[str, Any]) -> int:
    """The sum over CPUs; GPUs must be there."""
    needed = 0
    for kind, count in _listed(task, listed, arguments):
        if kind == "CPU":
            needed += count
        elif count and not (kind == "GPU" and count <= _gpus()):
            raise _impossible(task, f"{count} of processor type {kind}", f"{_gpus()} GPUs")
    return needed


def _listed(task: Task, listed: Any, arguments: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The kinds of processors that a constraint lists, and how many of each."""
    for entry in listed:
        kind = str(entry.get("processorType", entry.get("processor_type", "CPU"))).upper()
        value = entry.get("computingUnits", entry.get("computing_units", 1))
        yield kind, _whole(task, "computing_units", value, arguments)


def _gpus() -> int:
    return (
        len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name)]) if os.path.isdir("/dev") else 0
    )


def resources(task: Task, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a call needs, as a job of the platform says it. Raises Invalid for what is no number."""
    given = task.constraints
    found: dict[str, Any] = {}
    if "processors" in given:
        kinds = {"CPU": 0, "GPU": 0}
        for kind, count in _listed(task, given["processors"], arguments):
            kinds[kind] = kinds.get(kind, 0) + count
        found |= {"cpus": max(1, kinds["CPU"])} | ({"gpus": kinds["GPU"]} if kinds["GPU"] else {})
    elif "computing_units" in given:
        found["cpus"] = max(1, _whole(task, "computing_units", given["computing_units"], arguments))
    if "memory_size" in given:
        found["mem"] = f"{_number(task, 'memory_size', given['memory_size'], arguments):g}GiB"
    if "wall_clock_limit" in given:
        found["time"] = f"{_number(task, 'wall_clock_limit', given['wall_clock_limit'], arguments):g}m"
    return found


def _impossible(task: Task, wanted: str, there: str) -> Unmet:
    return Unmet(
        f"{task.name} needs {wanted}; this machine has {there}.",
        place=place_of(task.function),
        hint="Ask for less, start(workers=...) with more, or isthmus login: what this machine lacks becomes a job.",
    )


def _architecture() -> str:
    return {"x86_64": "amd64"}.get(platform.machine(), platform.machine())


_KINDS: Mapping[str, Callable[[], str]] = {
    "processor_architecture": _architecture,
    "operating_system_type": platform.system,
}


def _text(value: Any, arguments: Mapping[str, Any]) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    found = _VARIABLE.match(value)
    if found:
        return os.environ.get(found[1] or found[2], "")
    return str(arguments[value]) if value in arguments else value


def _number(task: Task, name: str, value: Any, arguments: Mapping[str, Any]) -> float:
    if isinstance(value, str):
        found = _VARIABLE.match(value)
        if found:
            variable = found[1] or found[2]
            if variable not in os.environ:
                return _unset(variable, name)
            value = os.environ[variable]
        else:
            found_value = evaluate(value, arguments, task.function.__globals__)
            value = value if found_value is None else found_value
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Invalid(
            f"{name}={value!r} of {task.name} is no number, no variable and no parameter.",
            place=place_of(task.function),
            hint=nearest(str(value), arguments),
        ) from None
    if number < 0:
        raise Invalid(f"{name}={value!r} of {task.name} is less than 0.", place=place_of(task.function))
    return number


def _whole(task: Task, name: str, value: Any, arguments: Mapping[str, Any]) -> int:
    return int(_number(task, name, value, arguments))


def _unset(variable: str, name: str) -> float:
    if variable not in _told:
        import warnings

        _told.add(variable)
        warnings.warn(f"The constraint {name} names ${{{variable}}}, which is not set: 1 is taken.", stacklevel=6)
    return 1.0


def _snake(word: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower()
