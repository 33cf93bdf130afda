"""Running the batch system's own commands: bounded in time, in the C locale, with their words kept for errors."""

import os
import signal
import subprocess
from collections import namedtuple

from isthmus.proxy.errors import ProxyError

Result = namedtuple("Result", "code stdout stderr")


def call(argv, timeout_s=60.0, stdin="", cwd=None, env=None, base=None):
    """Run ``argv`` without a shell and return ``Result(code, stdout, stderr)``, texts decoded leniently.

    ``env`` is added to the environment; the locale is C, so that parsers see one language. With ``base``, that is the
    environment instead of this process's own, its locale included. A command that does not exist raises ProxyError
    ``batch-missing``; one that takes longer than ``timeout_s`` is killed with all that it started and raises
    ``batch-unavailable`` (transient). An exit code other than 0 raises nothing: see :func:`check`.
    """
    environment = dict(os.environ, LC_ALL="C", LANG="C") if base is None else dict(base)
    environment.update(env or {})
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        if cwd is not None and not os.path.isdir(cwd):
            raise ProxyError("not-found", "There is no folder %s." % cwd)
        raise ProxyError(
            "batch-missing",
            "There is no command %r on this machine's path." % argv[0],
            "Load the module that brings it, or add its folder to PATH in the site's set-up lines.",
        )
    except OSError as error:
        raise ProxyError("batch-unavailable", "%s could not be started: %s." % (argv[0], error), transient=True)
    try:
        out, err = process.communicate(stdin.encode("utf-8") if stdin else None, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise ProxyError(
            "batch-unavailable",
            "%s gave no answer within %g s." % (argv[0], timeout_s),
            "The scheduler may be busy or down; it is asked again.",
            transient=True,
        )
    return Result(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def check(argv, result, code="batch-unavailable", hint="", transient=True):
    """Return ``result.stdout``, or raise ProxyError with the command's own words if its exit code is not 0."""
    if result.code == 0:
        return result.stdout
    said = (result.stderr.strip() or result.stdout.strip())[-2000:]
    how = "ended with exit code %d" % result.code
    if result.code < 0:
        how = "was killed by signal %d" % -result.code
    message = "%s %s%s" % (argv[0], how, ": " + said if said else ".")
    raise ProxyError(code, message, hint, transient)


def said(result):
    """A command's own words, on one line."""
    text = result.stderr.strip() or result.stdout.strip() or "exit code %d" % result.code
    lines = [line.strip() for line in text.split("\n")]
    return "; ".join(line for line in lines if line and line != "Exiting.")[-2000:]  # Grid Engine's last word


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    # What it started may hold the pipes open: close our ends instead of reading on.
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()
