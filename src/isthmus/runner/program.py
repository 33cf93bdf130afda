"""Programs: where one lies, and how our own are started again."""

import os
import sys


def archive() -> str:
    """The absolute path of the archive that this process runs from, or of the folder that holds the package."""
    import isthmus

    for place in isthmus.__path__:
        root = os.path.dirname(os.path.abspath(place))
        if root.endswith(".pyz"):
            return root
    return os.path.dirname(os.path.abspath(isthmus.__path__[0]))


def which(name: str, path: str = "") -> str:
    """The path of a program as a shell finds it, or "". (shutil's costs a runner 5 ms to import.)"""
    for folder in (path or os.environ.get("PATH", os.defpath)).split(os.pathsep):
        found = os.path.join(folder, name)
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return ""


def start(*words: str) -> list:
    """The command that starts one of our programs: isolated from the user's Python settings, and quickly."""
    place = archive()
    if not place.endswith(".pyz"):
        code = "import sys; sys.path.insert(0, %r); from isthmus.proxy.main import main; sys.exit(main(sys.argv[1:]))"
        return [sys.executable, "-I", "-S", "-c", code % place] + list(words)
    return [sys.executable, "-I", "-S", place] + list(words)
