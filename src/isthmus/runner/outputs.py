"""Outputs: what the command must have left in its work folder, with sizes and digests."""

import glob
import hashlib
import os
import stat

from isthmus.runner import canonical
from isthmus.runner import folder as files
from isthmus.runner.errors import Failure

PIECE = 1 << 20


def collect(folder: files.Folder, wanted: list, tick) -> list:
    """Check the declared outputs: ``[{"path", "size", "digest", "kind"}]``, in the order of their paths.

    ``tick()`` is called every few megabytes; what it raises ends the work. A missing output that is not optional, one
    that can't be read or that leads out of the site's folder raises Failure OUTPUT.
    """
    work = folder.at(files.WORK)
    found: dict = {}
    missing = []
    for output in wanted:
        paths = _matches(work, output["path"])
        if not paths and not output.get("optional"):
            missing.append(output["path"])
        for path in paths:
            found[path] = None
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise Failure(
            "OUTPUT", "The command ended well, but did not leave what it must in its work folder: %s." % names
        )
    results = []
    for path in sorted(found):
        try:
            results.append(_describe(folder, os.path.join(work, path), path, tick))
        except (OSError, canonical.NotCanonical) as error:
            raise Failure("OUTPUT", "The output %r can't be read: %s" % (path, error))
    return results


def _matches(work, pattern):
    """The paths that a pattern means, relative to the work folder. A path that exists as written is itself."""
    pattern = os.path.normpath(pattern)
    if os.path.exists(os.path.join(work, pattern)):
        return [pattern]
    places = glob.glob(os.path.join(glob.escape(work), pattern), recursive=True)
    return [os.path.relpath(place, work) for place in places if os.path.exists(place)]


def _describe(folder, path, name, tick):
    real = os.path.realpath(path)
    if not (real + "/").startswith(os.path.realpath(folder.workdir) + "/"):
        raise Failure(
            "OUTPUT", "The output %r is a link to %s, outside of the site's folder: copy it instead." % (name, real)
        )
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        # The size is that of the stream: what is sent of it is measured against it.
        digest, size = _digest(canonical.stream(path), tick)
        return {"path": name, "size": size, "digest": digest, "kind": "folder"}
    if not stat.S_ISREG(status.st_mode):
        raise Failure("OUTPUT", "The output %r is neither a file nor a folder." % name)
    with open(path, "rb", buffering=0) as content:
        digest, size = _digest(iter(lambda: content.read(PIECE), b""), tick)
    return {"path": name, "size": size, "digest": digest, "kind": "file"}


def _digest(pieces, tick):
    """``(hex digits, bytes)`` of a stream."""
    total = hashlib.sha256()
    size = told = 0
    for piece in pieces:
        total.update(piece)
        size += len(piece)
        if size - told > 8 * PIECE:
            told = size
            tick()
    return total.hexdigest(), size
