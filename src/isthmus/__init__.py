"""Isthmus: one job, any site.

``isthmus.Client`` is the blocking SDK, ``isthmus.AsyncClient`` the asynchronous one, and ``isthmus.report``
tells the platform about a running job's metrics and progress. This one file also stands at the top of the
archive that travels to sites, so it runs on Python 3.6 and imports nothing until it is asked to.
"""

import os
import sys

# On a site the archive and an installed isthmus may both be on the path: each offers what it has. (As
# pkgutil.extend_path does, whose import costs a runner more than all the rest.)
for _entry in sys.path:
    _offered = os.path.join(_entry, __name__)
    if _entry and _offered not in __path__ and (_entry.endswith(".pyz") or os.path.isdir(_offered)):
        __path__.append(_offered)

__version__ = "0.1.0"

_WHERE = {
    "report": "isthmus.runner.report",
    "Client": "isthmus.client",
    "AsyncClient": "isthmus.client",
    "IsthmusError": "isthmus.domain.errors",
}

__all__ = ["AsyncClient", "Client", "IsthmusError", "report"]


def report(*args, **metrics):
    """Report metrics and progress of the running job: ``isthmus.report(loss=0.1, step=3)``.

    Does nothing outside a job, so a script may keep the call. See :func:`isthmus.runner.report.report`.
    """
    from isthmus.runner.report import report as send

    return send(*args, **metrics)


def __getattr__(name):
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError("module 'isthmus' has no attribute %r" % name)
