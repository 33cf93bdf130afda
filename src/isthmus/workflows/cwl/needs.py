"""What a tool asks of a machine, evaluated: cores, memory, disk, GPUs, time, network, image, environment."""

import math
from typing import Any

from isthmus.workflows.cwl import loading
from isthmus.workflows.cwl.context import Context
from isthmus.workflows.work import Image, Need, StepFailed

MIB = 1 << 20
DEFAULTS = {"cores": 1, "ram": 256, "tmpdir": 1024, "outdir": 1024}


def resources(context: Context) -> tuple[Need, dict[str, Any]]:
    """The need, and what ``runtime`` says of it. Raises StepFailed."""
    asked = context.in_force.get("ResourceRequirement") or {}
    found: dict[str, float] = {}
    for name, default in DEFAULTS.items():
        low = _size(context, asked.get(f"{name}Min"), f"{name}Min")
        high = _size(context, asked.get(f"{name}Max"), f"{name}Max")
        if low is not None and high is not None and low > high:
            raise StepFailed(f"ResourceRequirement: {name}Min is {low:g}, more than {name}Max, {high:g}.")
        if low is None:
            low = high if high is not None else 1024 if name == "ram" and context.process.version == "v1.0" else default
        found[name] = low
    gpu = context.in_force.get("cwltool:CUDARequirement")
    gpus = int(_size(context, gpu.get("cudaDeviceCountMin", 1), "cudaDeviceCountMin") or 0) if gpu else 0
    need = Need(
        cpus=found["cores"],
        mem=int(found["ram"] * MIB) if asked.get("ramMin") is not None or asked.get("ramMax") is not None else 0,
        gpus=gpus,
        tmp=int(found["tmpdir"] * MIB),
        out=int(found["outdir"] * MIB),
        time=time_limit(context),
    )
    runtime = {
        "cores": math.ceil(found["cores"]),
        "ram": math.ceil(found["ram"]),
        "tmpdirSize": math.ceil(found["tmpdir"]),
        "outdirSize": math.ceil(found["outdir"]),
    }
    return need, runtime


def _size(context: Context, written: Any, name: str) -> float | None:
    if written is None:
        return None
    found = context.number(written, f"ResourceRequirement: {name}")
    if found < 0:
        raise StepFailed(f"ResourceRequirement: {name} is {found:g}, less than 0.")
    return found


def time_limit(context: Context) -> float:
    """Seconds; 0 is no limit."""
    asked = context.in_force.get("ToolTimeLimit")
    if asked is None:
        return 0.0
    limit = context.number(asked.get("timelimit"), "The timelimit")
    if limit < 0:
        raise StepFailed(f"The timelimit is {limit:g}, less than 0.")
    return limit


def network(context: Context) -> bool:
    """Whether it may reach the network: always before v1.1."""
    asked = context.in_force.get("NetworkAccess")
    if asked is None:
        return context.process.version == "v1.0"
    return context.flag(asked.get("networkAccess"), "networkAccess")


def reusable(context: Context) -> bool:
    """Whether an earlier result may stand for a run."""
    asked = context.in_force.get("WorkReuse")
    return True if asked is None else context.flag(asked.get("enableReuse"), "enableReuse")


def image(context: Context) -> tuple[Image | None, str]:
    """The container image, and the folder in it that must be the work folder ("": any)."""
    asked = context.in_force.get("DockerRequirement")
    if asked is None:
        return None, ""
    reference = str(asked.get("dockerPull") or asked.get("dockerImageId") or "")
    load, imported = str(asked.get("dockerLoad") or ""), str(asked.get("dockerImport") or "")
    base = getattr(asked, "file", "") or context.process.file
    found = Image(
        reference=reference,
        load=loading.resolve(base, load) if load else "",
        imported=loading.resolve(base, imported) if imported else "",
        dockerfile=str(asked.get("dockerFile") or ""),
        required=context.in_force.required("DockerRequirement"),
    )
    return found, str(asked.get("dockerOutputDirectory") or "")


def environment(context: Context) -> dict[str, str]:
    """The variables of EnvVarRequirement. Raises StepFailed."""
    asked = context.in_force.get("EnvVarRequirement")
    if asked is None:
        return {}
    defined = asked.get("envDef") or {}
    if isinstance(defined, dict):
        pairs = [(name, each.get("envValue") if isinstance(each, dict) else each) for name, each in defined.items()]
    else:
        pairs = [(str(each.get("envName")), each.get("envValue")) for each in defined]
    found = {}
    for name, value in pairs:
        text = context.value(value)
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise StepFailed(f"The environment variable {name} must be a string, but it is {text!r}.")
        found[name] = str(text)
    return found
