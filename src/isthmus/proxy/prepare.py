"""Preparations: entries of the cache that are made at the site itself, each once however many ask for it.

A request is a JSON object with ``op``, and ``to``: the entry's name in WORKDIR/cache. The answer is an object too.

``link``     ``source``, ``digest`` and ``size`` of what it holds, ``unpack`` (it is a folder's canonical stream). Puts
             a file or folder of this machine into the cache: a file by a reflink, by a hard link where nobody may write
             to it, else by a copy, which is verified as folders are.
``layers``   ``source``. Unpacks an OCI or docker archive into a root folder. Answers ``{"env": {...}}`` of the image.
``run``      ``commands`` (argument vectors; in each word ``{part}`` stands for the path to write to, ``{workdir}``
             for the work folder), ``setup`` (shell lines before), ``env``. What the commands leave at ``{part}``
             becomes the entry; if they leave nothing there, what the last one printed does. Answers ``{"output"}``.
``adopt``    ``path`` (absolute), ``digest`` or "". No ``to``. Measures data that lies here already and puts a symbolic
             link to it into the cache, under its digest. Measured again only when it changed. Answers ``{"digest",
             "size", "kind"}``; refuses with code ``digest`` what is not as announced.

Paths in ``source`` may be relative to WORKDIR. Who asks while another makes the same entry waits for it. The lock is
held by the commands started here too: so nobody takes away what an orphan still writes.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

from isthmus.proxy.errors import ProxyError
from isthmus.runner import canonical

NAME = re.compile(r"^[0-9a-z][0-9a-z._-]{0,150}$")
CHUNK = 1 << 20
COPY = 64 << 20
FICLONE = 0x40049409  # ioctl_ficlone(2)
TAIL = 4000  # bytes of a failed command's words


def prepare(workdir, request):
    # type: (str, dict) -> dict
    """Do what ``request`` says, once; the answer. Raises ProxyError."""
    op = request.get("op")
    try:
        os.makedirs(os.path.join(workdir, "cache"), mode=0o700, exist_ok=True)
        if op == "adopt":
            return _adopt(workdir, request)
        if op not in _OPS:
            raise ProxyError("bad-request", "There is no preparation %r." % (op,))
        name = request.get("to")
        if not isinstance(name, str) or not NAME.match(name):
            raise ProxyError("bad-request", "%r is not a name in the cache." % (name,))
        return _once(workdir, name, _OPS[op], request)
    except canonical.NotCanonical as error:
        raise ProxyError("digest", error.message)
    except OSError as error:
        raise _os_error(error)


def _once(workdir, name, make, request):
    target = os.path.join(workdir, "cache", name)
    answer = os.path.join(workdir, "cache", ".%s.answer" % name)
    with _Lock(workdir, name) as lock:
        if os.path.lexists(target):
            return _read_json(answer)
        part = target + ".making"
        _remove(part)
        try:
            said = make(workdir, part, request, lock)
            _write_json(answer, said)
            os.rename(part, target)
        except BaseException:
            _remove(part)
            raise
        _flush_folder(os.path.dirname(target))
        return said


# ---- link


def _link(workdir, part, request, lock):
    source = _source(workdir, request)
    if os.path.isdir(source):
        found, size = canonical.unpack(_Pieces(canonical.stream(source)), part)
        _compare(source, found, size, request)
        return {"how": "copy"}
    if request.get("unpack"):
        with open(source, "rb", buffering=0) as file:
            found, size = canonical.unpack(file, part)
        _compare(source, found, size, request)
        return {"how": "unpacked"}
    if os.stat(source).st_size != request.get("size"):
        raise ProxyError("digest", "%s has %d bytes, not %s." % (source, os.stat(source).st_size, request.get("size")))
    for how, way in (("reflink", _reflink), ("hard link", _hard_link)):
        if way(source, part):
            return {"how": how}
    found, size = _copy(source, part)
    _compare(source, found, size, request)
    return {"how": "copy"}


class _Pieces(object):
    """Pieces of bytes to be read as a file."""

    def __init__(self, pieces):
        self._pieces = pieces
        self._rest = b""

    def read(self, size):
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _reflink(source, part):
    with open(source, "rb", buffering=0) as old, open(part, "xb", buffering=0) as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            os.unlink(part)
            return False
        os.fchmod(new.fileno(), 0o444)
        os.fsync(new.fileno())
    return True


def _hard_link(source, part):
    # A hard link is the same file: only where writing through it fails may a job have it. Root may write to all.
    if os.geteuid() == 0 or os.stat(source).st_mode & 0o222:
        return False
    try:
        os.link(source, part)
    except OSError:
        return False
    return True


def _copy(source, part):
    """Copy within the kernel, then read the copy back: that is quicker, and checks what was written."""
    with open(source, "rb", buffering=0) as old, open(part, "x+b", buffering=0) as new:
        size = 0
        while True:
            try:
                count = os.sendfile(new.fileno(), old.fileno(), size, COPY)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                piece = os.pread(old.fileno(), CHUNK, size)  # a file system that can't
                count = new.write(piece) if piece else 0
            if not count:
                break
            size += count
        os.fchmod(new.fileno(), 0o444)
        os.fsync(new.fileno())
        new.seek(0)
        known = hashlib.sha256()
        while True:
            piece = new.read(CHUNK)
            if not piece:
                return known.hexdigest(), size
            known.update(piece)


def _compare(source, found, size, request):
    if found != request.get("digest") or size != request.get("size"):
        raise ProxyError("digest", "%s holds other content than announced: sha256 %s." % (source, found))


# ---- layers


def _layers(workdir, part, request, lock):
    from isthmus.proxy import layers

    env = layers.unpack(_source(workdir, request), part)
    if not canonical.flush_file_system(part):
        os.sync()
    return {"env": env}


# ---- run


def _run(workdir, part, request, lock):
    printed = b""
    for words in request.get("commands") or []:
        # Not str.format: a reference may have braces of its own.
        argv = [word.replace("{part}", part).replace("{workdir}", workdir) for word in words]
        printed = _call(argv, request, workdir, lock)
    if not os.path.lexists(part):
        with open(part, "xb") as file:
            file.write(printed)
            file.flush()
            os.fsync(file.fileno())
    return {"output": printed[-TAIL:].decode("utf-8", "replace")}


def _call(argv, request, workdir, lock):
    setup = "\n".join(request.get("setup") or [])
    if setup:
        # A login shell: `module` and the like are functions that its profile defines.
        argv = ["bash", "-l", "-c", setup + '\nexec "$@"', "bash"] + argv
    env = dict(os.environ)
    env.update(request.get("env") or {})
    try:
        process = subprocess.Popen(
            argv,
            cwd=workdir,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[lock.handle],
        )
    except FileNotFoundError:
        raise ProxyError(
            "engine",
            "There is no command %r on the login node's path." % argv[0],
            "Load the module that brings it in the site's set-up lines, or use another container engine.",
        )
    out, err = process.communicate()
    if process.returncode:
        said = (err.strip() or out.strip())[-TAIL:].decode("utf-8", "replace")
        how = "exit code %d" % process.returncode if process.returncode > 0 else "signal %d" % -process.returncode
        code = "disk-full" if "No space left on device" in said or "Disk quota exceeded" in said else "engine"
        raise ProxyError(code, "%s ended with %s: %s" % (request["commands"][0][0], how, said))
    return out


# ---- adopt


def _adopt(workdir, request):
    path = request.get("path")
    if not isinstance(path, str) or not os.path.isabs(path) or not os.path.exists(path):
        raise ProxyError("not-found", "There is no file or folder %r on %s." % (path, os.uname()[1]))
    path = os.path.realpath(path)
    name = "adopted-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:40]
    kept = os.path.join(workdir, "cache", ".%s.answer" % name)
    with _Lock(workdir, name):
        known = _read_json(kept)
        signature = _signature(path)
        if known.get("signature") != signature:
            known = dict(_measure(path), signature=signature)
            if _signature(path) != signature:
                raise ProxyError("digest", "%s changed while it was measured." % path, transient=True)
        wanted = request.get("digest")
        if wanted and wanted != known["digest"]:
            raise ProxyError(
                "digest",
                "%s is no longer what was registered: its sha256 is %s now." % (path, known["digest"]),
                "Register it as a new version, or restore it.",
            )
        entry = os.path.join(workdir, "cache", known["digest"])
        if not os.path.lexists(entry):
            os.symlink(path, entry)
        _write_json(kept, known)
        return {key: known[key] for key in ("digest", "size", "kind")}


def _measure(path):
    if os.path.isdir(path):
        digest, size = canonical.digest(path)
        return {"digest": digest, "size": size, "kind": "folder"}
    known = hashlib.sha256()
    size = 0
    with open(path, "rb", buffering=0) as file:
        while True:
            piece = file.read(CHUNK)
            if not piece:
                return {"digest": known.hexdigest(), "size": size, "kind": "file"}
            known.update(piece)
            size += len(piece)


def _signature(path):
    """Changes whenever a file is written to, added or removed; cheap beside reading it all."""
    known = hashlib.sha256()
    listed = canonical.entries(path) if os.path.isdir(path) else [(b"", path, os.stat(path))]
    for name, _, status in listed:
        facts = (name, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
        known.update(repr(facts).encode())
    return known.hexdigest()


# ---- what they stand on


class _Lock(object):
    """Makes others that prepare the same entry wait; it goes with the last process that holds it."""

    def __init__(self, workdir, name):
        self._path = os.path.join(workdir, "cache", ".%s.lock" % name)
        self.handle = -1

    def __enter__(self):
        while True:
            self.handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self.handle), os.stat(self._path)):
                    return self
            except FileNotFoundError:
                pass
            os.close(self.handle)  # its last holder took it away meanwhile

    def __exit__(self, *failure):
        os.unlink(self._path)
        os.close(self.handle)


def _source(workdir, request):
    source = request.get("source")
    if not isinstance(source, str) or not source:
        raise ProxyError("bad-request", "The preparation names no source.")
    path = os.path.join(workdir, source)
    if not os.path.exists(path):
        raise ProxyError("not-found", "There is no %s on %s." % (path, os.uname()[1]))
    return path


def _remove(path):
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def _read_json(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def _write_json(path, value):
    handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)


def _flush_folder(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _os_error(error):
    text = "%s: %s" % (error.filename or "the cache", error.strerror or error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProxyError("disk-full", "The disk of the work folder is full (%s)." % text)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ProxyError("forbidden", "The site does not allow it (%s)." % text)
    return ProxyError("io", "The site failed (%s)." % text)


_OPS = {"link": _link, "layers": _layers, "run": _run}


def main(arguments, stdin=None, stdout=None):
    """The archive's ``prepare``: one request on stdin, the framed answer on stdout; the exit code."""
    options = {arguments[place]: arguments[place + 1] for place in range(0, len(arguments) - 1, 2)}
    token, workdir = options["--token"], os.path.abspath(os.path.expanduser(options["--workdir"]))
    try:
        try:
            request = json.loads((stdin or sys.stdin.buffer).read().decode("utf-8"))
        except ValueError as error:
            raise ProxyError("bad-request", "The request is no JSON: %s." % error)
        reply = {"ok": prepare(workdir, request)}
    except ProxyError as error:
        reply = {"error": error.as_json()}
    except Exception as error:  # noqa: BLE001  (the site's edge: what nobody foresaw is told, not lost)
        reply = {"error": ProxyError("internal", "The preparation failed: %r." % error).as_json()}
    out = stdout or sys.stdout
    out.write(token + json.dumps(reply) + token + "\n")
    out.flush()
    return 0 if "ok" in reply else 1
