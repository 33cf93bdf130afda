"""Tasks that are programs of other kinds, as far as they are commands:

a program with tasks, Julia, OpenCL, OmpSs, Decaf.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.tasks.declaration import Task
from isthmus.tasks.kinds.command import Streams, execute, outcome, words
from isthmus.tasks.kinds.mpi import launcher
from isthmus.tasks.kinds.words import fill, given, listed, placed, whole

_OURS = (sys.executable, "-m", "isthmus.tasks.launch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A command whose last words are the task's parameters. Each kind says how it begins."""

    working_dir: str = ""
    fail_by_exit_value: bool = True

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """The command up to the parameters."""
        raise NotImplementedError

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it to its end."""
        values = placed(task, given(task, args, kwargs), self.working_dir)
        arguments, streams = words(task, values)
        return self._executed(task, values, [*self.begin(task, values), *arguments], streams)

    def _executed(self, task: Task, values: Mapping[str, Any], command: list[str], streams: Streams) -> Any:
        folder = fill(self.working_dir, values, task) if self.working_dir else ""
        return outcome(task, execute(task, command, streams, folder=folder, fail=self.fail_by_exit_value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Program(Started):
    """`@compss`: another program with tasks, with workers of its own."""

    app_name: str
    runcompss: str = ""
    flags: str = ""
    computing_nodes: Any = 1

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """runcompss, its flags, the program."""
        start = [fill(self.runcompss, values, task)] if self.runcompss else [*_OURS]
        return [*start, *listed(self.flags, values, task), fill(self.app_name, values, task)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Julia(Started):
    """`@julia`: a script, by `executor`."""

    script: str
    executor: str = "julia"
    args: str = ""

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """Julia, its options, the script."""
        options = listed(self.args, values, task)
        return [fill(self.executor, values, task), *options, fill(self.script, values, task)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCL(Started):
    """`@opencl`: a program that runs the kernel."""

    kernel: str

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """The program."""
        return [fill(self.kernel, values, task)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OmpSs(Started):
    """`@ompss`: a program that is parallel in itself."""

    binary: str

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """The program."""
        return [fill(self.binary, values, task)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decaf(Started):
    """`@decaf`: a script makes the workflow's description, and MPI runs the executor on it."""

    df_script: str
    df_executor: str = "executor.sh"
    df_lib: str = ""
    runner: str = "mpirun"
    computing_nodes: Any = 1

    def begin(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        """The script."""
        return [sys.executable, fill(self.df_script, values, task)]

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run both to their end."""
        values = placed(task, given(task, args, kwargs), self.working_dir)
        arguments, streams = words(task, values)
        self._executed(task, values, [*self.begin(task, values), *arguments], Streams())
        ranks = whole(self.computing_nodes, values, task, "computing_nodes")
        start = launcher(fill(self.runner, values, task), ranks)
        return self._executed(task, values, [*start, fill(self.df_executor, values, task)], streams)
