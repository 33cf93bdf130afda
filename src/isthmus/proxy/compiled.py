"""The archive's modules, compiled beside it once for each version of Python: so a runner starts in half the time."""

import importlib.util
import os
import shutil
import sys
import zipfile

from isthmus.runner import program


def leave_compiled() -> None:
    """Compile this archive for this Python unless that was done. Trouble is no matter: the archive runs without."""
    archive = program.archive()
    if not archive.endswith(".pyz"):
        return
    folder = "%s.%s" % (archive[:-4], sys.implementation.cache_tag)
    if os.path.isdir(folder):
        return
    beside = "%s.%d.tmp" % (folder, os.getpid())
    try:
        with zipfile.ZipFile(archive) as bundle:
            for name in bundle.namelist():
                if name.startswith("isthmus/"):
                    _compile(bundle.read(name), os.path.join(beside, name))
        os.rename(beside, folder)
    except (OSError, zipfile.BadZipFile, SyntaxError):
        pass  # a full disk, or another proxy that was quicker
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _forget_others(archive)


def _compile(source, path):
    """Write a module as a .pyc without a source, which needs no look at a source's time."""
    import marshal

    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    data = importlib.util.MAGIC_NUMBER + bytes(12 if sys.version_info >= (3, 7) else 8) + marshal.dumps(code)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path + "c", "wb") as target:
        target.write(data)


def _forget_others(archive):
    """Remove compiled folders whose archive is gone."""
    place = os.path.dirname(archive)
    for name in os.listdir(place):
        path = os.path.join(place, name)
        stem = name.split(".", 1)[0]
        if (
            os.path.isdir(path)
            and stem.startswith("isthmus-")
            and not os.path.exists(os.path.join(place, stem + ".pyz"))
        ):
            shutil.rmtree(path, ignore_errors=True)
