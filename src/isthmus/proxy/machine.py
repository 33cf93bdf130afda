"""What this machine has: for probes of process sites, and the part of every probe that no batch system tells."""

import os
import platform
import re
import shutil
import subprocess

from isthmus.runner import gpu

ENGINES = (
    ("apptainer", "apptainer"),
    ("singularity", "singularity"),
    ("podman", "podman"),
    ("docker", "docker"),
    ("charliecloud", "ch-run"),
)


def inventory(system, workdir, user: str, options: dict) -> dict:
    """An Inventory (isthmus/domain/sites.py): this machine's facts, and on top of them what the batch system says."""
    found = {
        "host": platform.node(),
        "user": user,
        "python": platform.python_version(),
        "workdir": workdir.path,
        "free_bytes": workdir.free_bytes(),
        "architecture": platform.machine(),
        "login_engines": engines(),
        "notes": [],
    }
    found.update(system.inventory(options))
    return found


def queue() -> dict:
    """This machine as a site of its own: one queue with one node."""
    gpus, notes = _gpus()
    node = {"name": platform.node(), "count": 1, "cpus": cpus(), "mem": memory(), "gpus": gpus, "features": []}
    return {
        "batch": "process",
        "queues": [{"name": "local", "default": True, "nodes": [node]}],
        "engines": engines(),
        "scratch": os.environ.get("TMPDIR") or "/tmp",
        "notes": notes,
    }


def cpus() -> int:
    """CPUs that this user's processes may use: those they may run on, less where a cgroup gives less time."""
    count = len(os.sched_getaffinity(0))
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        count = min(count, max(1, int(int(quota[0]) / int(quota[1]))))
    return count


def memory() -> int:
    """Bytes of memory: the machine's, less where a cgroup allows less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path).strip()
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def engines() -> dict:
    """``{engine: version}`` of the container engines on the path that answer."""
    found = {}
    env = dict(os.environ)
    env.setdefault("USER", "nobody")  # ch-run says nothing without
    for name, program in ENGINES:
        if shutil.which(program) is None:
            continue
        argv = [program, "--version"]
        if name == "docker":
            # A client alone is no engine: its server must let this user in.
            argv = ["docker", "version", "--format", "{{.Server.Version}}"]
        try:
            told = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, env=env
            )
        except (OSError, subprocess.SubprocessError):
            continue
        version = re.search(r"\d+(\.\d+)+", told.stdout.decode("utf-8", "replace"))
        if told.returncode == 0:
            found[name] = version.group(0) if version else ""
    return found


def _gpus():
    """``(GPUs by type, notes)``, as CUDA_VISIBLE_DEVICES lets this user's processes see them."""
    described = gpu.shared().describe()
    visible = gpu.visible(os.environ)
    if visible:
        described = [item for index, item in enumerate(described) if str(index) in visible or item["uuid"] in visible]
    kinds: dict = {}
    for item in described:
        kind = kinds.setdefault(item["name"], {"type": type_name(item["name"]), "count": 0, "mem": item["mem"]})
        kind["count"] += 1
        kind["mem"] = min(kind["mem"], item["mem"])
    if not described and os.path.isdir("/proc/driver/nvidia/gpus"):
        return [], ["This machine has NVIDIA GPUs, but libnvidia-ml.so.1 can't be used: they are left out."]
    return list(kinds.values()), []


def type_name(name: str) -> str:
    """A GPU's product name as people write its type: ``NVIDIA A100-SXM4-80GB`` is a100, ``Tesla V100-…`` v100."""
    words = re.split(r"[^A-Za-z0-9]+", name)
    for word in words:
        if re.match(r"^[A-Za-z]{1,3}\d{1,4}[A-Za-z]?$", word):
            return word.lower()
    return "-".join(word.lower() for word in words if word and word.lower() != "nvidia")


def _read(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ""
