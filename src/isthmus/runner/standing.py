"""Where an attempt stands, as its folder tells to whoever looks from outside: the keeper, and who cleans up."""

import json
import os

from isthmus.runner import claim
from isthmus.runner import folder as files

TAIL_BYTES = 1 << 20


def standing(folder: files.Folder) -> str:
    """``none`` (no runner has claimed it), ``fenced``, ``running``, ``ended`` (with its final report) or ``gone``.

    The final report comes first: the worker that wrote it lives on for other attempts.
    """
    runner = claim.runner_state(folder)
    if runner in ("none", "fenced"):
        return runner
    if has_finished(folder):
        return "ended"
    return "running" if runner in ("alive", "elsewhere") else "gone"


def has_finished(folder: files.Folder) -> bool:
    """Whether an attempt's final report is there, whole."""
    try:
        with open(folder.at(files.REPORTS), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL_BYTES))
            lines = stream.read().split(b"\n")
    except OSError:
        return False
    return len(lines) > 1 and lines[-1] == b"" and lines[-2].startswith(b'{"kind":"finished"')


def wants(folder: files.Folder) -> tuple:
    """``(GPUs, processors, part of a GPU)`` that an attempt asks for; the last is as in job.json, or None."""
    spec = folder.read_json(files.SPEC)
    return int(spec.get("gpus") or 0), int(spec.get("cpus") or 1), spec.get("gpu") or None


def has_gpus(folder: files.Folder) -> list:
    """The GPUs that a running attempt was given, from its first report."""
    try:
        first = json.loads(folder.read(files.REPORTS).split(b"\n", 1)[0].decode("utf-8"))
    except ValueError:
        return []
    return [str(name) for name in first.get("gpus") or []]
