"""A server process under its keeper: start, stop, restart, kill, and never a process left behind."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.testbed import keeper
from tests.testbed.errors import ServerError
from tests.testbed.waiting import wait_for

KEEPER = str(Path(keeper.__file__).resolve())
LOG_TAIL_LINES = 30
ALIVE = ".alive"  # a lock that each keeper shares: once it is free, nobody writes below its folder any more

# In the order of their start: at exit they are closed the other way round.
_open: dict[int, Daemon] = {}


@atexit.register
def close_all() -> None:
    """Closes every daemon that is still open, the latest first."""
    for daemon in reversed(list(_open.values())):
        daemon.close()


class Daemon:
    """One server that runs in the foreground, with all the processes that it starts.

    `ready` tells whether the server takes work; `start` and `restart` wait for it. `at_end` are commands that undo
    what was made in the kernel for this server: they run when it is closed, or when this process dies. An empty
    `argv` makes a daemon that only keeps such commands. Everything blocks; nothing here may be called from two
    threads at once.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        deadline_s: float = 20.0,
        at_end: Sequence[Sequence[str]] = (),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log" if argv else Path(os.devnull)
        self._ready = ready
        self._deadline_s = deadline_s
        spec = {
            "argv": list(argv),
            "env": dict(os.environ if env is None else env),
            "cwd": str(folder),
            "log": str(self.log),
            "at_end": [list(command) for command in at_end],
            "hold": next((str(up / ALIVE) for up in (folder, *folder.parents) if (up / ALIVE).is_file()), None),
        }
        self._keeper = subprocess.Popen(
            # The machine's own Python, bare: it starts in 15 ms.
            [sys.executable, "-I", "-S", KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(spec) + "\n")
        self.pid = 0
        _open[id(self)] = self

    def _order(self, word: str) -> str:
        if self._keeper.stdin is None or self._keeper.stdout is None or self._keeper.stdin.closed:
            raise ServerError(f"{self.name}: {word} after close")
        self._keeper.stdin.write(word + "\n")
        answer = self._keeper.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise ServerError(f"{self.name}: its keeper answered {answer!r} to {word}\n{self.log_tail()}")
        return answer

    @property
    def running(self) -> bool:
        """Whether the server's main process lives."""
        return self._order("status") == "running"

    def start(self) -> None:
        """Starts the server and waits until it is ready. Raises ServerError with the end of its log."""
        self.pid = int(self._order("start"))

        def up() -> bool:
            status = self._order("status")
            if status != "running":
                raise ServerError(f"{self.name} exited with {status} at its start\n{self.log_tail()}")
            return self._ready is None or self._ready()

        wait_for(up, f"{self.name} to be ready", deadline_s=self._deadline_s, story=self.log_tail)

    def stop(self) -> None:
        """Ends the server alone (SIGTERM, then SIGKILL): the processes that it started go on."""
        self._order("stop")

    def restart(self) -> None:
        """Stops the server, leaving alone what it started, and starts it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to the server and to every process below it, as if the machine lost its power."""
        self._order("kill")

    def below(self) -> list[int]:
        """The process ids of the server and of all that it started."""
        return keeper.descendants(self._keeper.pid)

    def close(self) -> None:
        """Stops the server, kills all below it and undoes what was made for it. May be called again."""
        _open.pop(id(self), None)
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._keeper.stdin.close()
        self._keeper.wait()
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()

    def log_tail(self) -> str:
        """The last lines of the server's log, under a heading with the log's path."""
        if not self.log.is_file():
            return f"({self.log} does not exist)"
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"--- the end of {self.log}\n" + "\n".join(lines)


def undo(name: str, *commands: Sequence[str]) -> Daemon:
    """A daemon without a server: `close`, or the end of this process, runs `commands`."""
    return Daemon(name, [], folder=Path("/"), at_end=commands)


def run(argv: Sequence[str], *, what: str, env: Mapping[str, str] | None = None, timeout_s: float = 60.0) -> str:
    """Runs a command to its end and returns its stdout.

    Raises ServerError with the command's own stderr if it fails.
    """
    done = subprocess.run(
        list(argv), env=env, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise ServerError(f"{what}: exit status {done.returncode} of {argv}\n{done.stderr or done.stdout}")
    return done.stdout
