"""`runcompss` and `pycompss run`: a program with tasks, with the command lines that people have.

    runcompss [options] app.py [arguments]          python -m isthmus.tasks.launch ... is the same

Options that choose what is run here (workers, tracing, graph, checkpoints) are followed; those that tell a JVM, its
nodes or its network what to do are accepted and have nothing to do.
"""

import os
import runpy
import sys
from collections.abc import Sequence

from isthmus.domain.errors import Invalid, IsthmusError

# option -> the variable of ours that it sets
_FOLLOWED = {
    "--graph": "ISTHMUS_TASKS_GRAPH",
    "-g": "ISTHMUS_TASKS_GRAPH",
    "--tracing": "ISTHMUS_TASKS_TRACE",
    "-t": "ISTHMUS_TASKS_TRACE",
    "--checkpoint_folder": "ISTHMUS_TASKS_CHECKPOINT",
    "--cpus_per_node": "ISTHMUS_TASKS_WORKERS",
    "--engine": "ISTHMUS_TASKS",
    "--workers": "ISTHMUS_TASKS_WORKERS",
}
_DEFAULTS = {"ISTHMUS_TASKS_GRAPH": "complete_graph.svg", "ISTHMUS_TASKS_TRACE": "trace.prv"}
# What is PyCOMPSs's own to say, and takes its value as the next word when there is no "=".
_SHORT_WITHOUT_VALUE = {"-d", "-m", "-t", "-g", "-h"}

USAGE = """usage: runcompss [options] app.py [arguments]

  --workers=N            tasks at once (--cpus_per_node is the same)
  --engine=NAME          processes, threads, sequential or ray
  -g, --graph[=FILE]     write the task graph (SVG, or DOT by the name's end)
  -t, --tracing[=FILE]   write a trace (.prv for Paraver, .json for Perfetto)
  --checkpoint_folder=F  keep results there, and take them when run again
  --pythonpath=PATH      where modules are found
  --env_script=FILE      a shell script that is read first
  --wall_clock_limit=S   cancel what is left when so many seconds are over
  -m, --summary, -d, --debug, --lang, --project, --resources, ... are accepted
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program that the command line names, in this process. Its exit code is the program's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:  # pycompss run
        words = words[1:]
    try:
        application, rest = _read(words)
        _run(application, rest)
    except IsthmusError as error:
        print(f"runcompss: {error}", file=sys.stderr)
        sys.exit(2)


def _read(words: list[str]) -> tuple[str, list[str]]:
    while words:
        word = words.pop(0)
        if word in ("-h", "--help", "--opts"):
            print(USAGE, end="")
            sys.exit(0)
        if not word.startswith("-"):
            return word, words
        name, equals, value = word.partition("=")
        if name in _FOLLOWED:
            variable = _FOLLOWED[name]
            if value.lower() in ("false", "no") or (not equals and variable not in _DEFAULTS):
                if not equals:
                    raise Invalid(f"{name} needs a value.", hint=f"Write {name}=VALUE.")
                continue
            is_switch = not equals or value.lower() in ("true", "yes", "on")
            os.environ[variable] = _DEFAULTS.get(variable, value) if is_switch else value
        elif name == "--pythonpath" and value:
            sys.path[:0] = value.split(os.pathsep)
        elif name == "--env_script" and value:
            _source(value)
        elif name == "--wall_clock_limit" and value:
            os.environ["ISTHMUS_TASKS_WALL_CLOCK"] = value
        elif name == "--python_interpreter" or equals or name.startswith("--") or name in _SHORT_WITHOUT_VALUE:
            continue  # a matter of the JVM's, or of machines that are not ours to start
        else:
            raise Invalid(f"{word!r} is no option of runcompss.", hint="See runcompss --help.")
    raise Invalid("There is no program to run.", hint="runcompss [options] app.py [arguments]")


def _source(script: str) -> None:
    """Take over what a shell script exports."""
    import subprocess

    said = subprocess.run(
        ["bash", "-c", 'source "$0" >&2 && env -0', script], capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise Invalid(f"{script} failed: {said.stderr.strip()[-300:]}", place="--env_script")
    for entry in said.stdout.split("\0"):
        name, equals, value = entry.partition("=")
        if equals and name not in ("_", "SHLVL", "PWD"):
            os.environ[name] = value


def _run(application: str, rest: list[str]) -> None:
    from isthmus.tasks.current import current
    from isthmus.tasks.pycompss import install

    install()
    sys.argv = [application, *rest]
    limit = os.environ.pop("ISTHMUS_TASKS_WALL_CLOCK", "")
    if limit:
        current().limit_time(float(limit))
    if os.path.exists(application):
        sys.path.insert(0, os.path.dirname(os.path.abspath(application)))
        runpy.run_path(application, run_name="__main__")
    else:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(application.removesuffix(".py"), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
