"""The programs ``put`` and ``get``: bytes to and from the work folder, resumable, verified, one call each."""

import fcntl
import hashlib
import json
import os
import stat
import sys

from isthmus.proxy.errors import ProxyError
from isthmus.proxy.server import options_of, private_stdout
from isthmus.proxy.workdir import Workdir, from_os
from isthmus.runner import canonical
from isthmus.runner import folder as files

PIECE = 1 << 20
PART = ".part"


def main(name: str, arguments: list) -> int:
    """The program ``put`` or ``get``; 0 only if all was done."""
    given = options_of(arguments)
    out = private_stdout()
    token = given.get("--token", "").encode("ascii")
    workdir = Workdir(given.get("--workdir", ""))
    try:
        try:
            path = workdir.inside(given["--path"])
            offset = int(given.get("--offset") or 0)
            if name == "get":
                return get(workdir, path, offset, out, token)
            workdir.make()
            return put(given, path, offset, out, token)
        except OSError as error:
            raise from_os(error, "%s %s" % (name, given.get("--path")))
        except canonical.NotCanonical as error:
            raise ProxyError("digest", error.message)
        except (KeyError, ValueError) as error:
            raise ProxyError("bad-request", "%s: %s: %s" % (name, type(error).__name__, error))
    except ProxyError as error:
        _say(out, token, {"error": error.as_json()})
        return 1
    except BrokenPipeError:
        return 1


def _say(out, token, value):
    files.write_all(out, b"\n" + token + json.dumps(value).encode("utf-8") + token + b"\n")


# ---- put


def put(given: dict, path: str, offset: int, out: int, token: bytes) -> int:
    """Take the bytes from ``offset`` on into ``<path>.part``; with the last one verify and rename it."""
    size = int(given["--size"])
    digest = given.get("--digest") or ""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(os.open(path + PART, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0) as part:
        try:
            fcntl.lockf(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ProxyError("conflict", "%s is being written by another transfer." % path, transient=True)
        there = os.fstat(part.fileno()).st_size
        if not 0 <= offset <= min(there, size):
            raise ProxyError(
                "conflict", "%s has %d bytes: it can't go on at %d." % (path + PART, there, offset), "", True
            )
        os.ftruncate(part.fileno(), offset)
        known = _known(part, offset)
        done = _take(part, offset, size, known)
        os.fsync(part.fileno())
        if done == size:
            _finish(part, path, known.hexdigest(), digest, "--unpack" in given)
        _say(out, token, {"ok": {"size": done, "complete": done == size}})
    return 0 if done == size else 1


def _known(part, offset):
    """The hash of what is there already."""
    known = hashlib.sha256()
    left = offset
    while left:
        piece = part.read(min(PIECE, left))
        if not piece:
            raise ProxyError("io", "The file became shorter while it was read.")
        known.update(piece)
        left -= len(piece)
    return known


def _take(part, done, size, known):
    """Read from stdin up to ``size`` bytes; how many there are when it ends."""
    part.seek(done)
    while done < size:
        piece = os.read(0, min(PIECE, size - done))
        if not piece:
            break
        files.write_all(part.fileno(), piece)
        known.update(piece)
        done += len(piece)
    return done


def _finish(part, path, found, digest, unpack):
    if digest and found != digest:
        os.unlink(path + PART)
        raise ProxyError(
            "digest",
            "%s came with the sha256 %s instead of %s: it was removed." % (path, found, digest),
            "Send it again.",
            True,
        )
    if unpack:
        _unpack(part, path)
        return
    if os.path.basename(os.path.dirname(path)) == files.CACHE:
        os.fchmod(part.fileno(), 0o444)  # jobs read it through links
    os.rename(path + PART, path)
    files.sync_folder(os.path.dirname(path))


def _unpack(part, path):
    from isthmus.proxy.cleaning import remove_tree

    making = path + ".making"
    tmp = os.path.join(os.path.dirname(path), ".removed")
    remove_tree(making, tmp)
    part.seek(0)
    try:
        canonical.unpack(part, making)
        if os.path.isdir(path):
            remove_tree(path, tmp)
        os.rename(making, path)
    except BaseException:
        remove_tree(making, tmp)
        raise
    finally:
        if os.path.isdir(tmp):
            os.rmdir(tmp)
    os.unlink(path + PART)
    files.sync_folder(os.path.dirname(path))


# ---- get


def get(workdir, path: str, offset: int, out: int, token: bytes) -> int:
    """Say what is there, then give its bytes from ``offset`` on: of a folder, its canonical stream."""
    real = os.path.realpath(path)
    adopted = os.path.dirname(path) == os.path.join(workdir.path, files.CACHE)
    if real != path and not adopted:
        # A link in a work folder: what it leads to must lie in the site's folder too.
        path = Workdir(os.path.realpath(workdir.path)).inside(real)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        pieces = canonical.stream(path, offset)
        _say(out, token, {"ok": {"size": None, "kind": "folder"}})
        for piece in pieces:
            files.write_all(out, piece)
        return 0
    if not stat.S_ISREG(status.st_mode):
        raise ProxyError("bad-request", "%s is neither a file nor a folder." % path)
    if offset > status.st_size:
        raise ProxyError("bad-request", "%s has only %d bytes." % (path, status.st_size))
    with open(path, "rb", buffering=0) as source:
        _say(out, token, {"ok": {"size": status.st_size, "kind": "file"}})
        return 0 if _give(source, offset, status.st_size, out) else 1


def _give(source, offset, size, out):
    """Send the bytes without reading them here where the kernel can; whether all were there."""
    while offset < size:
        try:
            sent = os.sendfile(out, source.fileno(), offset, min(64 * PIECE, size - offset))
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            return _copy(source, offset, size, out)
        if sent == 0:
            sys.stderr.write("isthmus get: the file became shorter while it was read\n")
            return False
        offset += sent
    return True


def _copy(source, offset, size, out):
    source.seek(offset)
    while offset < size:
        piece = source.read(min(PIECE, size - offset))
        if not piece:
            return False
        files.write_all(out, piece)
        offset += len(piece)
    return True
