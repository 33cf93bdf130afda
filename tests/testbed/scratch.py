"""The folder in which the test bed lives: one for each test process, gone with it."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from pathlib import Path

from tests.testbed.daemon import ALIVE, run, undo
from tests.testbed.errors import ServerError, program

_numbers = itertools.count(1)


@functools.cache
def root() -> Path:
    """The test bed's own folder: short (socket paths must stay under 108 bytes), readable by every user.

    It is a shared mount of its own, so that a mount made in it (a small disk, say) also appears in the mount
    namespaces of servers that started before.
    """
    if os.geteuid() != 0:
        raise ServerError(
            "the system tests start real servers for several users, which needs root. "
            "Run them as root, or run what needs none: make test-quick."
        )
    # Not the TMPDIR of whoever runs the tests: other users must reach it, by a short path.
    folder = Path(tempfile.mkdtemp(prefix="isthmus-", dir="/tmp"))
    folder.chmod(0o755)
    path = str(folder)
    lock = folder / ALIVE
    lock.touch()
    undo(
        "scratch",
        [program("flock"), "--exclusive", "--timeout", "60", str(lock), program("true")],
        [program("umount"), "--recursive", "--lazy", path],
        [program("rm"), "-rf", "--one-file-system", path],
    )
    run([program("mount"), "--bind", path, path], what="making the test bed's folder a mount")
    run([program("mount"), "--make-shared", path], what="sharing the test bed's folder")
    return folder


def folder(name: str) -> Path:
    """A new empty folder in the test bed's own, named after a server."""
    path = root() / f"{name}{next(_numbers)}"
    path.mkdir()
    path.chmod(0o755)
    return path
