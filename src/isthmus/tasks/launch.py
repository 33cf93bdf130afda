"""`runcompss` and `pycompss run`: a program with tasks, with the command lines that people have.

    runcompss [options] app.py [arguments]          python -m isthmus.tasks.launch ... is the same

Options that choose what is run here (workers, tracing, graph, checkpoints) are followed; those that tell a JVM, its
nodes or its network what to do are accepted and have nothing to do; what can't be done is refused with a sentence that
says what to do instead.
"""

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isthmus.domain.errors import Invalid, IsthmusError, nearest

# option -> the variable of ours that it sets
_FOLLOWED = {
    "--graph": "ISTHMUS_TASKS_GRAPH",
    "--tracing": "ISTHMUS_TASKS_TRACE",
    "--checkpoint_folder": "ISTHMUS_TASKS_CHECKPOINT",
    "--cpus_per_node": "ISTHMUS_TASKS_WORKERS",
    "--engine": "ISTHMUS_TASKS",
    "--workers": "ISTHMUS_TASKS_WORKERS",
    "--wall_clock_limit": "ISTHMUS_TASKS_WALL_CLOCK",
    "--monitoring": "ISTHMUS_TASKS_PROGRESS",
    "--summary": "ISTHMUS_TASKS_PROGRESS",
}
# What those mean that may stand without a value.
_DEFAULTS = {
    "ISTHMUS_TASKS_GRAPH": "complete_graph.svg",
    "ISTHMUS_TASKS_TRACE": "trace.prv",
    "ISTHMUS_TASKS_PROGRESS": "1",
}
_SHORT = {"g": "--graph", "t": "--tracing", "m": "--monitoring", "d": "--debug", "p": "--provenance", "h": "--help"}
_SHORT["v"] = "--version"
_OWN = (
    "--pythonpath", "--env_script", "--python_interpreter", "--lang", "--checkpoint", "--storage_impl",
    "--storage_conf", "--provenance", "--project", "--resources", "--help", "--opts", "--version",
)  # fmt: skip
# What is a matter of the JVM's, of its scheduler, or of machines that are not ours to start.
_ACCEPTED = (
    "debug", "log_level", "external_debugger", "jmx_port", "coverage", "task_execution", "extrae_config_file",
    "extrae_config_file_python", "trace_label", "tracing_task_dependencies", "generate_trace",
    "delete_trace_packages", "custom_threads", "comm", "conn", "streaming", "streaming_master_name",
    "streaming_master_port", "scheduler", "scheduler_config_file", "checkpoint_params", "library_path", "classpath",
    "appdir", "log_dir", "base_log_dir", "specific_log_dir", "master_working_dir", "worker_working_dir", "uuid",
    "master_name", "master_port", "jvm_master_opts", "jvm_workers_opts", "cpu_affinity", "gpu_affinity",
    "fpga_affinity", "fpga_reprogram", "io_executors", "task_count", "input_profile", "output_profile",
    "PyObject_serialize", "persistent_worker_c", "enable_external_adaptation", "gen_coredump", "keep_workingdir",
    "python_propagate_virtual_environment", "python_mpi_worker", "python_memory_profile", "python_worker_cache",
    "python_cache_profiler", "shutdown_in_node_failure", "reuse_resources_on_block", "flower", "recipe", "ear",
)  # fmt: skip
_ELSEWHERE = {
    "enqueue": "isthmus job submit sends a program to a cluster: isthmus job submit --cpus 8 -- runcompss app.py",
    "job": "isthmus job submit, isthmus job kill and isthmus ps are for jobs.",
    "jupyter": "Start Jupyter as ever; %load_ext isthmus, or pycompss.interactive, is all that a notebook needs.",
    "init": "There is nothing to set up: pycompss run app.py.",
    "environment": "There is nothing to set up: pycompss run app.py.",
    "monitor": "pycompss run --monitoring app.py shows its tasks; isthmus up has a page for each job.",
    "gengraph": "pycompss run --graph=graph.svg app.py draws it; .dot by the name's end.",
}

