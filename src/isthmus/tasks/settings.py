"""How tasks are run: which engine, how many workers, how much memory. From the environment, or from `start(...)`.

ISTHMUS_TASKS            processes (the default), threads, sequential, ray, agent
ISTHMUS_TASKS_WORKERS    how many at once; else the processors that this process may use
ISTHMUS_TASKS_MEMORY     bytes of shared memory before values go to disk; else half of what is free there
ISTHMUS_TASKS_PENDING    tasks that may wait before a call blocks (20000)
ISTHMUS_TASKS_START      fork (the default) or spawn: how worker processes begin
ISTHMUS_TASKS_NESTED     1: tasks within tasks of a PyCOMPSs program are tasks too; else plain calls, as there
ISTHMUS_TASKS_CHECKPOINT a folder: results are kept there, and a program that is run again takes them
ISTHMUS_TASKS_ADDRESS    of a Ray cluster, or of an agent: where the engine is one of these
ISTHMUS_TASKS_SITE       a site of the platform whose nodes join the program's Ray cluster, each as a job
ISTHMUS_TASKS_NODES      how many of them to begin with (1); ISTHMUS_TASKS_WORKERS is the processors of each
ISTHMUS_TASKS_RAY        the command there (ray)
ISTHMUS_TASKS_OBJECTS    a folder, or redis://HOST:PORT: where persistent objects are kept
ISTHMUS_TASKS_STREAMS    nats://HOST:PORT: streams go through NATS JetStream, so from machine to machine
ISTHMUS_TASKS_TRACE      a file that gets the trace at the end: .json (Chrome, Perfetto) or .prv (Paraver)
ISTHMUS_TASKS_GRAPH      a file that gets the graph at the end: .svg or .dot
ISTHMUS_TASKS_PROGRESS   1: a progress bar on stderr
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from isthmus.domain.errors import Invalid, nearest

ENGINES = ("processes", "threads", "sequential", "ray", "agent")


@dataclass(frozen=True, slots=True)
class Settings:
    """See the module."""

    engine: str = "processes"
    workers: int = 0
    memory_bytes: int = 0
    pending: int = 20_000
    start: str = "fork"
    nested: bool = False
    checkpoint: str = ""
    trace: str = ""
    graph: str = ""
    progress: bool = False
    report: str = ""  # in a job of the platform: where it reports to
    address: str = ""  # of an existing Ray cluster, or of an agent
    site: str = ""  # whose nodes join the program's Ray cluster
    nodes: int = 1
    ray: str = "ray"  # the command there
    objects: str = ""  # a folder, or redis://HOST:PORT: where persistent objects are kept; "": the user's own
    streams: str = ""  # nats://HOST:PORT, where streams go from machine to machine


_VARIABLES = {
    "engine": "ISTHMUS_TASKS",
    "workers": "ISTHMUS_TASKS_WORKERS",
    "memory_bytes": "ISTHMUS_TASKS_MEMORY",
    "pending": "ISTHMUS_TASKS_PENDING",
    "start": "ISTHMUS_TASKS_START",
    "nested": "ISTHMUS_TASKS_NESTED",
    "checkpoint": "ISTHMUS_TASKS_CHECKPOINT",
    "trace": "ISTHMUS_TASKS_TRACE",
    "graph": "ISTHMUS_TASKS_GRAPH",
    "progress": "ISTHMUS_TASKS_PROGRESS",
    "report": "ISTHMUS_REPORT",
    "address": "ISTHMUS_TASKS_ADDRESS",
    "site": "ISTHMUS_TASKS_SITE",
    "nodes": "ISTHMUS_TASKS_NODES",
    "ray": "ISTHMUS_TASKS_RAY",
    "objects": "ISTHMUS_TASKS_OBJECTS",
    "streams": "ISTHMUS_TASKS_STREAMS",
}


def settings(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """What was given, over the environment, over the defaults. Raises Invalid, naming the variable or the word."""
    environment = os.environ if environment is None else environment
    for word in given:
        if word not in _VARIABLES:
            raise Invalid(f"{word!r} is no setting.", place="start", hint=nearest(word, _VARIABLES))
    found: dict[str, Any] = {}
    for item in fields(Settings):
        variable = _VARIABLES[item.name]
        value = given.get(item.name)
        place = item.name
        if value is None and environment.get(variable):
            value, place = environment[variable], variable
        if value is None:
            continue
        if item.type in (int, "int"):
            try:
                value = int(value)
            except ValueError:
                raise Invalid(f"{value!r} is no whole number.", place=place) from None
            if value < 0 or (item.name == "pending" and value < 1):
                raise Invalid(f"{value} is too small.", place=place)
        elif item.type in (bool, "bool") and isinstance(value, str):
            value = value.lower() not in ("0", "no", "off", "false", "")
        found[item.name] = value
        if item.name == "engine" and value not in ENGINES:
            raise Invalid(f"{value!r} is no engine.", place=place, hint=nearest(str(value), ENGINES))
        if item.name == "start" and value not in ("fork", "spawn"):
            raise Invalid(f"{value!r} is no way to start.", place=place, hint="There is: fork, spawn.")
    return Settings(**found)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
