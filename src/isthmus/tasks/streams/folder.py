"""A watched folder: the files that were written into it, each once, when whoever wrote it has closed it.

By inotify (man 7 inotify): IN_CLOSE_WRITE and IN_MOVED_TO. On network file systems, where the kernel hears nothing of
what other machines write, the folder is listed every other second, and a file counts when it has stopped changing.
"""

import ctypes
import os
import pickle
import select
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

_CLOSE_WRITE, _MOVED_TO, _Q_OVERFLOW = 0x8, 0x80, 0x4000
_EVENT = struct.Struct("iIII")
_NETWORKS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "9p", "panfs", "wekafs")
_LIST_S = 2.0

_libc = ctypes.CDLL(None, use_errno=True)


class Folder:
    """Implements `Source`. `news` is called from a thread when there may be files."""

    def __init__(self, folder: str, news: Callable[[], None], *, existing: bool = False) -> None:
        os.makedirs(folder, exist_ok=True)
        self._folder = folder
        self._news = news
        self._lock = threading.Lock()
        self._given: set[tuple[str, int, int]] = set()  # name, inode, time of change in ns
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._lists = _on_a_network(folder)
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if (
            self._inotify < 0
            or _libc.inotify_add_watch(self._inotify, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO) < 0
        ):
            self._lists = True  # no watch is left for us: list instead
        self._first: list[str] = []
        for name in sorted(os.listdir(folder)):
            if existing:
                self._first.append(name)
            else:
                self._once(name)
        threading.Thread(target=self._listen, name="isthmus-folder", daemon=True).start()

    def taken(self) -> list[bytes]:
        with self._lock:
            names, self._first = self._first, []
            names += self._heard()
            if self._lists:
                names += self._listed()
            return [pickle.dumps(os.path.join(self._folder, name)) for name in names if self._once(name)]

    def close(self) -> None:
        os.write(self._woken, b"!")

    def _once(self, name: str) -> bool:
        """Whether this is a file, and was not given as it is now."""
        path = os.path.join(self._folder, name)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return False
        key = (name, found.st_ino, found.st_mtime_ns)
        if name.startswith(".") or key in self._given or not os.path.isfile(path):
            return False
        self._given.add(key)
        return True

    def _heard(self) -> list[str]:
        names: list[str] = []
        while self._inotify >= 0:
            try:
                data = os.read(self._inotify, 64 * 1024)
            except (BlockingIOError, OSError):
                break
            at = 0
            while at < len(data):
                _, mask, _, size = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                if mask & _Q_OVERFLOW:  # more than the kernel keeps: what is there now, then
                    names += sorted(os.listdir(self._folder))
                elif size:
                    names.append(os.fsdecode(data[at : at + size].rstrip(b"\0")))
                at += size
        return names

    def _listed(self) -> list[str]:
        """Files that are as they were at the last look."""
        now: dict[str, tuple[int, int, int]] = {}
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                found = entry.stat()
                now[entry.name] = (found.st_ino, found.st_size, found.st_mtime_ns)
        still = sorted(name for name, state in now.items() if self._seen.get(name) == state)
        self._seen = now
        return still

    def _listen(self) -> None:
        watched = [self._wake, *([self._inotify] if self._inotify >= 0 else [])]
        while True:
            ready, _, _ = select.select(watched, [], [], _LIST_S if self._lists else None)
            if self._wake in ready:
                break
            with self._lock:
                waits = len(self._first)
                names = self._heard()
                self._first += names
            if names or self._lists or waits:
                self._news()
        with self._lock:
            for descriptor in (self._wake, self._woken, self._inotify):
                if descriptor >= 0:
                    os.close(descriptor)
            self._inotify = -1


def _on_a_network(folder: str) -> bool:
    """Whether other machines may write here unheard."""
    best, kind = "", ""
    path = os.path.realpath(folder)
    try:
        with open("/proc/self/mounts") as mounts:
            for line in mounts:
                words = line.split()
                place = words[1].replace("\\040", " ")
                if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= len(best):
                    best, kind = place, words[2]
    except OSError:
        return False
    return kind in _NETWORKS or kind.startswith("fuse.")
