"""The nursery: a process forked from the program before it has threads of ours, that forks workers whenever asked.

A fork from a program with many threads may inherit a lock that nobody will open; the nursery has one thread. It also
cleans up: when the program is gone, however it went, it ends the workers and removes the store.
"""

import os
import pickle
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.settings import Settings

_LIMIT = 1 << 16


class Nursery:
    """The program's hand on it. Not for several threads at once."""

    def __init__(self, store: Store, settings: Settings) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()  # else the child would print it again
        self.pid = os.fork() if settings.start == "fork" else _spawn(theirs, store, settings)
        if self.pid == 0:
            ours.close()
            _live(theirs, store, settings)
        theirs.close()
        self.line = ours

    def fork(self, number: int, line: socket.socket, bell: socket.socket) -> None:
        """Start worker `number` on these sockets. Its process id comes as ("started", number, pid)."""
        socket.send_fds(self.line, [pickle.dumps(("fork", number))], [line.fileno(), bell.fileno()])

    def kill(self, pid: int) -> None:
        """End a worker at once."""
        with suppress(OSError):
            self.line.send(pickle.dumps(("kill", pid)))

    def news(self) -> tuple[Any, ...] | None:
        """What it has to say: ("started", number, pid), ("ended", pid, status), or () for nothing. None: it is gone.

        Doesn't block: what one thread was told is there, another may have taken.
        """
        try:
            data = self.line.recv(_LIMIT, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ()
        except ConnectionError:
            return None
        return pickle.loads(data) if data else None

    def close(self) -> None:
        """End it and its workers, and wait for it."""
        self.line.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _spawn(line: socket.socket, store: Store, settings: Settings) -> int:
    """A nursery in a fresh interpreter: for programs whose state can't be forked (a GPU in use)."""
    import subprocess

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    begin = pickle.dumps((line.fileno(), store.memory, store.disk, store.limit, settings)).hex()
    process = subprocess.Popen(
        [sys.executable, "-m", "isthmus.tasks.engines.processes.nursery", begin],
        pass_fds=[line.fileno()],
        env=environment,
        start_new_session=False,
    )
    process.returncode = 0  # it is waited for by number
    return process.pid


def _live(line: socket.socket, store: Store, settings: Settings) -> None:
    """The nursery's life. Does not return."""
    children: set[int] = set()
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _serve(line, store, settings, children)
    except ConnectionError:
        pass  # the program went while it was being told something
    except BaseException:  # noqa: BLE001  (it must not come out in the program's own code)
        import traceback

        traceback.print_exc()
    finally:
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        store.destroy()
        os._exit(0)


def _serve(line: socket.socket, store: Store, settings: Settings, children: set[int]) -> None:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        watched: list[Any] = [line, wake_read]
        ready, _, _ = select.select(watched, [], [])
        if wake_read in ready:
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
            _reap(line, children)
        if line not in ready:
            continue
        try:
            data, descriptors, _, _ = socket.recv_fds(line, _LIMIT, 2)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            return
        order, number = pickle.loads(data)
        if order == "kill":
            if number in children:
                os.kill(number, signal.SIGKILL)
            continue
        pid = os.fork()
        if pid == 0:
            line.close()
            os.close(wake_read)
            signal.set_wakeup_fd(-1)
            os.close(wake_write)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _become_worker(descriptors, store, number, settings)
            finally:
                os._exit(70)
        for descriptor in descriptors:
            os.close(descriptor)
        children.add(pid)
        line.send(pickle.dumps(("started", number, pid)))


def _reap(line: socket.socket, children: set[int]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in children:
            children.discard(pid)
            with suppress(OSError):
                line.send(pickle.dumps(("ended", pid, os.waitstatus_to_exitcode(status))))


def _become_worker(descriptors: list[int], store: Store, number: int, settings: Settings) -> None:
    from isthmus.tasks.engines.processes.worker import main

    line, bell = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    main(line, bell, store, number, settings)


if __name__ == "__main__":
    _number, _memory, _disk, _limit, _settings = pickle.loads(bytes.fromhex(sys.argv[1]))
    _live(socket.socket(fileno=_number), Store(_memory, _disk, _limit), _settings)
