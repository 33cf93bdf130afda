"""Large values: one file each, in shared memory, or on disk where that is full.

Written once with plain writes (which neither zero nor map the pages first), read by private mappings: what a task does
to an array that it only reads stays its own. What a task is to change is read into its own memory. A file lives as long
as somebody in the program's processes holds its `Shared`; then its memory serves again (see `spare`), unless somebody
has mapped it still.
"""

import errno
import itertools
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from isthmus.tasks.engines.processes.mappings import Mappings
from isthmus.tasks.engines.processes.spare import Spare

SHM = "/dev/shm"
PREFIX = "isthmus-tasks-"
_ALIGN = 64

_MAPPED = 128 << 20  # bytes of files that a worker keeps mapped, at most
_SPARE = 256 << 20  # bytes that are kept for further values, at most; and no more than an eighth of the limit

Place = tuple[int, int]  # where a buffer begins in its file, and how long it is


class Store:
    """A folder in shared memory and one on disk; each process writes under names of its own."""

    def __init__(self, memory: str, disk: str, limit: int, *, writer: str = "program", keeps: bool = False) -> None:
        """`writer`: a word for this process that no other has had (as a process's number may).

        `keeps`: what is removed here may serve again. Of one process alone, which knows all who hold it.
        """
        self.memory = memory
        self.disk = disk
        self.limit = limit
        self.mappings = None if keeps else Mappings(min(_MAPPED, limit // 32))  # a worker's
        self._keeps = keeps
        self._spare = Spare(os.path.join(memory, "spare"), min(_SPARE, limit // 8))
        self._writer = writer
        self._names = itertools.count()

    @classmethod
    def create(cls, limit: int = 0) -> "Store":
        """A new store. `limit`: bytes that may stand in shared memory before values go to disk; 0: half of it."""
        sweep()
        name = f"{PREFIX}{os.getpid()}-{_born(os.getpid())}-{os.urandom(3).hex()}"
        base = SHM if os.path.isdir(SHM) and os.access(SHM, os.W_OK) else tempfile.gettempdir()
        memory = os.path.join(base, name)
        os.mkdir(memory, 0o700)
        if not limit:
            stat = os.statvfs(base)
            limit = stat.f_blocks * stat.f_frsize // 2
        return cls(memory, os.path.join(tempfile.gettempdir(), name), limit, keeps=True)

    def of_worker(self, number: int) -> "Store":
        """The same store, in the worker with this number."""
        return Store(self.memory, self.disk, self.limit, writer=str(number))

    def write(self, buffers: Sequence[Any]) -> tuple[str, tuple[Place, ...]]:
        """Keep these buffers (bytes-like, contiguous). Returns a name, and where each begins and how long it is."""
        places: list[Place] = []
        end = 0
        for buffer in buffers:
            size = memoryview(buffer).nbytes
            places.append((end, size))
            end += -(-size // _ALIGN) * _ALIGN
        return self._place(buffers, tuple(places), end)[:2]

    def write_at(self, buffer: Any, offset: int) -> tuple[str, tuple[Place, ...], bool]:
        """As `write`, of one buffer that begins at `offset`. Also says whether it stands in memory."""
        size = memoryview(buffer).nbytes
        return self._place([buffer], ((offset, size),), offset + size)

    def open(self, name: str, places: Sequence[Place]) -> list[memoryview]:
        """The buffers, mapped: changes to them stay in this process. The mapping lives as long as what uses it."""
        mapping = self.mappings.find(name) if self.mappings is not None else None
        if mapping is None:
            file = self._file(name)
            try:
                mapping = mmap.mmap(file, places[-1][0] + places[-1][1], access=mmap.ACCESS_COPY)
                if self.mappings is not None:
                    self.mappings.add(name, mapping)
                else:
                    os.fchmod(file, 0o400)  # as `pin`: how long the program holds on to what it has is not watched
            finally:
                os.close(file)
        view = memoryview(mapping)
        return [view[begin : begin + length] for begin, length in places]

    def read(self, name: str, places: Sequence[Place]) -> list[memoryview]:
        """The buffers, in memory of this process's own, as large allocations are made: its pages are there already."""
        size = places[-1][0] + places[-1][1]
        view = _unset(size)
        file = self._file(name)
        try:
            done = 0
            while done < size:
                got = os.preadv(file, [view[done:]], done)
                if not got:
                    raise OSError(errno.EIO, "The file is shorter than it was said to be", name)
                done += got
        finally:
            os.close(file)
        return [view[begin : begin + length] for begin, length in places]

    def pin(self, name: str) -> None:
        """Its memory is never used again: somebody goes on using a mapping of it."""
        with suppress(OSError):
            os.chmod(os.path.join(self.memory, name), 0o400)

    def remove(self, name: str) -> None:
        """Nobody needs it any more. What has mapped it keeps its pages."""
        if self._keeps and self._spare.keep(os.path.join(self.memory, name)):
            return
        for folder in (self.memory, self.disk):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))
                return

    def destroy(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.memory, ignore_errors=True)
        shutil.rmtree(self.disk, ignore_errors=True)

    def _place(
        self, buffers: Sequence[Any], places: tuple[Place, ...], end: int
    ) -> tuple[str, tuple[Place, ...], bool]:
        """Write a file of `end` bytes, in memory if it fits."""
        name = self._name()
        path = os.path.join(self.memory, name)
        taken = self._spare.take(end, path)
        if taken or self._fits(end):
            try:
                self._write(path, buffers, places, 0 if taken else os.O_EXCL)
                return name, places, self.memory.startswith(SHM)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        os.makedirs(self.disk, 0o700, exist_ok=True)
        self._write(os.path.join(self.disk, name), buffers, places, os.O_EXCL)
        return name, places, False

    def _name(self) -> str:
        return f"{self._writer}-{next(self._names)}"

    def _file(self, name: str) -> int:
        try:
            return os.open(os.path.join(self.memory, name), os.O_RDONLY)
        except FileNotFoundError:
            return os.open(os.path.join(self.disk, name), os.O_RDONLY)

    def _fits(self, size: int) -> bool:
        stat = os.statvfs(self.memory)
        free = stat.f_bavail * stat.f_frsize
        used = stat.f_blocks * stat.f_frsize - free
        return size < free and used + size <= self.limit

    def _write(self, path: str, buffers: Sequence[Any], places: Sequence[Place], how: int) -> None:
        file = os.open(path, os.O_CREAT | os.O_WRONLY | how, 0o600)
        try:
            for buffer, (begin, _) in zip(buffers, places, strict=True):
                view = memoryview(buffer).cast("B")
                while view:
                    written = os.pwrite(file, view, begin)
                    view, begin = view[written:], begin + written
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)


def _unset(size: int) -> memoryview:
    """Memory with whatever stands in it; of zeros where only Python gives it."""
    if "numpy" not in sys.modules:
        return memoryview(bytearray(size))
    import numpy as np

    return np.empty(size, dtype=np.uint8).data


def _born(pid: int) -> str:
    """When a process began, in ticks since boot: with its number it names a process for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return "0"


def sweep() -> None:
    """Remove the stores of programs that have gone without removing them: killed together with their nursery."""
    for base in {SHM, tempfile.gettempdir()}:
        if not os.path.isdir(base):
            continue
        for entry in os.listdir(base):
            if not entry.startswith(PREFIX):
                continue
            pid, _, rest = entry[len(PREFIX) :].partition("-")
            if pid.isdigit() and _born(int(pid)) != rest.partition("-")[0]:
                shutil.rmtree(os.path.join(base, entry), ignore_errors=True)