USAGE = """usage: runcompss [options] app.py [arguments]

  --workers=N            tasks at once (--cpus_per_node is the same)
  --engine=NAME          processes, threads, sequential or ray
  -g, --graph[=FILE]     write the task graph (SVG, or DOT by the name's end)
  -t, --tracing[=FILE]   write a trace (.prv for Paraver, .json for Perfetto)
  -m, --monitoring, --summary   show progress
  --checkpoint_folder=F  keep results there, and take them when run again
  --pythonpath=PATH      where modules are found
  --python_interpreter=P run it with that Python, which must have isthmus[tasks]
  --env_script=FILE      a shell script that is read first; may be given again
  --wall_clock_limit=S   cancel what is left when so many seconds are over
  --storage_impl=redis --storage_conf=FILE    persistent objects in the Redis that the file names
  --lang, -d, --log_level, --project, --resources, --comm, --scheduler, ... are accepted
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program that the command line names, in this process. Its exit code is the program's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["run"]:  # pycompss run
            words = words[1:]
        elif words and words[0] in _ELSEWHERE and not os.path.exists(words[0]):
            raise Invalid(f"pycompss {words[0]} is not there.", hint=_ELSEWHERE[words[0]])
        application, rest = _read(words)
        run = _prepared(application, rest)
    except IsthmusError as error:
        print(f"runcompss: {error}", file=sys.stderr)
        sys.exit(2)
    run()


def _read(words: list[str]) -> tuple[str, list[str]]:
    """The program and its arguments; what stands before them is done."""
    given: dict[str, str] = {}
    for place, word in enumerate(words):
        if not word.startswith("-"):
            _settle(given, words[:place], words[place:])
            return word, words[place + 1 :]
        for name, equals, value in _options(word):
            _take(name, equals, value, given)
    raise Invalid("There is no program to run.", hint="runcompss [options] app.py [arguments]")


def _options(word: str) -> list[tuple[str, str, str]]:
    """The options of a word, each with its "=" and its value: one, or several that are a letter each."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return [(name, equals, value)]
    for letter in word[1:]:
        if letter not in _SHORT:
            raise Invalid(f"{word!r} is no option of runcompss.", hint="See runcompss --help.")
    return [(_SHORT[letter], "", "") for letter in word[1:]]


def _take(name: str, equals: str, value: str, given: dict[str, str]) -> None:
    if name in ("--help", "--opts"):
        print(USAGE, end="")
        sys.exit(0)
    if name == "--version":
        from isthmus import __version__

        print(f"Isthmus {__version__}")
        sys.exit(0)
    if name in _FOLLOWED:
        _follow(name, equals, value)
    elif name == "--env_script":
        take_environment(value)
    elif name == "--pythonpath":
        paths = [path for path in value.split(os.pathsep) if path]
        sys.path[:0] = paths
        # For the commands of tasks, too.
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
    elif name in _OWN:
        given[name] = value
    elif name.removeprefix("--") not in _ACCEPTED:
        known = [*_FOLLOWED, *_OWN, *(f"--{option}" for option in _ACCEPTED)]
        raise Invalid(f"{name!r} is no option of runcompss.", hint=nearest(name, known) or "See runcompss --help.")


def _follow(name: str, equals: str, value: str) -> None:
    variable = _FOLLOWED[name]
    if not equals and variable not in _DEFAULTS:
        raise Invalid(f"{name} needs a value.", hint=f"Write {name}=VALUE.")
    if name == "--monitoring" and value.isdigit():
        value = "true" if int(value) else "false"  # milliseconds between two looks
    if value.lower() in ("false", "no", "off"):
        os.environ.pop(variable, None)
    elif not equals or value.lower() in ("true", "yes", "on", "basic", "advanced"):
        os.environ[variable] = _DEFAULTS.get(variable, value)
    else:
        os.environ[variable] = value


def _settle(given: dict[str, str], options: list[str], program: list[str]) -> None:
    """What needs a look at all options, or at none but itself: refused, or done."""
    language = given.get("--lang", "python").lower()
    if language != "python":
        raise Invalid(
            f"--lang={language}: programs in Python are run here, no others.",
            hint="A program in another language can be a task of one: @binary, @mpi, @julia.",
        )
    if "--provenance" in given:
        raise Invalid(
            "--provenance: a program with tasks leaves no provenance here.",
            hint="A workflow does: isthmus workflow crate. Without the option the program runs.",
        )
    policy = given.get("--checkpoint", "")
    if policy and not policy.endswith("NoCheckpoint") and not os.environ.get("ISTHMUS_TASKS_CHECKPOINT"):
        raise Invalid("--checkpoint needs --checkpoint_folder=FOLDER: where results are kept.")
    _storage(given.get("--storage_impl", ""), given.get("--storage_conf", ""))
    for name in ("--project", "--resources"):
        if given.get(name):
            print(
                f"runcompss: {name} says nothing here: tasks run on this machine's processors (--workers=N), on Ray, "
                "or at a site (@task(site=...)).",
                file=sys.stderr,
            )
            break
    _interpreter(given.get("--python_interpreter", ""), options, program)


