"""Runs one server and everything that the server starts, and ends them all when the tests are gone.

A program of its own, started by `daemon.Daemon`. The first line on stdin is a JSON object: `argv` (may be empty:
then it only waits to undo), `env`, `cwd`, `log`, `at_end` (commands that undo what was made in the kernel), `hold` (a
file to hold a shared lock on while anything runs, or null). Then it takes one-word orders on stdin and answers each
with one line on stdout:

    start   starts the server                          -> its process id
    stop    SIGTERM, then SIGKILL to the server alone  -> its exit status; what it started goes on
    kill    SIGKILL to the server and all below it     -> "killed"
    status  -> "running" or its exit status

The end of stdin means that the tests are over or dead: it stops the server, kills all below it, runs `at_end` and
exits. Being a "child subreaper" (prctl(2)), it stays the ancestor of every process that the server ever started,
also of those that made themselves daemons.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
STOP_GRACE_S = 5.0


def descendants(root: int) -> list[int]:
    """The process ids of all that stands below `root` in the tree of processes, itself not included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    # The name in parentheses may hold spaces and parentheses itself: cut after its last one.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def reap(main: int | None) -> int | None:
    """Collects what has exited. The exit status of `main` if it was among them."""
    status = None
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == main:
            status = os.waitstatus_to_exitcode(raw)


class Keeper:
    def __init__(self, spec: dict[str, object]) -> None:
        self.spec = spec
        self.main: int | None = None
        self.status: int | None = None

    def start(self) -> str:
        spec = self.spec
        with open(str(spec["log"]), "ab") as log:
            process = subprocess.Popen(
                spec["argv"],  # type: ignore[call-overload]
                env=spec["env"],
                cwd=spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.main, self.status = process.pid, None
        process.returncode = 0  # reap() collects it: Popen must not wait for it or warn
        return str(self.main)

    def reap(self) -> None:
        status = reap(self.main)
        if status is not None:
            self.main, self.status = None, status

    def wait_gone(self, grace_s: float) -> bool:
        end = time.monotonic() + grace_s
        while self.main is not None and time.monotonic() < end:
            self.reap()
            if self.main is not None:
                time.sleep(0.005)
        return self.main is None

    def stop(self) -> str:
        for number, grace_s in ((signal.SIGTERM, STOP_GRACE_S), (signal.SIGKILL, STOP_GRACE_S)):
            if self.main is not None:
                os.kill(self.main, number)
                self.wait_gone(grace_s)
        return str(self.status)

    def kill(self) -> str:
        end = time.monotonic() + 2 * STOP_GRACE_S
        while time.monotonic() < end:
            below = descendants(os.getpid())
            if not below:
                break
            for pid in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap()
            time.sleep(0.005)
        self.reap()
        return "killed"

    def tell(self) -> str:
        return "running" if self.main is not None else str(self.status)

    def serve(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        orders = {"start": self.start, "stop": self.stop, "kill": self.kill, "status": self.tell}
        pending = b""
        while True:
            ready, _, _ = select.select([0, wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
            self.reap()
            if 0 not in ready:
                continue
            data = os.read(0, 4096)
            if not data:
                break
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                try:
                    answer = orders[line.decode()]()
                except OSError as error:
                    answer = f"error {error}"
                os.write(1, answer.encode() + b"\n")
        self.stop()
        self.kill()


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # A handler and not SIG_IGN: what is ignored stays ignored in the server, which could then not be stopped.
        signal.signal(number, lambda number, frame: None)
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # no more than the line: what follows are orders, which `serve` reads
        if not byte:
            sys.exit("keeper: stdin ended before the order of what to keep")
        line += byte
    spec = json.loads(line)
    if spec["hold"]:
        fcntl.flock(os.open(spec["hold"], os.O_RDONLY), fcntl.LOCK_SH)
    try:
        Keeper(spec).serve()
    finally:
        for command in spec["at_end"]:
            with open(spec["log"], "ab") as log:
                subprocess.call(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


if __name__ == "__main__":
    main()
