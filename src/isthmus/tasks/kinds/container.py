"""`@container`: the task's program, or its function, in an image, by whichever engine is named or found.

The folder that the program works in and those of its files are mounted where they are. A function needs a Python in
the image that is this one's version or newer; what it imports comes from here.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.kinds.command import Binary, Streams, execute, outcome
from isthmus.tasks.kinds.mpi import Mpi, take
from isthmus.tasks.kinds.words import fill, given, listed, placed

ENGINES = {
    "DOCKER": ("docker",),
    "PODMAN": ("podman",),
    "SINGULARITY": ("singularity", "apptainer"),
    "APPTAINER": ("apptainer", "singularity"),
    "CHARLIECLOUD": ("ch-run",),
    "UDOCKER": ("udocker",),
}


@dataclass(frozen=True, slots=True)
class Container:
    """See the module. `inner`: the program; without one, the function."""

    image: str
    engine: str = ""
    options: str = ""
    inner: Any = None

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Run it in the image."""
        values = given(task, args, kwargs)
        program = find(self.engine, task)
        image = fill(self.image, values, task)
        options = listed(self.options, values, task)
        mounts = {os.getcwd(), *(os.path.dirname(os.path.abspath(path)) for path in _files(task, values))}
        if isinstance(self.inner, Binary):
            command, streams, folder = self.inner.command(task, placed(task, values, self.inner.working_dir))
            folder = os.path.abspath(folder) if folder else os.getcwd()
            wrapped = wrap(program, image, command, {*mounts, folder}, folder, options)
            return outcome(task, execute(task, wrapped, streams, fail=self.inner.fail_by_exit_value))
        if isinstance(self.inner, Mpi) and self.inner.binary:
            start, command, streams, folder = self.inner.command(task, placed(task, values, self.inner.working_dir))
            folder = os.path.abspath(folder) if folder else os.getcwd()
            wrapped = [*start, *wrap(program, image, command, {*mounts, folder}, folder, options)]
            env = self.inner.environment(task, values)
            return outcome(task, execute(task, wrapped, streams, fail=self.inner.fail_by_exit_value, env=env))
        if self.inner is not None:
            raise Invalid(
                f"{task.name}: @container takes a @binary, an @mpi program or the function.",
                place=place_of(task.function),
            )
        return self._function(task, program, image, mounts, options, args, kwargs)

    def _function(
        self, task: Task, program: str, image: str, mounts: set[str], options: list[str], args: Any, kwargs: Any
    ) -> Any:
        import cloudpickle

        with tempfile.TemporaryDirectory(prefix="isthmus-container-") as place:
            os.chmod(place, 0o755)
            with open(os.path.join(place, "call"), "wb") as file:
                cloudpickle.dump((task.function, args, kwargs), file, 5)
            paths = [path for path in sys.path if path and os.path.isdir(path)]
            code = (
                f"import sys, pickle; sys.path[:0] = {paths!r}\n"
                f"f, a, k = pickle.load(open({place + '/call'!r}, 'rb'))\n"
                f"pickle.dump((f(*a, **k), a, k), open({place + '/result'!r}, 'wb'), 5)"
            )
            bound = {*mounts, place, *paths}
            command = wrap(program, image, ["python3", "-c", code], bound, os.getcwd(), options)
            execute(task, command, Streams())
            with open(os.path.join(place, "result"), "rb") as file:
                value, after, named = pickle.load(file)
        for name in task.shape.written:
            if name in task.shape.index and task.shape.index[name] < len(args):
                take(args[task.shape.index[name]], after[task.shape.index[name]])
            elif name in kwargs:
                take(kwargs[name], named[name])
        return value


def find(engine: str, task: Task) -> str:
    """The program of an engine that is installed."""
    wanted = engine.upper()
    if wanted and wanted not in ENGINES:
        raise Invalid(
            f"{engine!r} is no container engine.", place=place_of(task.function), hint=nearest(wanted, ENGINES)
        )
    candidates = ENGINES[wanted] if wanted else tuple(name for names in ENGINES.values() for name in names)
    if wanted == "DOCKER":
        candidates = ("docker", "podman")  # the same command line
    for name in candidates:
        if shutil.which(name):
            return name
    raise Invalid(
        f"{task.name} needs {engine or 'a container engine'}, and {' or '.join(candidates)} is not installed here.",
        place=place_of(task.function),
    )


def wrap(program: str, image: str, command: list[str], mounts: set[str], folder: str, options: list[str]) -> list[str]:
    """The command line that runs a command in an image."""
    outer = sorted(path for path in mounts if path not in ("/", "/tmp") or program in ("docker", "podman"))
    if program in ("docker", "podman", "udocker"):
        words = [program, "run", "--rm", "-i"]
        for path in outer:
            words += ["-v", f"{path}:{path}"]
        return [*words, "-w", folder, *options, image, *command]
    if program == "ch-run":
        words = ["env", f"USER={os.environ.get('USER', 'root')}", program]  # which it insists on
        if _fakes_writes():
            words.append("--write-fake")
        for path in outer:
            if path.startswith("/tmp/"):
                continue  # the image has this machine's /tmp
            # Older ones mount only where the image has a folder.
            with suppress(OSError):
                os.makedirs(os.path.join(image, path.lstrip("/")), exist_ok=True)
            words += ["-b", f"{path}:{path}"]
        return [*words, f"--cd={folder}", *options, image, "--", *command]
    words = [program, "exec"]
    for path in outer:
        words += ["-B", path]
    return [*words, "--pwd", folder, *options, image, *command]


def _fakes_writes() -> bool:
    """Whether this charliecloud can make mount points in an image that it does not write to (0.32 and later)."""
    said = subprocess.run(["ch-run", "--help"], capture_output=True, text=True, check=False)
    return "write-fake" in said.stdout + said.stderr


def _files(task: Task, values: dict[str, Any]) -> list[str]:
    from isthmus.tasks.directions import DIRECTORY, FILE

    kinds = {name: how.kind for name, how in task.shape.parameters.items()}
    return [value for name, value in values.items() if kinds.get(name) in (FILE, DIRECTORY) and value]
