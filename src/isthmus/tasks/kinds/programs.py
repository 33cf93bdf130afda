"""Tasks that are programs of other kinds, as far as they are commands:

a program with tasks, Julia, OpenCL, OmpSs, Decaf.
"""

import sys
from dataclasses import dataclass
from typing import Any

from isthmus.tasks.declaration import Task
from isthmus.tasks.kinds.command import Streams, execute, outcome, words
from isthmus.tasks.kinds.mpi import launcher
from isthmus.tasks.kinds.words import fill, given, whole


def _start(kind: Any, task: Task, command: list[str], values: dict[str, Any], streams: Streams) -> Any:
    folder = fill(kind.working_dir, values, task) if kind.working_dir else ""
    return outcome(task, execute(task, command, streams, folder=folder, fail=kind.fail_by_exit_value))


@dataclass(frozen=True, slots=True)
class Program:
    """`@compss`: another program with tasks, with workers of its own."""

    app_name: str
    runcompss: str = ""
    flags: str = ""
    computing_nodes: Any = 1
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        values = given(task, args, kwargs)
        arguments, streams = words(task, values)
        start = [sys.executable, "-m", "isthmus.tasks.launch"]
        if self.runcompss:
            start = [fill(self.runcompss, values, task)]
        flags = fill(self.flags, values, task).split()
        return _start(self, task, [*start, *flags, fill(self.app_name, values, task), *arguments], values, streams)


@dataclass(frozen=True, slots=True)
class Julia:
    """`@julia`: a script, by `executor`."""

    script: str
    executor: str = "julia"
    args: str = ""
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        values = given(task, args, kwargs)
        arguments, streams = words(task, values)
        options = fill(self.args, values, task).split()
        command = [fill(self.executor, values, task), *options, fill(self.script, values, task), *arguments]
        return _start(self, task, command, values, streams)


@dataclass(frozen=True, slots=True)
class OpenCL:
    """`@opencl`: a program that runs the kernel."""

    kernel: str
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        values = given(task, args, kwargs)
        arguments, streams = words(task, values)
        return _start(self, task, [fill(self.kernel, values, task), *arguments], values, streams)


@dataclass(frozen=True, slots=True)
class OmpSs:
    """`@ompss`: a program that is parallel in itself."""

    binary: str
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        values = given(task, args, kwargs)
        arguments, streams = words(task, values)
        return _start(self, task, [fill(self.binary, values, task), *arguments], values, streams)


@dataclass(frozen=True, slots=True)
class Decaf:
    """`@decaf`: a script makes the workflow's description, and MPI runs the executor on it."""

    df_script: str
    df_executor: str = "executor.sh"
    df_lib: str = ""
    runner: str = "mpirun"
    computing_nodes: Any = 1
    working_dir: str = ""
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run both to their end."""
        values = given(task, args, kwargs)
        arguments, streams = words(task, values)
        script = fill(self.df_script, values, task)
        _start(self, task, [sys.executable, script, *arguments], values, Streams())
        ranks = whole(self.computing_nodes, values, task, "computing_nodes")
        start = launcher(fill(self.runner, values, task), ranks, "")
        return _start(self, task, [*start, fill(self.df_executor, values, task)], values, streams)
