"""The guardian: a small process that outlives the driver by a moment, and ends the steps that a killed driver left.

It hears of each step's start and end through a pipe. When the pipe closes, whatever still runs is killed: no step of
this machine goes on unseen, whichever way the driver went.
"""

import contextlib
import os
import signal
import subprocess
import time

ROUNDS, ROUND_S = 3, 0.1
GOODBYE = "."


class Guardian:
    """Watches this process's steps. Make it early: it is a fork, and as large as this process is then."""

    def __init__(self, root: str) -> None:
        """``root``: the folder that all steps run in."""
        reads, self._pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._pipe)
                _guard(reads, root)
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
            self._say(f"{GOODBYE}\n")
            os.close(self._pipe)
            self._pipe = -1
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody killed it: the steps go on all the same
            os.write(self._pipe, line.encode())


def _guard(pipe: int, root: str) -> None:
    began = _start_ticks(os.getpid())
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nowhere, handle)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, 4096)
    os.chdir("/")
    expected = False  # the driver came to its end, and left nothing
    running: dict[int, list[str]] = {}
    rest = b""
    while data := os.read(pipe, 1 << 16):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line == GOODBYE.encode():
                expected = True
                continue
            pid, _, words = line[1:].decode().partition("\x1e")
            if line[:1] == b"+":
                running[int(pid)] = [word for word in words.split("\x1f") if word]
            else:
                running.pop(int(pid), None)
    for group, cleanup in running.items():
        _kill(group)
        if cleanup:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(cleanup, timeout=30, check=False)
    # One may have begun and we not heard of it yet; it may even be at its first instruction still.
    for _ in range(0 if expected else ROUNDS):
        for orphan in _orphans(os.path.realpath(root), began, os.getppid()):
            _kill(orphan)
        time.sleep(ROUND_S)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _orphans(root: str, since: int, heir: int) -> list[int]:
    """Leaders of sessions without a terminal that began since then and work below ``root``: steps, not people's.

    The dead driver's children have passed to ``heir``, as this process has; those of a driver that goes on with the run
    already are that driver's.
    """
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            parent, _group, session, terminal = _stat(pid)[:4]
            if parent == heir and session == pid and terminal == 0 and _start_ticks(pid) >= since:
                where = os.readlink(f"/proc/{pid}/cwd")
                if where.startswith(root + "/"):
                    found.append(pid)
    return found


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat after the state: parent, group, session, terminal, … (proc(5))."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        return [int(each) for each in stream.read().rpartition(b")")[2].split()[1:]]


def _start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since the machine's start."""
    return _stat(pid)[18]
