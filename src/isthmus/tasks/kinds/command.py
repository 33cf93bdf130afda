"""A task that is a program: `@binary`, and what the others that end in a command share.

Its arguments are the task's parameters in order, after what `args` says; a parameter with a `Prefix` is joined to it,
one with the prefix "#" is left out, and files that are STDIN, STDOUT or STDERR are its standard streams.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.directions import DEFAULT, FILE, STDERR, STDIN, STDOUT
from isthmus.tasks.failures import TaskError
from isthmus.tasks.kinds.words import fill, given, listed, placed, show

LEFT_OUT = "#"
_TAIL = 2000  # characters of a failed command's output that its error shows


class CommandFailed(TaskError):
    """A task's command could not be started, or gave an exit code that is not 0."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Files in the place of standard input, output and error; and how each is opened."""

    stdin: str = ""
    stdout: tuple[str, str] = ("", "")
    stderr: tuple[str, str] = ("", "")


def words(
    task: Task, values: Mapping[str, Any], args: str = "", folder: str | None = None
) -> tuple[list[str], Streams]:
    """The arguments of the command, and its streams. With `folder`, `args` may have wildcards for what is there."""
    found: list[str] = []
    stdin, stdout, stderr = "", ("", ""), ("", "")
    if args:
        found += listed(args, values, task, folder)
    for name, value in values.items():
        how = task.shape.parameters.get(name, DEFAULT)
        if how.stdio:
            mode = "ab" if how.reads else "wb"
            if how.stdio == STDIN:
                stdin = os.fspath(value)
            elif how.stdio == STDOUT:
                stdout = (os.fspath(value), mode)
            elif how.stdio == STDERR:
                stderr = (os.fspath(value), mode)
        elif args or how.prefix == LEFT_OUT or value is None:
            continue
        elif how.prefix:
            found.append(how.prefix + show(value))
        elif isinstance(value, list | tuple):
            found += [show(item) for item in value]
        elif isinstance(value, str) and how.kind != FILE:
            found.append(value)
        else:
            found.append(show(value))
    return found, Streams(stdin, stdout, stderr)


def execute(
    task: Task, command: Sequence[str], streams: Streams, *, folder: str = "", fail: bool = True, env: Any = None
) -> int:
    """Run a command to its end. Its exit code; CommandFailed where it is not 0 and `fail`, or it can't be started."""
    with ExitStack() as stack:

        def opened(path: str, mode: str) -> Any:
            return stack.enter_context(open(os.path.abspath(path), mode)) if path else None

        stdin = opened(streams.stdin, "rb")
        stdout, stderr = opened(*streams.stdout), opened(*streams.stderr)
        if folder:
            os.makedirs(folder, exist_ok=True)
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=stderr if stderr is not None else subprocess.PIPE,
                cwd=folder or None,
                env=env,
                preexec_fn=_die_with_worker,
            )
        except OSError as error:
            raise CommandFailed(
                f"{task.name}: {command[0]} can't be started: {error.strerror or error}.",
                place=place_of(task.function),
                hint="Is it installed here, and on the PATH?",
            ) from error
        out, err = process.communicate()
    for name, data in (("1", out), ("2", err)):
        if data:
            os.write(int(name), data)
    code = process.returncode
    if code and fail:
        how = f"was ended by signal {-code}" if code < 0 else f"gave exit code {code}"
        tail = (err or out or b"").decode(errors="replace")[-_TAIL:].strip()
        raise CommandFailed(f"{task.name}: {shlex.join(command)} {how}." + (f"\n{tail}" if tail else ""))
    return code


def _die_with_worker() -> None:
    """A command does not outlive the worker that waits for it, however that ends (prctl, PR_SET_PDEATHSIG)."""
    import ctypes

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def outcome(task: Task, code: int) -> Any:
    """What the task returns: the exit code, if it declares a value."""
    return code if task.shape.returns else None


@dataclass(frozen=True, slots=True)
class Binary:
    """`@binary`: a program with the task's parameters as its arguments."""

    binary: str
    args: str = ""
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def command(self, task: Task, values: Mapping[str, Any], *, here: bool = True) -> tuple[list[str], Streams, str]:
        """The command, its streams, and the folder that it runs in. `here`: which has this machine's files."""
        folder = fill(self.working_dir, values, task) if self.working_dir else ""
        arguments, streams = words(task, values, self.args, folder if here else None)
        return [fill(self.binary, values, task), *arguments], streams, folder

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        command, streams, folder = self.command(task, placed(task, given(task, args, kwargs), self.working_dir))
        return outcome(task, execute(task, command, streams, folder=folder, fail=self.fail_by_exit_value))
