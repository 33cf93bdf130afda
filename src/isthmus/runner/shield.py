"""A shield between podman and signals: they go into the container by its name, not to podman.

Without root, podman is two processes, and the first of them ends at SIGTERM with 0, whatever the container does (seen
in 4.3.1): the command would never learn that it is to end.
"""

import os
import signal
import subprocess

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU)
WAITED_FOR = PASSED_ON + (signal.SIGCHLD,)
KILL_S = 20.0


def main(arguments: list) -> int:
    """The program ``shield NAME PODMAN run …``; podman's exit code, or 128 + its signal."""
    name, argv = arguments[0], arguments[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    podman = subprocess.Popen(argv, preexec_fn=_begin)
    while podman.poll() is None:
        number = signal.sigwait(WAITED_FOR)
        if number != signal.SIGCHLD:
            _pass_on(number, name, podman)
    return podman.returncode if podman.returncode >= 0 else 128 - podman.returncode


def _begin():
    """In the child, before it is podman: signals as they should be, and a group that the job's signals do not reach."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)


def _pass_on(number, name, podman):
    words = [podman.args[0], "kill", "--signal", str(int(number)), name]
    nothing = subprocess.DEVNULL
    try:
        told = subprocess.call(words, stdin=nothing, stdout=nothing, stderr=nothing, timeout=KILL_S, preexec_fn=_begin)
    except (OSError, subprocess.SubprocessError):
        told = 1
    if told != 0 and podman.poll() is None:
        podman.send_signal(number)  # there is no container yet
