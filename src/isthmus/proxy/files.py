"""Looking at files of the work folder: logs by offset, what lies at a path, what a folder holds."""

import base64
import os
import stat as modes

from isthmus.proxy.errors import ProxyError
from isthmus.runner import folder as names

LOGS = (names.LOG, names.BATCH_LOG)
MOST_BYTES = 4 * 1024 * 1024
MOST_ENTRIES = 100 * 1000


def logs(workdir, key: str, offset: int, limit: int, name: str) -> dict:
    """A piece of an attempt's log. A negative offset counts from the end; a log that is not there is empty."""
    if name not in LOGS:
        raise ProxyError("bad-request", "There is no log %r; there is: %s." % (name, ", ".join(LOGS)))
    try:
        with open(workdir.job(key).at(name), "rb") as log:
            size = os.fstat(log.fileno()).st_size
            begin = max(0, size + offset) if offset < 0 else min(offset, size)
            log.seek(begin)
            data = log.read(max(0, min(limit, MOST_BYTES, size - begin)))
    except FileNotFoundError:
        size = begin = 0
        data = b""
    return {"offset": begin, "data": base64.b64encode(data).decode("ascii"), "size": size}


def stat(workdir, paths: list) -> dict:
    """``{path: {"size", "kind"} or null}``. Entries of the cache are their digest, so it is told too."""
    found: dict = {}
    for path in paths:
        absolute = workdir.inside(path)
        try:
            status = os.lstat(absolute)
            if modes.S_ISLNK(status.st_mode):
                status = os.stat(absolute)  # what an output or an input that is a link leads to
        except (FileNotFoundError, NotADirectoryError):
            found[path] = None
            continue
        found[path] = {"size": status.st_size, "kind": kind(status)}
        parent, name = os.path.split(absolute)
        if parent == os.path.join(workdir.path, names.CACHE) and len(name) == 64:
            found[path]["digest"] = name
    return found


def entries(workdir, path: str, depth: int) -> list:
    """What lies in a folder, down to ``depth`` levels, sorted by path. Links are not followed."""
    top = workdir.inside(path)
    if os.path.islink(top):
        top = workdir.inside(os.path.realpath(top))
    if not os.path.isdir(top):
        raise ProxyError("not-found", "There is no folder %s at the site." % top)
    found: list = []
    waiting = [("", 1)]
    while waiting:
        below, level = waiting.pop()
        for entry in os.scandir(os.path.join(top, below)):
            status = entry.stat(follow_symlinks=False)
            name = os.path.join(below, entry.name)
            found.append({"path": name, "size": status.st_size, "kind": kind(status), "mtime": status.st_mtime})
            if len(found) > MOST_ENTRIES:
                raise ProxyError(
                    "bad-request", "%s holds more than %d entries: ask for less depth." % (path, MOST_ENTRIES)
                )
            if level < depth and modes.S_ISDIR(status.st_mode):
                waiting.append((name, level + 1))
    found.sort(key=lambda entry: entry["path"])
    return found


def kind(status) -> str:
    """file, folder, link or other."""
    for test, name in ((modes.S_ISREG, "file"), (modes.S_ISDIR, "folder"), (modes.S_ISLNK, "link")):
        if test(status.st_mode):
            return name
    return "other"
