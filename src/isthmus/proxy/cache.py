"""The site's cache: images and datasets by digest, complete and verified. What is still being made has a dot or a
suffix in its name and is not told of."""

import fcntl
import json
import os
import re
import stat

from isthmus.proxy.cleaning import remove_tree
from isthmus.proxy.errors import ProxyError
from isthmus.runner import folder as files

NAME = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,199}$")
UNFINISHED = (".part", ".making", ".tmp", ".new")


def answer(workdir, request: dict) -> dict:
    """The verb ``cache``: ``remove`` first, then ``have`` (these count as used now) or ``list``."""
    place = os.path.join(workdir.path, files.CACHE)
    for name in request.get("remove") or []:
        _remove(workdir, place, _checked(name))
    found = {}
    if request.get("list"):
        names = [name for name in os.listdir(place) if NAME.match(name) and not name.endswith(UNFINISHED)]
    else:
        names = [_checked(name) for name in request.get("have") or []]
    for name in names:
        told = _entry(place, name)
        if told is None:
            continue
        if not request.get("list"):
            os.utime(os.path.join(place, name), follow_symlinks=False)
        found[name] = told
    return {"entries": found, "free_bytes": workdir.free_bytes()}


def _checked(name):
    if not isinstance(name, str) or not NAME.match(name):
        raise ProxyError("bad-request", "%r is not a name in the cache." % (name,))
    return name


def _entry(place, name):
    path = os.path.join(place, name)
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    size = status.st_size
    if stat.S_ISDIR(status.st_mode):
        size = _folder_size(place, name, status)
    return {"size": size, "used": status.st_mtime}


def _folder_size(place, name, status):
    """What a folder takes. Entries never change, so it is measured once and kept beside."""
    kept = os.path.join(place, ".%s.size" % name)
    try:
        with open(kept) as stream:
            known = json.load(stream)
        if known.get("inode") == status.st_ino:
            return known["size"]
    except (OSError, ValueError, KeyError):
        pass
    size = 0
    for parent, _, names in os.walk(os.path.join(place, name)):
        size += sum(os.lstat(os.path.join(parent, entry)).st_size for entry in names)
    try:
        files.write_whole(kept, files.dump({"inode": status.st_ino, "size": size}))
    except OSError:
        pass  # a full disk: it is measured again the next time
    return size


def _remove(workdir, place, name):
    """Remove an entry with all that belongs to it; silent if gone. Raises ProxyError while it is being made."""
    lock = os.path.join(place, ".%s.lock" % name)
    if os.path.exists(lock) and not _free(lock):
        raise ProxyError("conflict", "The cache entry %s is being made just now." % name, transient=True)
    for suffix in ("",) + UNFINISHED:
        remove_tree(os.path.join(place, name + suffix), os.path.join(workdir.path, files.TMP))
    for suffix in ("answer", "size"):
        remove_tree(os.path.join(place, ".%s.%s" % (name, suffix)), os.path.join(workdir.path, files.TMP))


def _free(lock):
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
