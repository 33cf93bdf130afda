"""The work folder: where everything of a site lies, and the only place that the proxy writes to."""

import errno
import os
import re

from isthmus.proxy.errors import ProxyError
from isthmus.runner import folder as files

KEY = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$")
PRIVATE = 0o700


class Workdir(object):
    """A work folder by its absolute path."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))

    def make(self) -> None:
        """Make the folder and those in it that are always there. Raises ProxyError."""
        try:
            for name in ("", files.JOBS, files.ARRAYS, files.CACHE, files.CHECKPOINTS, files.TMP):
                os.makedirs(os.path.join(self.path, name), mode=PRIVATE, exist_ok=True)
            os.chmod(self.path, PRIVATE)
        except OSError as error:
            raise from_os(error, "Making the work folder %s" % self.path)

    def job(self, key: str) -> files.Folder:
        """The folder of an attempt, which may not exist. Raises ProxyError for what is no key."""
        if not isinstance(key, str) or not KEY.match(key):
            raise ProxyError("bad-request", "%r is not the key of an attempt." % (key,))
        return files.Folder(os.path.join(self.path, files.JOBS, key))

    def inside(self, path: str) -> str:
        """A path, relative to the work folder or absolute, as an absolute one.

        Raises ProxyError ``outside-workdir`` if it leads out of the work folder, by ``..`` or by a link on the way.
        The last part may be a link itself: then it is the link that is meant.
        """
        if not isinstance(path, str) or "\0" in path:
            raise ProxyError("bad-request", "%r is not a path." % (path,))
        absolute = os.path.normpath(os.path.join(self.path, path))
        parent = os.path.realpath(os.path.dirname(absolute))
        root = os.path.realpath(self.path)
        if absolute != self.path and not (parent + "/").startswith(root + "/"):
            raise ProxyError("outside-workdir", "%s is outside of the work folder %s." % (path, self.path))
        if not (absolute + "/").startswith(self.path + "/"):
            raise ProxyError("outside-workdir", "%s is outside of the work folder %s." % (path, self.path))
        return absolute

    def free_bytes(self) -> int:
        """What this user can still write there."""
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize


def from_os(error, doing: str):
    """An OSError as what the control plane reads."""
    what = "%s failed: %s%s." % (doing, error.strerror or error, " (%s)" % error.filename if error.filename else "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProxyError("disk-full", what, "Free some space at the site, or give it another work folder.", True)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ProxyError("forbidden", what)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ProxyError("not-found", what)
    return ProxyError("io", what, transient=True)
