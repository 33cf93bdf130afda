"""Inputs: what the job reads is put into its work folder before it starts, by link or as its own copy."""

import os
import stat

from isthmus.runner import folder as files
from isthmus.runner.errors import Failure, from_os

FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file until one of the two is written


def place(folder: files.Folder, inputs: list) -> list:
    """Put every input at its path in the work folder; the absolute paths of the sources. Raises Failure."""
    sources = []
    work = folder.at(files.WORK)
    for item in inputs:
        source = folder.resolve(item["source"])
        target = os.path.normpath(os.path.join(work, item["path"]))
        if not target.startswith(work + "/"):
            raise Failure("STAGE", "The input %s would lie outside of the work folder." % item["path"])
        if not os.path.exists(source):
            raise Failure("STAGE", "The input %s is not at the site: there is no %s." % (item["path"], source))
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            if item.get("mode") == "copy":
                _copy(source, target)
            else:
                _link(source, target, folder.workdir)
        except OSError as error:
            raise from_os(error, "Placing the input %s" % item["path"], "STAGE")
        sources.append(source)
    return sources


def _link(source, target, workdir):
    if os.path.islink(target):
        os.unlink(target)
    if (source + "/").startswith(workdir + "/"):
        # Relative, so that it also holds where the site's folder is mounted elsewhere in a container.
        source = os.path.relpath(source, os.path.dirname(target))
    os.symlink(source, target)


def _copy(source, target):
    if not os.path.isdir(source):
        _copy_file(source, target)
        return
    os.makedirs(target, mode=0o755, exist_ok=True)
    for entry in os.scandir(source):
        to = os.path.join(target, entry.name)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), to)
        else:
            _copy(entry.path, to)


def _copy_file(source, target):
    """Copy a file, without copying its bytes where the file system can share them. The copy may be written."""
    import fcntl
    import shutil

    with open(source, "rb") as old:
        mode = stat.S_IMODE(os.fstat(old.fileno()).st_mode) | stat.S_IWUSR
        with open(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as new:
            try:
                fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            except OSError:
                shutil.copyfileobj(old, new, 1 << 20)
