"""Pilot jobs: nodes of a site that join the program's Ray cluster, and leave it, while the program runs.

The cluster's head is here, without processors of its own. Each node is one job of the platform, queued by the site's
batch system (or started over SSH) like any other: `ray start --address=HEAD --block`. More nodes are more jobs, fewer
nodes are jobs that are killed. This machine and the nodes must reach each other. Ray's token, without which nobody
joins the cluster, is a secret of the control plane for as long as the program runs.
"""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import IsthmusError
from isthmus.tasks.failures import WorkerLost

if TYPE_CHECKING:
    from isthmus.client import Client

# Ports that Ray would fix: two programs' nodes, or two nodes of one, may be on one machine.
_ANY_PORT = ("min-worker-port", "max-worker-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")


def have_token() -> None:
    """Have a token of this program's own, unless the environment says another or none. Before Ray is imported."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _token() -> str:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if path:
        with open(path) as file:
            return file.read().strip()
    return os.environ.get("RAY_AUTH_TOKEN", "")


class Pilots:
    """The nodes of one program. Made in its thread; `resize` and `close` are from any."""

    def __init__(self, address: str, *, site: str, ray: str, cpus: int, lost: Callable[[BaseException], None]) -> None:
        """`address` of the head; `ray`: its command at the site; `cpus` of each node.

        `lost` is told, from a thread of ours, when no node is left that nobody has sent away.
        """
        self._address, self._site, self._ray, self._cpus = address, site, ray, cpus
        self._lost = lost
        self._lock = threading.Lock()
        self._jobs: list[int] = []
        self._closed = False
        self._client: Client | None = None
        self._secret = ""  # its name

    @property
    def jobs(self) -> list[int]:
        """The numbers of the jobs that are nodes, or wait to be."""
        with self._lock:
            return list(self._jobs)

    def resize(self, nodes: int) -> None:
        """Have so many nodes. The youngest go first; what runs on one that goes has failed with its worker.

        Blocks until the jobs are submitted, not until they run. Raises what the platform says.
        """
        with self._lock:
            if self._closed:
                return
            client = self._connected()
            if nodes > len(self._jobs):
                made = client.jobs.submit_many([self._request() for _ in range(nodes - len(self._jobs))])
                for job in made:
                    self._jobs.append(job.id)
                    threading.Thread(target=self._watch, args=(job.id,), name="isthmus-pilot", daemon=True).start()
            elif nodes < len(self._jobs):
                going, self._jobs = self._jobs[nodes:], self._jobs[:nodes]
                client.jobs.kill(*going)

    def close(self) -> None:
        """Kill all nodes."""
        with self._lock:
            self._closed = True
            jobs, self._jobs = self._jobs, []
            client, self._client = self._client, None
        if client is not None:
            with suppress(IsthmusError):
                if jobs:
                    client.jobs.kill(*jobs)
                if self._secret:
                    client.secrets.remove(self._secret)
            client.close()

    def _request(self) -> dict[str, Any]:
        words = [self._ray, "start", f"--address={self._address}", f"--num-cpus={self._cpus}", "--block"]
        words += [f"--{name}=0" for name in _ANY_PORT] + ["--disable-usage-stats"]
        request: dict[str, Any] = {
            "name": "tasks-pilot",
            "command": words,
            "sites": [self._site],
            "resources": {"cpus": self._cpus},
        }
        if self._secret:
            request |= {"env": {"RAY_AUTH_MODE": "token"}, "secrets": {"RAY_AUTH_TOKEN": self._secret}}
        return request

    def _watch(self, job: int) -> None:
        """Wait for the end of one node's job, and tell if it was the last and nobody wanted that."""
        from isthmus.client import Client
        from isthmus.tasks.jobs import note_log

        with Client() as client:
            while True:
                try:
                    ended = client.jobs.wait(job, timeout_s=60.0)
                except IsthmusError:
                    if self._closed:
                        return
                    continue
                if ended.state.ended or self._closed:
                    break
            with self._lock:
                if self._closed or job not in self._jobs:
                    return
                self._jobs.remove(job)
                if self._jobs:
                    return
            error = WorkerLost(
                f"No node of {self._site} is left: its last pilot, job {job}, is {ended.state}.",
                hint=f"isthmus job logs {job} and isthmus job explain {job} say why.",
            )
            note_log(error, client, job)
        self._lost(error)

    def _connected(self) -> "Client":
        if self._client is None:
            from isthmus.client import Client

            self._client = Client()
            token = _token()
            if token:
                self._secret = f"tasks-ray-{secrets.token_hex(8)}"
                self._client.secrets.set(self._secret, token)
        return self._client
