"""The guardian: a small process that outlives the driver by a moment, and ends the steps that a killed driver left.

It hears of each step's start and end through a pipe. When the pipe closes, whatever still runs is killed: no step of
this machine goes on unseen, whichever way the driver went.
"""

import contextlib
import os
import signal
import subprocess


class Guardian:
    """Watches this process's steps. Make it early: it is a fork, and as large as this process is then."""

    def __init__(self) -> None:
        reads, self._pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._pipe)
                _guard(reads)
            finally:
                os._exit(0)
        os.close(reads)

    def started(self, pid: int, cleanup: "list[str] | tuple[str, ...]" = ()) -> None:
        """A step has started: its process group, and the command that removes its container."""
        words = "\x1f".join(cleanup)
        self._say(f"+{pid}\x1e{words}\n")

    def ended(self, pid: int) -> None:
        """A step is over."""
        self._say(f"-{pid}\n")

    def dismiss(self) -> None:
        """Every step is over, or must end now; returns when that is done."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody killed it: the steps go on all the same
            os.write(self._pipe, line.encode())


def _guard(pipe: int) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, 4096)
    os.chdir("/")
    running: dict[int, list[str]] = {}
    rest = b""
    while data := os.read(pipe, 1 << 16):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            pid, _, words = line[1:].decode().partition("\x1e")
            if line[:1] == b"+":
                running[int(pid)] = [word for word in words.split("\x1f") if word]
            else:
                running.pop(int(pid), None)
    for group, cleanup in running.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        if cleanup:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(cleanup, timeout=30, check=False)
