"""A small disk that can be filled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from tests.testbed import scratch
from tests.testbed.daemon import Daemon, run, undo
from tests.testbed.errors import program

FILLER = ".filler"


class SmallDisk:
    """A file system of `size_mb` megabytes at `path`, that every user may write to.

    A context manager. It also appears on the nodes of clusters that started before it.
    """

    def __init__(self, size_mb: int = 16) -> None:
        self.size_mb = size_mb
        self.path = Path()
        self._mount: Daemon | None = None

    def __enter__(self) -> SmallDisk:
        self.path = scratch.folder("disk")
        self._mount = undo("disk", [program("umount"), "--lazy", str(self.path)])
        run(
            [program("mount"), "-t", "tmpfs", "-o", f"size={self.size_mb}m,mode=1777", "testbed", str(self.path)],
            what="mounting a small disk",
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._mount is not None:
            self._mount.close()
            self._mount = None

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Fills the disk but for `leave_bytes`, in whole pages: with 0, the next byte of anybody fails with ENOSPC."""
        with open(self.path / FILLER, "ab", buffering=0) as filler, contextlib.suppress(OSError):
            while self.free_bytes > leave_bytes:
                filler.write(b"\0" * min(1 << 20, self.free_bytes - leave_bytes))

    def make_room(self) -> None:
        """Takes away what `fill` has put there."""
        (self.path / FILLER).unlink(missing_ok=True)
