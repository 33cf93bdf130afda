"""Ending attempts, and saying where they run."""

import os

from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import from_os
from isthmus.runner import claim
from isthmus.runner import folder as files


def kill(workdir, system, keys: dict, fence: bool) -> dict:
    """Order the end of attempts: ``{key: {} or {"error"}}``. Silent if gone.

    ``fence``: one that no runner has claimed yet never starts, even if its submission is still on its way.
    """
    results: dict = {}
    wanted: dict = {}
    for key, said in keys.items():
        try:
            folder = workdir.job(key)
            if fence and not os.path.isdir(folder.path):
                os.makedirs(folder.path, mode=0o700, exist_ok=True)
            if os.path.isdir(folder.path):
                _ask(folder, said.get("grace_s"))
                if fence and claim.fence(folder):
                    folder.remove(files.SECRETS)  # nobody will read them any more
            wanted[key] = said.get("native_id") or folder.read(files.NATIVE_ID).decode("ascii", "replace").strip()
            results[key] = {}
        except ProxyError as error:
            results[key] = {"error": error.as_json()}
        except OSError as error:
            results[key] = {"error": from_os(error, "Ordering the end of %s" % key).as_json()}
    for key, failure in system.kill(wanted).items():
        results[key] = {"error": failure.as_json()}
    return results


def _ask(folder, grace_s):
    """Write the kill file, which the runner looks for."""
    data = files.dump({} if grace_s is None else {"grace_s": float(grace_s)})
    try:
        folder.write(files.KILL, data)
    except OSError:
        # A full disk must not keep a job running: the runner's reserve makes the room that this takes.
        folder.remove(files.RESERVE)
        folder.write(files.KILL, data)


def locate(system, keys: dict) -> dict:
    """On which nodes attempts run: ``{key: {"nodes"} or {"error"}}``."""
    results: dict = {}
    for key, said in keys.items():
        try:
            results[key] = {"nodes": list(system.locate(key, said.get("native_id") or ""))}
        except ProxyError as error:
            results[key] = {"error": error.as_json()}
    return results
