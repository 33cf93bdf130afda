"""Attempts that are alike, handed over as one array of the batch system: one call for hundreds of them.

    jobs/1.1-a  jobs/2.1-b  jobs/3.1-c            each with its own batch.sh, alike but for the key
        ▲           ▲           ▲
    arrays/1.1-a.array/0  …/1  …/2  batch.sh      links, and the script that is submitted

Owns the folders of arrays, and which attempts may be in one. How an array is submitted, the batch system's module says
(`isthmus.proxy.batch`); that each attempt is handed over once, `isthmus.proxy.scheduled`.
"""

import os
import shutil
from collections import OrderedDict

from isthmus.runner import folder as files

LEAST = 4  # fewer are handed over one by one
SUFFIX = ".array"


def groups(items: dict, limit: int) -> list:
    """Lists of keys whose attempts are alike: at least LEAST in each, at most ``limit``."""
    if limit < LEAST:
        return []
    alike: dict = OrderedDict()
    for key in sorted(items):  # in the same order for all: each waits for the other's locks
        item = items[key]
        alike.setdefault((item.batch.replace(key, "\0"), tuple(item.argv)), []).append(key)
    found = [keys[begin : begin + limit] for keys in alike.values() for begin in range(0, len(keys), limit)]
    return [keys for keys in found if len(keys) >= LEAST]


def make(workdir, folders: list, script: str) -> str:
    """The folder of an array of these attempts, its links in their order. Replaces one that was never submitted."""
    path = os.path.join(workdir.path, files.ARRAYS, folders[0].key + SUFFIX)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700)
    for index, folder in enumerate(folders):
        os.symlink(os.path.join("..", "..", files.JOBS, folder.key), os.path.join(path, str(index)))
    files.write_whole(os.path.join(path, files.BATCH), script.encode("utf-8"), 0o700)
    return path


def mark(name: str, index: int) -> bytes:
    """What an attempt's folder keeps of the array that it is handed over with."""
    return ("%s %d" % (name, index)).encode("ascii")


def marked(text: bytes) -> tuple:
    """``(job name, index)`` of what is kept; the index is None for an attempt that was handed over alone."""
    name, _, index = text.decode("ascii", "replace").partition(" ")
    return name, int(index) if index.isdigit() else None


def forget(workdir, folders: list) -> None:
    """Remove what arrays have of attempts whose folders are about to be removed, and arrays that have no more."""
    touched = set()
    for folder in folders:
        name, index = marked(folder.read(files.SUBMITTING))
        if index is not None:
            path = os.path.join(workdir.path, files.ARRAYS, name[len("isthmus-") :])
            touched.add(path)
            try:
                os.unlink(os.path.join(path, str(index)))
            except FileNotFoundError:
                pass
    for path in touched:
        if os.path.isdir(path) and set(os.listdir(path)) <= {files.BATCH}:
            shutil.rmtree(path, ignore_errors=True)
