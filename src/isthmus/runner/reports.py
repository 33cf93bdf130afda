"""The reports of an attempt: JSON lines in its folder, appended by its runner alone."""

import errno
import os
import time

from isthmus.runner import folder as files

RESERVE_BYTES = 64 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT)


class Reports(object):
    """Appends reports; tells whoever listens (the keeper, the push) how far they reach."""

    def __init__(self, folder: files.Folder) -> None:
        self.folder = folder
        self.listeners: list = []
        self.full = False  # the disk has been full: room was refused once
        self.lost = False  # a report of the command's is missing, or may be after a crash
        self._fd = -1
        self.size = 0

    def open(self) -> None:
        """Open the file, after cutting off what a full disk or a crash left half-written at its end."""
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(self.folder.at(files.REPORTS), flags, 0o600)
        self.size = os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def add(self, kind: str, durable: bool = False, **fields) -> bool:
        """Append one report. ``durable``: it survives a crash of the machine once this returns.

        False if the disk is full and the reserve is used up: then nothing of it was written.
        """
        report = {"kind": kind, "t": round(time.time(), 3)}
        report.update(fields)
        line = files.dump(report) + b"\n"
        if not self._append(line):
            self.lost = self.lost or kind != "usage"
            return False
        self.size += len(line)
        # Readers learn of it while the disk still works: what they take is no less true if the power fails now.
        for listener in self.listeners:
            listener()
        if durable:
            try:
                os.fsync(self._fd)
            except OSError as error:
                if error.errno in FULL:
                    self.full = self.lost = True
        return True

    def reserve(self) -> None:
        """Keep some space, to be given back when the disk is full."""
        path = self.folder.at(files.RESERVE)
        try:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError as error:
            self.full = self.full or error.errno in FULL
            os.unlink(path)
        finally:
            os.close(fd)

    def release(self) -> bool:
        """Give the reserve back; whether there was one."""
        try:
            os.unlink(self.folder.at(files.RESERVE))
        except OSError:
            return False
        return True

    def _append(self, line):
        for _ in (1, 2):
            try:
                done = os.write(self._fd, line)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                done = 0
            if done == len(line):
                return True
            self.full = True
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                pass
            if not self.release():
                return False
        return False
