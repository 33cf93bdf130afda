"""`pycompss.interactive`: tasks in a notebook, or at Python's prompt.

    import pycompss.interactive as ipycompss
    ipycompss.start(graph=True)
    ...
    ipycompss.stop(sync=True)

There is nothing to start: a first task does. What `start` is told of machines, JVMs and their files has nothing to do
here; the rest is followed.
"""

import sys
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks import current
from isthmus.tasks.futures import Future
from isthmus.tasks.verbs import wait_on

# What start is told, beside what it follows: graph, trace, monitor, nested_enabled, wcl, env_script, checkpoint_folder.
_ACCEPTED = (
    "app_name", "cache_profiler", "checkpoint_params", "checkpoint_policy", "comm", "conn", "cpu_affinity",
    "data_provenance", "debug", "disable_external", "ear", "external_adaptation", "extrae_cfg", "extrae_cfg_python",
    "extrae_final_directory", "fpga_affinity", "fpga_reprogram", "gpu_affinity", "io_executors", "jvm_workers",
    "log_dir", "log_level", "master_name", "master_port", "master_working_dir", "mpi_worker", "o_c",
    "profile_input", "profile_output", "project_xml", "propagate_virtual_environment", "resources_xml",
    "reuse_on_block", "scheduler", "scheduler_config", "shutdown_in_node_failure", "storage_conf", "storage_impl",
    "streaming_backend", "streaming_master_name", "streaming_master_port", "summary", "task_count",
    "task_execution", "trace_label", "tracing_task_dependencies", "uuid", "verbose", "worker_cache",
)  # fmt: skip
_FOLLOWED = ("graph", "trace", "monitor", "nested_enabled", "wcl", "env_script", "checkpoint_folder")

_seen: Any = None  # counts and graph of the program that runs, or ran last


def start(
    *,
    graph: bool = False,
    trace: bool = False,
    monitor: int = -1,
    nested_enabled: bool = False,
    wcl: int = 0,
    env_script: str = "",
    checkpoint_folder: str = "",
    **other: Any,
) -> None:
    """Start the workers. `trace`: write trace.prv at the end; `wcl`: cancel what is left after so many seconds.

    Raises Invalid for a word that PyCOMPSs has not, naming the nearest.
    """
    global _seen
    for word in other:
        if word not in _ACCEPTED:
            raise Invalid(
                f"{word!r} is nothing that start can be told.",
                place="pycompss.interactive.start",
                hint=nearest(word, [*_FOLLOWED, *_ACCEPTED]),
            )
    if current.running() is not None:
        print("The runtime is already running")
        return
    if env_script:
        from isthmus.tasks.launch import take_environment

        take_environment(env_script)
    wanted: dict[str, Any] = {"nested": nested_enabled or None, "checkpoint": checkpoint_folder or None}
    if trace:
        wanted["trace"] = "trace.prv"
    program = current.start(**{name: value for name, value in wanted.items() if value is not None})
    if wcl:
        program.limit_time(float(wcl))
    _seen = _watching(program)


def _watching(program: Any) -> Any:
    """What counts the program's tasks; in a notebook it shows each cell's progress too."""
    from isthmus.tasks.watch.notebook import Seen, load

    shell = _shell()
    if shell is not None:
        if not hasattr(shell, "_isthmus_tasks"):
            load(shell)
        return shell._isthmus_tasks.seen()
    seen = Seen()
    program.watchers.append(seen)
    return seen


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def stop(sync: bool = False, _hard_stop: bool = False) -> None:
    """Wait for all tasks and stop the workers.

    With `sync`, the variables of whoever calls that stand for values of tasks have these values afterwards.
    """
    program = current.running()
    if program is None:
        print("The runtime is not running.")
        return
    if sync and not _hard_stop:
        names = sys._getframe(1).f_globals
        for name, value in list(names.items()):
            if not name.startswith("_") and _stands(value, program):
                names[name] = wait_on(value)
    current.stop(kill=_hard_stop)


def _stands(value: Any, program: Any) -> bool:
    """Whether the variable is a future, or something that tasks have been given, or may hold such."""
    if isinstance(value, Future | list | dict | tuple):
        return True
    tracker = getattr(program, "tracker", None)  # nothing stands for anything where each call runs at once
    return tracker is not None and tracker.find(value) is not None


def tasks_info() -> Any:
    """How many tasks of each function were called, ended and failed, and what they took."""
    return _shown(
        _watched().table(),
        "\n".join(
            f"{name}: {called:.0f} called, {ended:.0f} ended, {failed:.0f} failed"
            for name, (called, ended, failed, _) in _watched().counts.items()
        ),
    )


def tasks_status() -> Any:
    """How many tasks were called, ended and failed."""
    called, ended, failed = _watched().total()
    text = f"{ended} of {called} tasks have ended, {failed} of them failed."
    return _shown(text, text)


statistics = monitoring_information = tasks_info


def resources_status() -> Any:
    """The engine and its workers."""
    program = current.running()
    text = "Nothing runs." if program is None else f"{program.engine.workers} workers, engine {program.engine.name}."
    return _shown(text, text)


def current_task_graph(fit: bool = False, refresh_rate: int = 1, timeout: int = 0, widget: Any = None) -> Any:
    """The graph of the tasks so far, drawn."""
    svg = _watched().drawing.svg()
    if _shell() is None:
        return svg
    from IPython.display import SVG

    return SVG(svg)


complete_task_graph = current_task_graph


def _watched() -> Any:
    if _seen is None:
        raise Invalid("No tasks are watched.", hint="Call pycompss.interactive.start first.")
    return _seen


def _shown(markup: str, text: str) -> Any:
    if _shell() is None:
        print(text)
        return None
    from IPython.display import HTML

    return HTML(markup)
