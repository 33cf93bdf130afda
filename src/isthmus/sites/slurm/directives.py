"""A job's request in sbatch's words. https://slurm.schedmd.com/sbatch.html"""

import math
import re

from isthmus.domain.errors import Invalid
from isthmus.domain.jobs import GpuPart
from isthmus.sites.kinds import Request, Words
from isthmus.sites.slurm.options import OPTIONS

_PLAIN = re.compile(r"^[\w@%+=:,./&|!*\[\]()<>~^-]+$")
# The longest warning that --signal takes.
_LONGEST_WARNING_S = 65535


def words(request: Request) -> Words:
    """The #SBATCH lines for a request, and what only the command line takes.

    Resources are asked for in words that every version since 17.11 knows, per node: ``--gres`` rather than ``--gpus``.
    The time is whole minutes: SLURM rounds up to them by itself.
    """
    said = {
        "--job-name": request.name,
        "--output": "batch.log",
        "--open-mode": "append",
        "--nodes": request.nodes,
        "--ntasks-per-node": request.tasks,
        "--cpus-per-task": request.cpus,
        "--mem": f"{-(-request.mem_bytes // 2**20)}M" if request.mem_bytes else "",
        "--gres": _gres(request),
        "--tmp": f"{-(-int(request.job.resources.scratch) // 2**20)}M" if request.job.resources.scratch else "",
        "--time": _time(request.limit_s) if request.limit_s else "",
        # To the runner alone (B), so that the command gets it once, from the runner, and its grace.
        "--signal": f"B:TERM@{min(request.grace_s, _LONGEST_WARNING_S)}" if request.grace_s else "",
    }
    for name, option in OPTIONS.items():
        value = request.options.get(name)
        if option.flag and value is not None and value is not False:
            said[option.flag] = "" if value is True else str(value)
    if request.queue_name:
        said["--partition"] = request.queue_name
    flags = ["--no-requeue"]  # an attempt runs once; whether there is another is not SLURM's to say
    flags += [OPTIONS[name].flag for name, value in request.options.items() if value is True]
    lines = [f"#SBATCH {flag}={_quoted(str(value))}" for flag, value in said.items() if value != ""]
    lines += [f"#SBATCH {flag}" for flag in flags]
    clusters = request.options.get("clusters")
    return Words(directives=tuple(lines), argv=(f"--clusters={clusters}",) if clusters else ())


def _gres(request: Request) -> str:
    """GPUs and the option `gres` together: of two --gres, sbatch takes the last alone."""
    asked = [":".join(part for part in ("gpu", request.gpu_type, str(request.gpus)) if part)] if request.gpus else []
    part = request.job.resources.gpu_part
    shards = int(request.options.get("shards_per_gpu") or 0)
    if part is not None and shards:
        asked = [f"shard:{_shards(request, part, shards)}"]
    return ",".join([*asked, *([request.options["gres"]] if "gres" in request.options else [])])


def _shards(request: Request, part: GpuPart, shards: int) -> int:
    """How many shards of a GPU a part comes to. Without shards, a part of a GPU is a whole one."""
    share = part.part
    if part.memory:
        known = [int(kind.mem) for node in (request.queue.nodes if request.queue else ()) for kind in node.gpus]
        if not known or not min(known):
            if not share:
                raise Invalid(
                    "How much memory the cluster's GPUs have is not known.",
                    place="resources.gpu",
                    hint="Say the part of a GPU that it needs, such as gpu: {memory: 6GiB, part: 0.25}.",
                )
        else:
            share = max(share, int(part.memory) / min(known))
    return min(shards, max(1, math.ceil(share * shards - 1e-6)))


def _time(limit_s: int) -> str:
    """``days-hours:minutes:00``."""
    minutes = -(-limit_s // 60)
    days, rest = divmod(minutes, 24 * 60)
    return f"{days}-{rest // 60:02d}:{rest % 60:02d}:00"


def _quoted(value: str) -> str:
    """A value as sbatch reads it in a script: it splits at blanks outside quotes and takes # for a comment."""
    if _PLAIN.match(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
