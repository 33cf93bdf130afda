"""Jobs: what to run and what it needs.

These dataclasses are the whole of a job's file, of the API's request body and of what is kept in the database;
pydantic reads them at the edges, so there is one definition of each. :func:`check` holds the rules that types
can't say.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from isthmus.domain.artefacts import check_name, check_version
from isthmus.domain.errors import Invalid
from isthmus.domain.reasons import Reason
from isthmus.domain.units import Bytes, Seconds

STRICT = {"extra": "forbid"}

NAME = re.compile(r"^[\w][\w .:@+/()\[\]=,-]{0,199}$")
ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
MAX_ARRAY = 100_000
MAX_ID = 2**53 - 1  # of a job: the largest that every client reads exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPart:
    """A part of one GPU, which others may have parts of. Give either, or both: then both must be free."""

    __pydantic_config__ = STRICT

    memory: Bytes = Bytes(0)  # bytes of its memory
    part: float = 0.0  # of its time and memory, above 0 and up to 1; 0: as much as the memory comes to


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one job needs, in all its nodes together unless it says ``per node``."""

    __pydantic_config__ = STRICT

    cpus: int = 1  # per node
    mem: Bytes = Bytes(0)  # bytes per node; 0: the site's default
    gpus: int = 0  # per node
    gpu_type: str = ""  # as the site names it, such as "a100"; "" is any
    gpu_mem: Bytes = Bytes(0)  # bytes that each GPU must have at least
    gpu: float | GpuPart | None = None  # instead of gpus: a part of one, such as 0.5 or {memory: 6GiB}
    time: Seconds = Seconds(0)  # limit on the run time; 0: the site's default
    nodes: int = 1
    tasks_per_node: int = 1  # ranks on each node, for multi-node launchers
    scratch: Bytes = Bytes(0)  # bytes of node-local scratch

    @property
    def gpu_part(self) -> GpuPart | None:
        """The part of a GPU that is asked for, if one is."""
        if self.gpu is None or isinstance(self.gpu, GpuPart):
            return self.gpu
        return GpuPart(part=float(self.gpu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Something the job reads, put at ``path`` in its work folder before it starts. Give exactly one source."""

    __pydantic_config__ = STRICT

    path: str
    dataset: str = ""  # NAME or NAME@VERSION
    job: int = 0  # an output of another job: its id, and `output`
    output: str = ""
    mode: Literal["link", "copy"] = "link"  # link: read-only, shared; copy: the job's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A file or folder that the job must leave in its work folder. ``path`` may be a glob."""

    __pydantic_config__ = STRICT

    path: str
    optional: bool = False
    collect: bool = True  # bring it home when the job ends; else it stays at the site until asked for
    dataset: str = ""  # register it as a new version of this dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """A dependency: this job waits until job ``job`` has ended ``on`` that way."""

    __pydantic_config__ = STRICT

    job: int
    on: Literal["completed", "ended", "failed"] = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When an ended attempt is followed by another.

    ``attempts`` bounds them all. Reasons that are the place's fault (node failure, preemption, lost, staging) are
    retried as they are; ``on`` adds others: OOM (with ``mem_factor`` times the memory), TIMEOUT, EXIT_CODE, SIGNAL.
    """

    __pydantic_config__ = STRICT

    attempts: int = 3
    on: tuple[Reason, ...] = ()
    mem_factor: float = 2.0
    delay: Seconds = Seconds(0)  # before the second attempt; doubles each time
    infrastructure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Lets a site with the policy `deadline-cost` choose the number of GPUs, and change it while the job is under way.

    To change it, or to give way to others, the job is stopped (SIGTERM, ``grace``) and goes on from its checkpoint:
    without ``checkpoint`` its number is chosen once. How far it is comes from the progress that it reports.
    """

    __pydantic_config__ = STRICT

    times: dict[str, tuple[Seconds, ...]] = field(default_factory=dict)
    # GPU type, "" for any, -> run time of the whole job with 1, 2, … GPUs. Empty: ``time`` is that with
    # ``resources.gpus``, and others follow a usual curve.
    late_per_hour: float = 1.0  # what an hour after the deadline costs, in the currency of the sites' prices


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job as a person writes it."""

    __pydantic_config__ = STRICT

    name: str = ""
    command: tuple[str, ...] = ()  # an argument vector; no shell reads it
    script: str = ""  # or the text of a script; its first line may name the interpreter, else sh
    image: str = ""  # NAME[@VERSION] of a registered image, or a reference that the site pulls
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)  # environment variable -> name of the secret
    resources: Resources = Resources()
    sizing: Sizing | None = None
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    stdout: str = ""  # a file in the work folder instead of the log
    stderr: str = ""
    launcher: Literal["auto", "none", "runner", "srun", "mpirun"] = "auto"
    checkpoint: bool = False  # keep $ISTHMUS_CHECKPOINT across attempts
    grace: Seconds = Seconds(30)  # between SIGTERM and SIGKILL
    priority: int = 0  # higher goes first
    deadline: datetime | None = None
    sites: tuple[str, ...] = ()  # run on one of these; none: anywhere it fits
    constraints: tuple[str, ...] = ()  # such as "zone is EU"
    after: tuple[After, ...] = ()
    retry: Retry = Retry()
    wait_for_site: bool = False  # accept it though no site of today could run it
    site_options: dict[str, dict[str, Any]] = field(default_factory=dict)  # {"slurm": {"qos": "long"}}
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Many jobs from one: ``size`` of them, or one for each entry of ``parameters``.

    Each sees ISTHMUS_ARRAY_INDEX and its parameters as environment variables; ``{index}`` and ``{parameter}`` in
    the arguments of its command are replaced.
    """

    __pydantic_config__ = STRICT

    size: int = 0
    parameters: tuple[dict[str, str | int | float | bool], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest(JobSpec):
    """What is submitted: a job, or an array of them."""

    __pydantic_config__ = STRICT

    array: Array | None = None


def check(spec: JobSpec, array: Array | None = None) -> None:
    """Raise Invalid, naming the place, where the spec breaks a rule that types can't say."""
    if bool(spec.command) == bool(spec.script.strip()):
        raise Invalid("A job has either a command or a script.", place="command")
    if spec.command and not spec.command[0]:
        raise Invalid("The command's first word is empty.", place="command[0]")
    for place, texts in (("command", spec.command), ("script", (spec.script,)), ("image", (spec.image,))):
        if any("\0" in text for text in texts):
            raise Invalid("A null character can't be passed to a program.", place=place)
    if spec.name and not NAME.fullmatch(spec.name):
        raise Invalid(
            f"{spec.name[:40]!r} is not a name.",
            place="name",
            hint="Begin with a letter or digit; up to 200 letters, digits, spaces and . : @ + / - ( ) [ ] = ,",
        )
    _check_resources(spec.resources)
    if spec.sizing is not None:
        _check_sizing(spec, spec.sizing)
    for which in ("env", "secrets"):
        for name, value in getattr(spec, which).items():
            if not ENV_NAME.fullmatch(name):
                raise Invalid(f"{name!r} is not a name of an environment variable.", place=f"{which}.{name}")
            if "\0" in value:
                raise Invalid("A null character can't be passed to a program.", place=f"{which}.{name}")
    both = sorted(set(spec.env) & set(spec.secrets))
    if both:
        raise Invalid(f"{both[0]!r} is both a secret and a plain variable.", place=f"env.{both[0]}")
    for number, item in enumerate(spec.inputs):
        _check_input(item, f"inputs[{number}]")
    for number, after in enumerate(spec.after):
        _check_id(after.job, f"after[{number}].job")
    for number, output in enumerate(spec.outputs):
        inside(output.path, f"outputs[{number}].path")
        if output.dataset:
            name, at, version = output.dataset.partition("@")
            check_name(name, f"outputs[{number}].dataset")
            if at:
                check_version(version, f"outputs[{number}].dataset")
    for place in ("stdout", "stderr"):
        if getattr(spec, place):
            inside(getattr(spec, place), place)
    if not 1 <= spec.retry.attempts <= 100:
        raise Invalid("It must be from 1 to 100.", place="retry.attempts")
    if not 1 <= spec.retry.mem_factor <= 100:
        raise Invalid("It must be from 1 to 100.", place="retry.mem_factor")
    if not -1_000_000 <= spec.priority <= 1_000_000:
        raise Invalid("It must be from -1000000 to 1000000.", place="priority")
    if spec.deadline is not None and spec.deadline.tzinfo is None:
        raise Invalid("It has no time zone.", place="deadline", hint="Write it like 2030-01-31T12:00:00Z.")
    if array is not None:
        _check_array(array)


def _check_resources(need: Resources) -> None:
    bounds = {
        "cpus": (1, 1_000_000),
        "gpus": (0, 10_000),
        "nodes": (1, 100_000),
        "tasks_per_node": (1, 10_000),
    }
    for name, (low, high) in bounds.items():
        if not low <= getattr(need, name) <= high:
            raise Invalid(f"{getattr(need, name)} is out of range: {low} to {high}.", place=f"resources.{name}")
    part = need.gpu_part
    if part is not None:
        _check_part(need, part)
    elif (need.gpu_type or need.gpu_mem) and not need.gpus:
        raise Invalid("A GPU type or memory needs gpus of 1 or more.", place="resources.gpus")


def _check_part(need: Resources, part: GpuPart) -> None:
    if need.gpus or need.gpu_mem:
        raise Invalid(
            "A job has either whole GPUs or a part of one.",
            place="resources.gpu",
            hint="Leave out gpus and gpu_mem, or gpu.",
        )
    if not part.part and not part.memory:
        raise Invalid("How much of a GPU is not said.", place="resources.gpu", hint="Such as 0.5, or {memory: 6GiB}.")
    if not 0 <= part.part <= 1:
        raise Invalid(
            f"{part.part:g} is not a part of a GPU.",
            place="resources.gpu",
            hint="Above 0 and up to 1; several whole ones are asked for by gpus.",
        )
    if need.nodes > 1:
        raise Invalid("Only a job on one node can have a part of a GPU.", place="resources.gpu")


def _check_sizing(spec: JobSpec, sizing: Sizing) -> None:
    if not spec.resources.gpus or spec.resources.nodes > 1:
        raise Invalid("Only a job with GPUs on one node can be sized.", place="sizing", hint="Set resources.gpus.")
    if not sizing.times and not spec.resources.time:
        raise Invalid(
            "How long the job takes is not said.",
            place="sizing.times",
            hint="Give run times, such as {a100: [2h, 70m]}, or resources.time.",
        )
    for kind, row in sizing.times.items():
        if not row or any(seconds <= 0 for seconds in row):
            raise Invalid("A run time is longer than nothing.", place=f"sizing.times.{kind}")
    if not 0 <= sizing.late_per_hour <= 1e9:
        raise Invalid("It must be from 0 to 1000000000.", place="sizing.late_per_hour")


def _check_input(item: Input, place: str) -> None:
    inside(item.path, f"{place}.path")
    if bool(item.dataset) == bool(item.job):
        raise Invalid("Give either a dataset or a job with its output.", place=place)
    if item.job:
        _check_id(item.job, f"{place}.job")
    if item.job and not item.output:
        raise Invalid("Name the output of that job.", place=f"{place}.output")


def _check_id(job: int, place: str) -> None:
    if not 1 <= job <= MAX_ID:
        raise Invalid(f"{job} is not the number of a job.", place=place)


def _check_array(array: Array) -> None:
    if bool(array.size) == bool(array.parameters):
        raise Invalid("An array has either a size or parameters.", place="array")
    if not 0 <= array.size <= MAX_ARRAY or len(array.parameters) > MAX_ARRAY:
        raise Invalid(f"An array has from 1 to {MAX_ARRAY} jobs.", place="array.size")
    for number, entry in enumerate(array.parameters):
        for name in entry:
            if not ENV_NAME.fullmatch(name):
                raise Invalid(
                    f"{name!r} is not a name of an environment variable.", place=f"array.parameters[{number}]"
                )


def inside(path: str, place: str) -> None:
    """Raise Invalid unless ``path`` is relative and stays within the work folder."""
    parts = path.split("/")
    if not path or path.startswith(("/", "~")) or ".." in parts or "\0" in path:
        raise Invalid(
            f"{path!r} is not a path within the work folder.",
            place=place,
            hint="Write it relative to the folder that the job runs in, without '..'.",
        )


def expand(spec: JobSpec, array: Array) -> list[JobSpec]:
    """The jobs of an array, in order of their index."""
    entries: list[dict[str, Any]] = list(array.parameters) or [{} for _ in range(array.size)]
    return [_element(spec, index, entry) for index, entry in enumerate(entries)]


def _element(spec: JobSpec, index: int, entry: dict[str, Any]) -> JobSpec:
    import dataclasses

    words = {"index": str(index), **{name: str(value) for name, value in entry.items()}}

    def fill(argument: str) -> str:
        for name, value in words.items():
            argument = argument.replace("{" + name + "}", value)
        return argument

    return dataclasses.replace(
        spec,
        name=f"{spec.name}[{index}]" if spec.name else "",
        command=tuple(fill(argument) for argument in spec.command),
        env={
            **spec.env,
            **{name: str(value) for name, value in entry.items()},
            "ISTHMUS_ARRAY_INDEX": str(index),
        },
    )
