"""The job folder: what its files are called, and how they are written. Owns every file name in it."""

import json
import os

ARRAYS = "arrays"
CACHE = "cache"
CHECKPOINTS = "checkpoints"
JOBS = "jobs"
TMP = "tmp"

SPEC = "job.json"
SECRETS = "secrets.json"
SCRIPT = "script"
BATCH = "batch.sh"
SUBMITTING = "submitting"
NATIVE_ID = "native_id"
CLAIM = "claim"
KILL = "kill"
REPORTS = "reports"
LOG = "log"
BATCH_LOG = "batch.log"
WORK = "work"
METRICS = "metrics"  # what the command appends to: $ISTHMUS_REPORT
RESERVE = "reserve"  # space that is given back when the disk is full, so that its end can be reported


class Folder(object):
    """One attempt's folder, ``WORKDIR/jobs/<key>``."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.key = os.path.basename(self.path)
        self.workdir = os.path.dirname(os.path.dirname(self.path))

    def at(self, name: str) -> str:
        """The path of one of its files."""
        return self.path + "/" + name

    def has(self, name: str) -> bool:
        return os.path.lexists(self.at(name))

    def read(self, name: str) -> bytes:
        """The bytes of a file, b"" if there is none."""
        try:
            fd = os.open(self.at(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        with open(fd, "rb") as stream:
            return stream.read()

    def read_json(self, name: str) -> dict:
        """The object in a file; {} if there is none or it is not whole."""
        try:
            value = json.loads(self.read(name).decode("utf-8"))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, name: str, data: bytes, mode: int = 0o600, durable: bool = False) -> None:
        """Put a file there as a whole: it is never seen half-written, whatever fails."""
        write_whole(self.at(name), data, mode, durable)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file if there is none: of all who try, on any node, one gets True."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            fd = os.open(self.at(name), flags, 0o600)
        except FileExistsError:
            return False
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        return True

    def remove(self, name: str) -> None:
        """Remove a file; silent if gone."""
        try:
            os.unlink(self.at(name))
        except FileNotFoundError:
            pass

    def size(self, name: str) -> int:
        """The size of a file, 0 if there is none."""
        try:
            return os.stat(self.at(name)).st_size
        except FileNotFoundError:
            return 0

    def resolve(self, path: str) -> str:
        """A path of job.json as an absolute one: relative ones count from WORKDIR."""
        return os.path.normpath(os.path.join(self.workdir, path))


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_whole(path: str, data: bytes, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file beside ``path`` and rename it: readers see the old one or the new one, never a part."""
    beside = "%s.%d.tmp" % (path, os.getpid())
    fd = os.open(beside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError:
        os.unlink(beside)
        raise
    if durable:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems can't; their names are durable when the call returns
    finally:
        os.close(fd)


def dump(value: dict) -> bytes:
    """An object as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode("utf-8")
