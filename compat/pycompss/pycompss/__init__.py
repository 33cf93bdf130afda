"""`import pycompss`, on Isthmus's tasks. Refuses to stand beside PyCOMPSs itself."""

from importlib import metadata

import isthmus.tasks.pycompss as _names

try:
    metadata.distribution("pycompss")
except metadata.PackageNotFoundError:
    __path__ = _names.__path__
else:
    raise ImportError("PyCOMPSs itself is installed too: uninstall it, or uninstall isthmus-pycompss.")
