"""PyCOMPSs's names on Isthmus's tasks: what the distribution `isthmus-pycompss` and `runcompss` make importable.

`install` never stands before an installed PyCOMPSs: it says so and changes nothing. docs/tasks-compat.md has the table
of what works, differs, and does not.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from typing import Any

from isthmus.domain.errors import Conflict


def install() -> None:
    """Make `import pycompss` find these modules, in this process. May be called again.

    Raises Conflict where another PyCOMPSs is installed: remove one of the two.
    """
    there = sys.modules.get("pycompss")
    if there is not None:
        if list(getattr(there, "__path__", ())) == __path__:
            return
        raise _shadows(str(getattr(there, "__file__", "")))
    spec = importlib.util.find_spec("pycompss")
    if spec is not None:
        if spec.origin and "isthmus" in _text(spec.origin):
            importlib.import_module("pycompss")
            return
        raise _shadows(spec.origin or "")
    module = types.ModuleType("pycompss", __doc__)
    module.__path__ = __path__
    sys.modules["pycompss"] = module


class _Storage(importlib.abc.MetaPathFinder):
    """Finds `storage`, PyCOMPSs's interface to persistent objects, where nothing else does."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Ours, by that name."""
        if name != "storage":
            return None
        place = os.path.join(__path__[0], "storage")
        return importlib.util.spec_from_file_location(
            name, os.path.join(place, "__init__.py"), submodule_search_locations=[place]
        )


sys.meta_path.append(_Storage())  # the last: a program's own `storage` comes first


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def _shadows(where: str) -> Conflict:
    return Conflict(
        f"Another PyCOMPSs is installed: {where}.",
        hint="Uninstall it to run its programs on Isthmus, or run them with its own runcompss.",
    )
