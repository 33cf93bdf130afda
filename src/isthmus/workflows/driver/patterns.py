"""Whether a path is meant by one of some globs, each part by itself."""

import fnmatch
from collections.abc import Iterable


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether any of the patterns means this path."""
    parts = path.split("/")
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(wanted) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False
