"""`@mpi`: a program, or the function itself, on several ranks; `@mpmd_mpi`: several programs in one MPI world."""

import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from isthmus.domain.errors import Invalid
from isthmus.tasks.constraints import units
from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.kinds.command import Streams, execute, outcome, words
from isthmus.tasks.kinds.words import fill, given, listed, placed, whole


def launcher(runner: str, ranks: int, flags: Sequence[str] = (), per_node: int = 0) -> list[str]:
    """The command line that starts so many ranks."""
    name = os.path.basename(runner)
    command = [runner, "-n", str(ranks)]
    if name in ("mpirun", "mpiexec", "orterun") and _is_open_mpi(runner):
        # On a machine that is shared with other tasks: more ranks than cores, not bound to the same ones, as root too.
        command += ["--oversubscribe", "--bind-to", "none"]
        if os.getuid() == 0:
            command.append("--allow-run-as-root")
    if per_node and name == "srun":
        command += ["--ntasks-per-node", str(per_node)]
    return [*command, *flags]


def _is_open_mpi(runner: str) -> bool:
    found = os.path.realpath(shutil.which(runner) or "")
    return "openmpi" in found or "orte" in found or "prte" in found


@dataclass(frozen=True, slots=True)
class Mpi:
    """See the module. `layouts`: which part of a collection each rank of the function gets."""

    COUNTS: ClassVar = ("processes",)
    runner: str = "mpirun"
    binary: str = ""
    args: str = ""
    processes: Any = 1
    processes_per_node: Any = 0
    flags: str = ""
    working_dir: str = ""
    scale_by_cu: Any = False
    fail_by_exit_value: bool = True
    layouts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def ranks(self, task: Task, values: Mapping[str, Any]) -> int:
        """How many ranks."""
        count = whole(self.processes, values, task, "processes")
        if self._scales:
            count *= units(task, values, sys.maxsize)
        return count

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Start the ranks and wait for their end."""
        values = placed(task, given(task, args, kwargs), self.working_dir)
        if not self.binary:
            return self._function(task, values)
        start, command, streams, folder = self.command(task, values)
        env = self.environment(task, values)
        whole_command = [*start, *command]
        return outcome(
            task, execute(task, whole_command, streams, folder=folder, fail=self.fail_by_exit_value, env=env)
        )

    def command(self, task: Task, values: Mapping[str, Any]) -> tuple[list[str], list[str], Streams, str]:
        """What starts the ranks, what each is, their streams, and the folder that they run in."""
        folder = self._folder(task, values)
        arguments, streams = words(task, values, self.args, folder)
        return self._start(task, values), [fill(self.binary, values, task), *arguments], streams, folder

    def _start(self, task: Task, values: Mapping[str, Any]) -> list[str]:
        per_node = whole(self.processes_per_node, values, task, "processes_per_node") if self.processes_per_node else 0
        flags = listed(self.flags, values, task)
        return launcher(fill(self.runner, values, task), self.ranks(task, values), flags, per_node)

    def _folder(self, task: Task, values: Mapping[str, Any]) -> str:
        return fill(self.working_dir, values, task) if self.working_dir else ""

    def environment(self, task: Task, values: Mapping[str, Any]) -> dict[str, str]:
        """The environment of the ranks: the task's processors are each rank's threads, unless they are more ranks."""
        threads = 1 if self._scales else units(task, values, sys.maxsize)
        return {**os.environ, "OMP_NUM_THREADS": str(max(1, threads))} if task.constraints else {**os.environ}

    @property
    def _scales(self) -> bool:
        return str(self.scale_by_cu).lower() == "true"

    def _function(self, task: Task, values: dict[str, Any]) -> Any:
        """Each rank calls the function; the task returns a list of what they return, by rank."""
        from isthmus.tasks.kinds import rank

        ranks = self.ranks(task, values)
        with tempfile.TemporaryDirectory(prefix="isthmus-mpi-") as place:
            with open(os.path.join(place, "call"), "wb") as file:
                file.write(rank.packed(task, values))
            for number in range(ranks):
                own = {name: part(values[name], layout, number, ranks) for name, layout in self.layouts.items()}
                with open(os.path.join(place, f"layout-{number}"), "wb") as file:
                    pickle.dump(own, file)
            env = {**self.environment(task, values), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            command = [*self._start(task, values), sys.executable, "-m", "isthmus.tasks.kinds.rank", place]
            execute(task, command, Streams(), folder=self._folder(task, values), env=env)
            results = []
            for number in range(ranks):
                with open(os.path.join(place, f"result-{number}"), "rb") as file:
                    results.append(pickle.load(file))
        changed = results[0][1]
        for name, value in changed.items():
            take(values[name], value)
        return [result for result, _ in results]


def take(old: Any, new: Any) -> None:
    """What another process has changed in place is changed here."""
    if isinstance(old, list):
        old[:] = new
    elif isinstance(old, dict):
        old.clear()
        old.update(new)
    elif hasattr(old, "__setitem__") and hasattr(old, "shape"):
        old[...] = new
    elif hasattr(old, "__dict__"):
        old.__dict__.update(new.__dict__)


def part(values: Sequence[Any], layout: Mapping[str, int], rank: int, ranks: int) -> Any:
    """What a rank gets of a collection: its blocks, each of `block_length` elements, `stride` apart.

    Blocks are dealt out one by one, as cards are; where none gets two, a rank has its block itself instead of a list.
    """
    length, stride = int(layout.get("block_length", 1)), int(layout.get("stride", 1))
    count = int(layout.get("block_count", 0)) or len(values) // max(1, stride)
    each = -(-count // ranks)
    blocks = []
    for block in range(rank, count, ranks):
        begin = block * stride
        piece = list(values[begin : begin + length])
        blocks.append(piece[0] if length == 1 and len(piece) == 1 else piece)
    return blocks[0] if each == 1 and blocks else blocks


@dataclass(frozen=True, slots=True)
class MpmdMpi:
    """`@mpmd_mpi`: programs side by side in one MPI world."""

    programs: Sequence[Mapping[str, Any]]
    runner: str = "mpirun"
    working_dir: str = ""
    processes_per_node: Any = 0
    fail_by_exit_value: bool = True

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Start all and wait for their end."""
        values = placed(task, given(task, args, kwargs), self.working_dir)
        if not self.programs:
            raise Invalid(f"{task.name}: @mpmd_mpi names no programs.", place=place_of(task.function))
        runner = fill(self.runner, values, task)
        folder = fill(self.working_dir, values, task) if self.working_dir else ""
        command: list[str] = []
        for number, program in enumerate(self.programs):
            ranks = whole(program.get("processes", 1), values, task, f"programs[{number}].processes")
            start = launcher(runner, ranks)
            command += [":", *start[1:3]] if command else start
            arguments = program.get("args", program.get("params", ""))
            command += [fill(program["binary"], values, task), *listed(arguments, values, task, folder)]
        _, streams = words(task, values, " ")
        return outcome(task, execute(task, command, streams, folder=folder, fail=self.fail_by_exit_value))
