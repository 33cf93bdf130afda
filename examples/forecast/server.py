"""The demo's own control plane: `isthmus up` as a process, on a data folder of its own.

It is started anew each time, on what the last run left: a restart goes on where it was. Nothing of the user's own
configuration is read or written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import isthmus
from isthmus.client import config
from isthmus.domain.errors import IsthmusError
from isthmus.domain.sites import Health
from isthmus.runner.keeperfiles import socket_path

START_S = 60
STOP_S = 20


class ServerError(Exception):
    """The control plane did not start, or did not stop. The message says what to look at."""


class Server:
    """`isthmus up` on the data folder ``data``."""

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self.settings = self.data / "config"  # ISTHMUS_CONFIG of the command line for this server
        self.log = self.data / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """This process's variables, without any that speak of another server."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_")}
        return {**kept, "ISTHMUS_CONFIG": str(self.settings)}

    def start(self) -> isthmus.Client:
        """Start it, and answer a client for it once it is ready to run jobs. Raises ServerError."""
        self.stop(for_good=False)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written anew by `isthmus up` when it listens; the old one may name another port.
        (self.settings / "config.toml").unlink(missing_ok=True)
        # The `isthmus` beside this interpreter: of the same environment, whatever PATH says.
        command = [str(Path(sys.executable).with_name("isthmus")), "up", "--data", str(self.data)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops it in order
            )
        self._wait(lambda: (self.settings / "config.toml").exists(), "wrote no configuration")
        client = self.client()
        try:
            self._wait(lambda: _ready(client), "did not find this machine fit to run jobs")
        except BaseException:
            client.close()
            raise
        (self.data / "env").write_text(
            "# For a shell that is to talk to this server: `. env`\n"
            f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH "
            f"ISTHMUS_CONFIG={shlex.quote(str(self.settings))}\n"
            "unset ISTHMUS_URL ISTHMUS_TOKEN\n"
        )
        return client

    def client(self) -> isthmus.Client:
        """A client for the running server."""
        found = config.load({"ISTHMUS_CONFIG": str(self.settings)})
        return isthmus.Client(found.url, found.token)

    @property
    def url(self) -> str:
        return config.load({"ISTHMUS_CONFIG": str(self.settings)}).url

    def pid(self) -> int | None:
        """The process that runs on the data folder now: the one that holds its lock."""
        with contextlib.suppress(FileNotFoundError), (self.data / "up.lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                words = lock.read().split()
                if len(words) < 2:
                    raise ServerError(f"a control plane is just starting on {self.data}: try again") from None
                return int(words[1])
        return None

    def stop(self, *, for_good: bool = True) -> bool:
        """Stop the server that runs on the data folder; whether there was one. Raises ServerError."""
        if for_good:
            self._retire_keeper()
        pid = self.pid()
        if pid is None and self._process is not None and self._process.poll() is None:
            pid = self._process.pid  # it has not come as far as the lock
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + STOP_S
        while _alive(pid) or self.pid() is not None:
            if time.monotonic() > end:
                raise ServerError(f"process {pid} did not stop within {STOP_S} s; its log: {self.log}")
            time.sleep(0.05)
        if self._process is not None:
            self._process.wait()
        return True

    def _retire_keeper(self) -> None:
        """Let go of what starts jobs on this machine: it would wait ten minutes for others. Silent if it is gone.

        Jobs that still run are watched to their end: it leaves with the last one.
        """
        path = socket_path(str(self.data / "sites" / "local"))
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as keeper:
            keeper.settimeout(5)
            keeper.connect(path)
            keeper.sendall(b'{"do": "retire"}\n')
            keeper.recv(100)

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + START_S
        while not condition():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > end:
                what = "ended at once" if ended else f"{otherwise} within {START_S} s"
                raise ServerError(f"the control plane {what}. The end of {self.log}:\n{self._tail()}")
            time.sleep(0.05)

    def _tail(self) -> str:
        return "\n".join(f"  {line}" for line in self.log.read_text(errors="replace").splitlines()[-15:])


def _alive(pid: int) -> bool:
    """Whether the process runs. One that has ended, and waits for its parent to notice, has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _ready(client: isthmus.Client) -> bool:
    try:
        return any(site.health is Health.UP for site in client.sites.list())
    except IsthmusError:
        return False
