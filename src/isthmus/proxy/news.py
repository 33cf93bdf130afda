"""News of attempts: what their reports files hold beyond what the control plane has."""

import os

from isthmus.runner import claim
from isthmus.runner import folder as files

MOST_OF_ONE = 256 * 1024  # bytes of reports of one attempt in one reply
MOST_OF_ALL = 8 * 1024 * 1024


def reports_from(folder: files.Folder, offset: int, limit: int = MOST_OF_ONE) -> tuple:
    """``(whole lines from offset on, size of the file)``; more than ``limit`` bytes only if one line is longer."""
    try:
        fd = os.open(folder.at(files.REPORTS), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0
    try:
        size = os.fstat(fd).st_size
        if size <= offset:
            return b"", size
        data = os.pread(fd, min(limit, size - offset), offset)
        while b"\n" not in data and len(data) < size - offset:
            data += os.pread(fd, limit, offset + len(data))
        return data[: data.rfind(b"\n") + 1], size
    finally:
        os.close(fd)


def claimed(folder: files.Folder) -> bool:
    """Whether a runner has the attempt (and not a fence)."""
    return folder.has(files.CLAIM) and not claim.fenced(folder)


def seen(folder: files.Folder, offset: int, reports: bytes) -> dict:
    """A ``Seen`` that says nothing of the batch system yet."""
    return {
        "native_state": "",
        "state": "",
        "reason": "",
        "message": "",
        "exit_code": None,
        "signal": None,
        "nodes": [],
        "from": offset,
        "reports": reports.decode("utf-8", "replace"),
        "claimed": bool(reports) or claimed(folder),
    }
