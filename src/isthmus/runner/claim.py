"""The claim: of all runners of an attempt, on whatever node, one runs it. Fencing takes the claim so that none does.

A claim is never given back: an attempt whose runner died is lost, and the control plane makes another one.
"""

import os
import socket
import time

from isthmus.runner import folder as files
from isthmus.runner import process

FRESH_S = 5.0


def take(folder: files.Folder, native_id: str) -> bool:
    """Claim the attempt for this process. False: another runner has it, or it was fenced."""
    return folder.create(
        files.CLAIM,
        files.dump(
            {
                "native_id": native_id,
                "host": socket.gethostname(),
                "boot": process.boot_id(),
                "pid": os.getpid(),
                "start": process.start_ticks(os.getpid()),
                "t": time.time(),
            }
        ),
    )


def fence(folder: files.Folder) -> bool:
    """Take the claim so that no runner ever can. False: a runner has it already."""
    if folder.create(files.CLAIM, files.dump({"fenced": True, "t": time.time()})):
        files.sync_folder(folder.path)
        return True
    return fenced(folder)


def fenced(folder: files.Folder) -> bool:
    """Whether the attempt was fenced before a runner could claim it."""
    return bool(folder.read_json(files.CLAIM).get("fenced"))


def runner_state(folder: files.Folder) -> str:
    """What is known here of the runner that holds the claim.

    ``"none"`` (nobody claimed it), ``"fenced"``, ``"alive"``, ``"dead"``, or ``"elsewhere"`` (on another machine).
    A process that has the same number as the runner once had is told from it by its start time.
    """
    if not folder.has(files.CLAIM):
        return "none"
    held = folder.read_json(files.CLAIM)
    if not held and _fresh(folder):
        return "alive"  # it is being written
    if held.get("fenced"):
        return "fenced"
    if held and held.get("host") != socket.gethostname():
        return "elsewhere"
    if held and held.get("boot") == process.boot_id() and process.alive(held["pid"], held["start"]):
        return "alive"
    return "dead"


def _fresh(folder):
    try:
        return abs(time.time() - os.stat(folder.at(files.CLAIM)).st_mtime) < FRESH_S
    except OSError:
        return False
