"""The Python SDK: everything that the command line does, typed, asynchronous and blocking.

    import isthmus

    with isthmus.Client() as client:  # the server that `isthmus login` or `isthmus up` wrote down
        job = client.jobs.submit(isthmus.JobRequest(command=("python", "train.py")))
        print(client.jobs.wait(job.id).state)

`AsyncClient` speaks HTTP, or to an app in the same process (`embedded`); `Client` is the same for blocking code.
"""

from typing import TYPE_CHECKING, Any

from isthmus.client.asynchronous import AsyncClient

if TYPE_CHECKING:
    from isthmus.client.blocking import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":  # imports every noun; commands use the asynchronous one
        from isthmus.client.blocking import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
