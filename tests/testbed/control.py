"""Control planes as processes: started, killed at any moment, started again on the same data."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from isthmus.client import Client
from tests.testbed.ports import free_port
from tests.testbed.waiting import wait_for

ROOT = Path(__file__).parents[2]


class ControlPlane:
    """`isthmus up` on a data folder of its own, in an environment (SLURM_CONF, PATH) of the test's choice.

    `start` takes a moment only: a process that has imported everything forks it. `kill` is SIGKILL.
    """

    def __init__(self, folder: Path, *, env: dict[str, str] | None = None, **settings: Any) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.url = ""
        self.token = ""
        self.pid = 0
        self.starts = 0
        # Not any free port: one of the kernel's ephemeral range could be another's when it starts again.
        self._settings = {"data": str(self.data), "port": free_port(), "port_is_fixed": True, **settings}
        self._env = env or dict(os.environ)
        self._server: subprocess.Popen[str] | None = None
        self._reading: threading.Thread | None = None

    def __enter__(self) -> ControlPlane:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.begin()
        self.ready()

    def begin(self) -> None:
        """Start it, and do not wait."""
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.testbed.forkserver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**self._env, "PYTHONUNBUFFERED": "1"},
            )
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self.starts += 1
        self._server.stdin.write(json.dumps({"settings": self._settings, "log": str(self.log)}) + "\n")
        self._server.stdin.flush()
        self.pid = int(json.loads(self._server.stdout.readline())["forked"])

    def ready(self) -> None:
        """Wait until it listens."""
        assert self._server is not None
        assert self._server.stdout is not None
        said = json.loads(self._server.stdout.readline())
        if "error" in said:
            raise AssertionError(f"{said['error']}\n{self.log.read_text()[-3000:]}")
        self.url, self.token = said["url"], said["token"]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not _alive(self.pid), f"process {self.pid} to be gone")

    def kill_unready(self) -> None:
        """SIGKILL one that `begin` started, wherever it is, and read its last word."""
        self.kill()
        assert self._server is not None
        assert self._server.stdout is not None
        self._server.stdout.readline()

    def stop(self) -> None:
        """SIGTERM, as an administrator would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        wait_for(lambda: not _alive(self.pid), f"process {self.pid} to be gone", deadline_s=30)

    def client(self) -> Client:
        """A client with the admin's token."""
        return Client(self.url, self.token)

    def sites(self) -> set[str]:
        """The names of its sites."""
        with self.client() as client:
            return {site.name for site in client.sites.list()}

    def close(self) -> None:
        """Kill it, the process that forks it, and the keeper of its local site."""
        if self.pid:
            self.kill()
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait(10)
            assert self._server.stdout is not None
            self._server.stdout.close()
        _kill_those_in(self.folder)


def _alive(pid: int) -> bool:
    """Also while it is a zombie: a thread of it may still hold its port, and the forking process reaps it at once."""
    return Path(f"/proc/{pid}").exists()


def _kill_those_in(folder: Path) -> None:
    """End what still runs from this folder: keepers and what they started outlive the control plane on purpose."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