def _storage(implementation: str, configuration: str) -> None:
    """Persistent objects: in Redis, or as modules say that stand at a path."""
    if not implementation:
        return
    if implementation.lower() == "redis":
        hosts = [line.strip() for line in _lines(configuration) if line.strip()]
        host = hosts[0] if hosts else "localhost"
        os.environ["ISTHMUS_TASKS_OBJECTS"] = f"redis://{host}" if ":" in host else f"redis://{host}:6379"
    elif os.path.isdir(implementation):
        sys.path.insert(0, implementation)
    else:
        raise Invalid(
            f"--storage_impl={implementation}: that store is not there.",
            hint="redis is, or a folder with a storage package. Without the option objects are kept in files.",
        )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines() if path and path != "null" else []
    except OSError as error:
        raise Invalid(f"{path} can't be read: {error.strerror}.", place="--storage_conf") from None


def _interpreter(wanted: str, options: list[str], program: list[str]) -> None:
    """Go on in the Python that was asked for, where it is another one than this."""
    if wanted in ("", "python", "python3"):
        return
    found = shutil.which(wanted)
    if found is None:
        raise Invalid(f"--python_interpreter={wanted}: there is no such Python here.", hint="Leave it out: this one.")
    if os.path.realpath(found) == os.path.realpath(sys.executable) or _version(found) == sys.version:
        return
    source = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), source]))
    environment = {**os.environ, "PYTHONPATH": paths}
    tried = subprocess.run(
        [found, "-c", "import isthmus.tasks.launch"], env=environment, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or [""])[-1]
        raise Invalid(
            f"--python_interpreter={wanted}: Isthmus does not run there: {said}",
            hint=f"It needs Python 3.11 or newer: {found} -m pip install isthmus[tasks].",
        )
    kept = [word for word in options if not word.startswith("--python_interpreter")]
    os.execve(found, [found, "-m", "isthmus.tasks.launch", *kept, *program], environment)


def _version(python: str) -> str:
    said = subprocess.run([python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def take_environment(script: str) -> None:
    """Take over what a shell script exports. Raises Invalid where it fails."""
    said = subprocess.run(
        ["bash", "-c", 'source "$0" >&2 && env -0', os.path.abspath(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        raise Invalid(f"{script} failed: {said.stderr.strip()[-300:]}", place="--env_script")
    for entry in said.stdout.split("\0"):
        name, equals, value = entry.partition("=")
        if equals and name not in ("_", "SHLVL", "PWD"):
            os.environ[name] = value


def _prepared(application: str, rest: list[str]) -> Callable[[], Any]:
    """What runs the program; its own failures are its own to show."""
    from isthmus.tasks.current import current
    from isthmus.tasks.pycompss import install

    install()
    sys.argv = [application, *rest]
    limit = os.environ.pop("ISTHMUS_TASKS_WALL_CLOCK", "")
    if limit:
        current().limit_time(_seconds(limit))
    if os.path.exists(application):
        sys.path.insert(0, os.path.dirname(os.path.abspath(application)))
        # Programs count on the `sys` that PyCOMPSs's launcher leaves about.
        return lambda: runpy.run_path(application, {"sys": sys}, run_name="__main__")
    if "/" in application:
        raise Invalid(f"{application} is not there.")
    sys.path.insert(0, os.getcwd())
    name = application.removesuffix(".py")
    if find_spec(name.partition(".")[0]) is None:
        raise Invalid(f"{application} is neither a file nor a module that can be imported.")
    return lambda: runpy.run_module(name, run_name="__main__", alter_sys=True)


def _seconds(limit: str) -> float:
    try:
        return float(limit)
    except ValueError:
        raise Invalid(f"{limit!r} is no number of seconds.", place="--wall_clock_limit") from None


if __name__ == "__main__":
    main()
