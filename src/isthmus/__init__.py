"""Isthmus: one job, any site.

``isthmus.Client`` is the blocking SDK, ``isthmus.AsyncClient`` the asynchronous one (``EmbeddedClient`` and
``AsyncEmbeddedClient`` where the control plane is to run in this very process), and ``isthmus.report``
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

TYPE_CHECKING = False  # as typing's, which this file has no time to import
if TYPE_CHECKING:
    from isthmus.client import AsyncClient, Client
    from isthmus.domain.errors import IsthmusError
    from isthmus.domain.jobs import After, Array, Input, JobRequest, Output, Resources, Retry
    from isthmus.embedded import AsyncEmbeddedClient, EmbeddedClient

_WHERE = {
    "report": "isthmus.runner.report",
    "Client": "isthmus.client",
    "AsyncClient": "isthmus.client",
    "EmbeddedClient": "isthmus.embedded",
    "AsyncEmbeddedClient": "isthmus.embedded",
    "IsthmusError": "isthmus.domain.errors",
    "JobRequest": "isthmus.domain.jobs",
    "Resources": "isthmus.domain.jobs",
    "Input": "isthmus.domain.jobs",
    "Output": "isthmus.domain.jobs",
    "After": "isthmus.domain.jobs",
    "Array": "isthmus.domain.jobs",
    "Retry": "isthmus.domain.jobs",
}

__all__ = [
    "After",
    "Array",
    "AsyncClient",
    "AsyncEmbeddedClient",
    "Client",
    "EmbeddedClient",
    "Input",
    "IsthmusError",
    "JobRequest",
    "Output",
    "Resources",
    "Retry",
    "report",
]


def report(*args: object, **metrics: object) -> None:
    """Report metrics and progress of the running job: ``isthmus.report(loss=0.1, step=3)``.

    Does nothing outside a job, so a script may keep the call. See :func:`isthmus.runner.report.report`.
    """
    from isthmus.runner.report import report as send

    send(*args, **metrics)


def load_ipython_extension(shell: object) -> None:
    """``%load_ext isthmus``: the progress of tasks, and ``%tasks``. See docs/tasks.md."""
    import importlib

    importlib.import_module("isthmus.tasks.watch.notebook").load(shell)


def unload_ipython_extension(shell: object) -> None:
    """``%unload_ext isthmus``."""
    import importlib

    importlib.import_module("isthmus.tasks.watch.notebook").unload(shell)


def __getattr__(name: str) -> object:
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError("module 'isthmus' has no attribute %r" % name)
