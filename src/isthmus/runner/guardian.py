"""The guardian: a process that outlives the runner by a moment, and ends what the runner left if that was killed.

For runners that a batch system starts. Those of the keeper are watched by the keeper.
"""

import os
import signal

from isthmus.runner import command
from isthmus.runner import folder as files

DONE = b"."


class Guardian(object):
    """Watches this process through a pipe, from a process that is not its child."""

    def __init__(self, folder: files.Folder) -> None:
        reads, self._pipe = os.pipe()
        first = os.fork()
        if first == 0:
            # Twice, so that it is nobody's child here: whatever the runner kills at the end, it is not among them.
            if os.fork() == 0:
                os.close(self._pipe)
                _guard(reads, folder)
            os._exit(0)
        os.waitpid(first, 0)
        os.close(reads)

    def dismiss(self) -> None:
        """The runner has ended the command itself."""
        os.write(self._pipe, DONE)
        os.close(self._pipe)


def _guard(pipe, folder):
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.chdir("/")
    if os.read(pipe, 1) != DONE:
        command.kill_strays([folder])
    os._exit(0)
