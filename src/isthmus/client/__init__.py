"""The Python SDK: everything that the command line does, typed, asynchronous and blocking.

    import isthmus

    with isthmus.Client() as client:  # the server that `isthmus login` or `isthmus up` wrote down
        job = client.jobs.submit(isthmus.JobRequest(command=("python", "train.py")))
        print(client.jobs.wait(job.id).state)

`AsyncClient` speaks HTTP, or to an app in the same process (`embedded`); `Client` is the same for blocking code.
"""

from isthmus.client.asynchronous import AsyncClient
from isthmus.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
