"""A job's request in qsub's words: the manual page qsub(1) of Grid Engine 8.1."""

import re

from isthmus.domain.errors import Invalid
from isthmus.sites.gridengine.options import OPTIONS
from isthmus.sites.kinds import Request, Words

# qsub splits a directive at blanks and knows no quotes.
_PLAIN = re.compile(r"^[^\s\"'#]+$")


def words(request: Request) -> Words:
    """The ``#$`` lines for a request.

    Raises Invalid for several nodes, and for GPUs that can't be shared out evenly where a site counts them by slot.
    """
    if request.nodes > 1:
        raise Invalid("A site of kind gridengine runs jobs on one node.", place="resources.nodes")
    slots = request.cpus * request.tasks
    lines = [
        f"-N {request.name}",
        "-S /bin/bash",  # else the queue's own shell reads the script, whatever its first line says
        "-cwd",
        "-j y",
        "-o batch.log",
        "-r n",  # an attempt runs once; whether there is another is not Grid Engine's to say
        "-notify",  # SIGUSR2 before SIGKILL
    ]
    if slots > 1:
        lines.append(f"-pe {_plain(request, 'pe', 'smp')} {slots}")
    lines += [f"-l {name}={value}" for name, value in _resources(request, slots).items()]
    if request.queue_name:
        lines.append(f"-q {request.queue_name}")
    for name, option in OPTIONS.items():
        if option.flag and name not in ("queue", "resources") and name in request.options:
            lines.append(f"{option.flag} {_plain(request, name, '')}")
    return Words(directives=tuple(f"#$ {line}" for line in lines))


def _resources(request: Request, slots: int) -> dict[str, str]:
    found = {}
    if request.limit_s:
        found["h_rt"] = str(request.limit_s)
    memory = _plain(request, "memory", "mem_free")
    if request.mem_bytes and memory != "none":
        per_slot = request.options.get("memory_per_slot", memory.startswith(("h_", "s_")))
        found[memory] = f"{-(-request.mem_bytes // (2**20 * (slots if per_slot else 1)))}M"
    if request.gpus:
        found[_plain(request, "gpu", "gpu")] = str(_gpus(request, slots))
        if request.gpu_type and "gpu_type" in request.options:
            found[_plain(request, "gpu_type", "")] = request.gpu_type
    for name, value in request.options.get("resources", {}).items():
        if not _PLAIN.match(f"{name}={value}"):
            raise Invalid(f"{name}={value!r} has a blank or a quote in it.", place="options.resources")
        found[name] = value
    return found


def _gpus(request: Request, slots: int) -> int:
    if not request.options.get("gpu_per_slot"):
        return request.gpus
    if request.gpus % slots:
        raise Invalid(
            f"{request.gpus} GPUs can't be shared out evenly among {slots} slots, by which this site counts them.",
            place="resources.gpus",
            hint="Ask for as many cores as GPUs, or for fewer.",
        )
    return request.gpus // slots


def _plain(request: Request, name: str, default: str) -> str:
    value = str(request.options.get(name, default))
    if not _PLAIN.match(value):
        raise Invalid(f"{value!r} has a blank or a quote in it, which qsub can't read.", place=f"options.{name}")
    return value
