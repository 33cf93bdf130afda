"""The keeper's workers: forked when they are needed, kept a while, replaced when they die."""

import os
import selectors
import signal
import socket
import sys
import time
import traceback

from isthmus.runner import worker

IDLE_S = 60.0
MOST_IDLE = 4


class Worker(object):
    """A forked worker and what it runs."""

    def __init__(self, pid: int, link) -> None:
        self.pid = pid
        self.link = link
        self.key = ""
        self.since = time.monotonic()
        self.reaped = False


class Pool(object):
    """Workers by process id.

    ``begin(link)`` is what a forked process does; ``told(kind, key)`` is called for all that workers say of
    attempts, with ``None`` as the kind for one whose worker has died.
    """

    def __init__(self, selector, begin, told) -> None:
        self._selector = selector
        self._begin = begin
        self._told = told
        self._workers: dict = {}
        self._idle: list = []

    def pids(self) -> set:
        """The process ids of all workers."""
        return set(self._workers)

    def start(self, message: bytes, key: str) -> None:
        """Have a worker run an attempt."""
        while True:
            if not self._idle:
                self.fork()
            chosen = self._idle.pop()
            try:
                chosen.link.send(message)
            except OSError:
                continue  # it died while it was idle: the next
            chosen.key = key
            return

    def kill(self, key: str) -> bool:
        """Tell the worker that runs an attempt of its kill file; whether there is one."""
        for one in self._workers.values():
            if one.key == key:
                try:
                    one.link.send(worker.KILL)
                except OSError:
                    pass  # it is dying by itself
                return True
        return False

    def fork(self) -> None:
        """Make one more worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become(theirs)
        theirs.close()
        ours.setblocking(False)
        made = Worker(pid, ours)
        self._workers[pid] = made
        self._idle.append(made)
        self._selector.register(ours, selectors.EVENT_READ, lambda link: self._heard(made))

    def reaped(self, pid: int) -> None:
        """A child of the keeper has ended and was waited for."""
        one = self._workers.get(pid)
        if one is not None:
            one.reaped = True
            self._heard(one)  # what it said last
            self._lost(one)

    def trim(self, keep_ready: bool) -> None:
        """Keep one worker ready (or none), and few idle ones for long."""
        if not self._idle and keep_ready:
            self.fork()
        now = time.monotonic()
        while len(self._idle) > 1 and (
            len(self._idle) > MOST_IDLE or now - self._idle[0].since > IDLE_S or not keep_ready
        ):
            one = self._idle.pop(0)
            self._selector.unregister(one.link)
            del self._workers[one.pid]
            one.link.close()  # it ends, and is reaped

    def _become(self, link):
        """In the forked process: be a worker, and never anything else."""
        code = 1
        try:
            os.setpgid(0, 0)
            # Each copy of a socket here would keep its other end from seeing the keeper's death.
            for other in self._workers.values():
                other.link.close()
            self._begin(link)
            code = 0
        except BaseException:  # noqa: BLE001  (whatever it is, this process must not go on as a keeper)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _heard(self, one):
        while True:
            try:
                message = one.link.recv(worker.MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost(one)
                return
            kind, key = message[:1], message[1:].decode("utf-8")
            if kind != worker.NEWS:
                one.key = ""
                one.since = time.monotonic()
                self._idle.append(one)
            self._told(kind, key)

    def _lost(self, one):
        """A worker's socket was closed: it has died, or it is about to."""
        if self._workers.pop(one.pid, None) is None:
            return
        self._selector.unregister(one.link)
        one.link.close()
        if one in self._idle:
            self._idle.remove(one)
        if not one.reaped:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        if one.key:
            self._told(None, one.key)
