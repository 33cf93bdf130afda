"""Removing job folders and checkpoints, whatever the jobs left in them."""

import os
import shutil
import subprocess
import uuid

from isthmus.proxy import arrays
from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import from_os
from isthmus.runner import claim
from isthmus.runner import folder as files
from isthmus.runner.standing import has_finished


def clean(workdir, keys: list, checkpoints: list) -> dict:
    """Remove the folders of ended attempts and the checkpoints of jobs; silent if gone.

    Raises ProxyError ``conflict`` for an attempt that still runs on this machine; the others are removed all the same.
    """
    tmp = os.path.join(workdir.path, files.TMP)
    running, over = [], []
    for key in keys:
        folder = workdir.job(key)
        if claim.runner_state(folder) == "alive" and not has_finished(folder):
            running.append(key)
        else:
            over.append(folder)
    arrays.forget(workdir, over)
    for folder in over:
        remove_tree(folder.path, tmp)
    for job in checkpoints:
        remove_tree(os.path.join(workdir.path, files.CHECKPOINTS, str(int(job))), tmp)
    if running:
        raise ProxyError("conflict", "Still running, and not removed: %s." % ", ".join(running))
    return {}


def remove_tree(path: str, tmp: str) -> None:
    """Remove what lies at a path at once, then its content; silent if gone. Raises ProxyError."""
    if not os.path.lexists(path):
        return
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            return
        os.makedirs(tmp, mode=0o700, exist_ok=True)
        # Renamed first: nobody sees half a folder, whenever this is cut.
        aside = os.path.join(tmp, "removed-" + uuid.uuid4().hex)
        os.rename(path, aside)
        shutil.rmtree(aside, onerror=_insist)
        if os.path.exists(aside):
            _remove_as_container_root(aside)
        if os.path.exists(aside):
            raise ProxyError("forbidden", "%s can't be removed: some of it belongs to another user." % path)
    except OSError as error:
        raise from_os(error, "Removing %s" % path)


def _insist(function, path, _):
    """Make a folder that its owner may not write to removable, and go on."""
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass  # what is left is seen, and told of, at the end


def _remove_as_container_root(path):
    """Remove what users of a rootless container left, whose numbers this user owns but can't act as."""
    podman = shutil.which("podman")
    if podman and os.getuid() != 0:
        subprocess.call(
            [podman, "unshare", "rm", "-rf", path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
