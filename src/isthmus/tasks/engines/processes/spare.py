"""Files of the store that nobody needs any more, kept for whoever writes one of the same size next.

A fresh page of shared memory costs the kernel several times what it costs to copy into it, and programs with arrays
make arrays of the same size again and again. The program, which knows when a value's last holder has gone, puts its
file here; any process takes it by renaming it. A file that somebody has mapped still (see `Store.pin`) is never kept.
"""

import os
import stat
import threading
from collections import deque
from contextlib import suppress

# A smaller one costs no less to take than to make.
SMALLEST = 64 * 1024


class Spare:
    """A folder with one folder for each size. Only one process, the program, may `keep`."""

    def __init__(self, folder: str, most: int) -> None:
        """At `folder`, which is made when it is needed; of `most` bytes."""
        self._folder = folder
        self._most = most
        self._kept: deque[tuple[int, str]] = deque()  # with those that were taken since
        self._bytes = 0
        self._lock = threading.RLock()  # files are kept by destructors, which run anywhere

    def keep(self, path: str) -> bool:
        """Keep the file at `path`. False where it is not one to keep: it stays where it is."""
        with suppress(OSError):  # it is on disk, or the whole store has gone
            return self._keep(path)
        return False

    def take(self, size: int, path: str) -> bool:
        """Have a file of this size at `path`, whatever stands in it. False where there is none."""
        if size < SMALLEST:
            return False
        folder = self._of(size)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return False
        for name in names:
            with suppress(FileNotFoundError):  # another process has it
                os.rename(os.path.join(folder, name), path)
                return True
        return False

    def _keep(self, path: str) -> bool:
        found = os.stat(path)
        size = found.st_size
        if not SMALLEST <= size <= self._most or not found.st_mode & stat.S_IWUSR:
            return False
        target = os.path.join(self._of(size), os.path.basename(path))
        with self._lock:
            try:
                os.rename(path, target)
            except FileNotFoundError:
                os.makedirs(self._of(size), 0o700, exist_ok=True)
                os.rename(path, target)
            self._kept.append((size, target))
            self._bytes += size
            while self._bytes > self._most:
                size, oldest = self._kept.popleft()
                self._bytes -= size
                with suppress(OSError):
                    os.unlink(oldest)
                with suppress(OSError):
                    os.rmdir(os.path.dirname(oldest))  # if it was the last of its size
        return True

    def _of(self, size: int) -> str:
        return os.path.join(self._folder, str(size))
