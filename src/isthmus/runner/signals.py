"""Signals as events: handlers only write down what came, and a pipe wakes whoever waits. Made once in a process."""

import os
import select
import signal

# What asks for the command's end. SIGUSR2 is Grid Engine's notice before it kills, SIGXCPU its soft limit of CPU time.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


class Signals(object):
    """The signals that came to this process, in order, and a way to wait for the next."""

    def __init__(self):
        self._came = []
        self._read, self._write = os.pipe()
        for fd in (self._read, self._write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._write)
        for number in ENDING + FORWARDED + (signal.SIGCHLD,):
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal that a login shell had is not the job's
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)

    def watch(self, fd: int) -> None:
        """Let input on this file descriptor end a wait too."""
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        """Undo `watch`."""
        self._poll.unregister(fd)

    def wait(self, seconds: float) -> list:
        """Wait until a signal or other input comes, ``seconds`` at most; the file descriptors with other input."""
        ready = [fd for fd, _ in self._poll.poll(max(0, int(seconds * 1000 + 0.999)))]
        if self._read in ready:
            ready.remove(self._read)
            self.drain()
        return ready

    def drain(self) -> None:
        """Empty the pipe that woke this process."""
        try:
            while len(os.read(self._read, 512)) == 512:
                pass
        except OSError:
            pass  # empty by now

    def fileno(self) -> int:
        """Readable when a signal has come: for selectors."""
        return self._read

    def take(self) -> list:
        """The signals that came since the last call."""
        came, self._came = self._came, []
        return came

    def _note(self, number, frame):
        self._came.append(number)
