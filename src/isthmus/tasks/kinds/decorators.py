"""The decorators of tasks that are not their function alone: each stands above `@task`."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.domain.errors import Invalid, NotFound, nearest
from isthmus.tasks.constraints import constraint
from isthmus.tasks.declaration import Task, declare
from isthmus.tasks.kinds.around import Around
from isthmus.tasks.kinds.command import Binary
from isthmus.tasks.kinds.container import Container
from isthmus.tasks.kinds.http import Http
from isthmus.tasks.kinds.mpi import Mpi, MpmdMpi
from isthmus.tasks.kinds.multinode import MultiNode
from isthmus.tasks.kinds.programs import Decaf, Julia, OmpSs, OpenCL, Program

_OLD = {
    "workingDir": "working_dir",
    "WorkingDir": "working_dir",
    "params": "args",
    "computingNodes": "computing_nodes",
    "appName": "app_name",
    "workerInMaster": "worker_in_master",
    "ppn": "processes_per_node",
    "dfScript": "df_script",
    "dfExecutor": "df_executor",
    "dfLib": "df_lib",
}


def _task(thing: Any) -> Task:
    return thing if isinstance(thing, Task) else declare(thing, {})


def _made(kind: type, decorator: str, given: Mapping[str, Any], *, ignored: tuple[str, ...] = ()) -> Any:
    """The kind, of what the decorator was given. Raises Invalid for a word that it does not know."""
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    values: dict[str, Any] = {}
    for word, value in given.items():
        name = _OLD.get(word, word)
        if name == "fail_by_exit_value" and isinstance(value, str):
            value = value.lower() != "false"
        if name in fields:
            values[name] = value
        elif name not in ignored:
            raise Invalid(f"{word!r} is no argument of {decorator}.", place=decorator, hint=nearest(name, fields))
    missing = [
        name
        for name, field in fields.items()
        if field.default is field.default_factory and name not in values  # both are MISSING where there is neither
    ]
    if missing:
        raise Invalid(f"{decorator} needs {missing[0]}=.", place=decorator)
    return kind(**values)


def _mark(kind: Any) -> Callable[[Any], Task]:
    def mark(thing: Any) -> Task:
        task = _task(thing)
        task.kind = kind
        return task.redeclare()

    return mark


def binary(**given: Any) -> Callable[[Any], Task]:
    """The task is a program: `binary`, `args` (with `{{parameter}}`), `working_dir`, `fail_by_exit_value`."""
    words = dict(given)
    engine, image = words.pop("engine", None), words.pop("image", None)
    kind = _made(Binary, "@binary", words)
    if engine or image:
        return _mark(Container(str(image), str(engine or ""), inner=kind))
    return _mark(kind)


def mpi(**given: Any) -> Callable[[Any], Task]:
    """The task runs as MPI ranks: a program (`binary`), or the function itself with mpi4py.

    `runner`, `processes` (a number, `${VARIABLE}` or a parameter), `processes_per_node`, `flags`, `args`,
    `working_dir`, `scale_by_cu`, `fail_by_exit_value`; `PARAMETER_layout={block_count, block_length, stride}` deals a
    collection out to the ranks.
    """
    layouts = {word.removesuffix("_layout"): value for word, value in given.items() if word.endswith("_layout")}
    words = {word: value for word, value in given.items() if not word.endswith("_layout")}
    for old in ("computing_nodes", "computingNodes"):
        if old in words:
            words.setdefault("processes", words.pop(old))
    return _mark(_made(Mpi, "@mpi", {**words, "layouts": layouts}))


def mpmd_mpi(**given: Any) -> Callable[[Any], Task]:
    """Several programs in one MPI world: `programs=[{"binary", "args", "processes"}, ...]`."""
    return _mark(_made(MpmdMpi, "@mpmd_mpi", given))


def container(**given: Any) -> Callable[[Any], Task]:
    """The task runs in an image:

    `engine` (docker, podman, singularity, apptainer, charliecloud), `image`, `options`.
    """

    def mark(thing: Any) -> Task:
        task = _task(thing)
        kind = _made(Container, "@container", given)
        inner = task.kind
        task.kind = Container(kind.image, kind.engine, kind.options, inner)
        return task.redeclare()

    return mark


def http(**given: Any) -> Callable[[Any], Task]:
    """The task is a request:

    `service_name`, `request`, `resource`, `payload`, `payload_type`, `produces`, `updates`.
    """
    return _mark(_made(Http, "@http", given))


def prolog(**given: Any) -> Callable[[Any], Task]:
    """A program before the task, where it runs: `binary`, `args`, `fail_by_exit_value`."""
    return _around("@prolog", given, after=False)


def epilog(**given: Any) -> Callable[[Any], Task]:
    """A program after the task, where it runs: `binary`, `args`, `fail_by_exit_value`."""
    return _around("@epilog", given, after=True)


def _around(decorator: str, given: Mapping[str, Any], *, after: bool) -> Callable[[Any], Task]:
    kind = _made(Around, decorator, {**given, "after": after})

    def mark(thing: Any) -> Task:
        task = _task(thing)
        task.around.append(kind)
        return task.redeclare()

    return mark


def multinode(**given: Any) -> Callable[[Any], Task]:
    """The function runs once, told of `computing_nodes` nodes as SLURM would tell it."""
    return _mark(_made(MultiNode, "@multinode", given))


def compss(**given: Any) -> Callable[[Any], Task]:
    """The task is a program with tasks of its own: `app_name`, `flags`, `working_dir`."""
    return _mark(_made(Program, "@compss", given, ignored=("worker_in_master",)))


def julia(**given: Any) -> Callable[[Any], Task]:
    """The task is a Julia script: `script`, `executor`, `args`."""
    return _mark(_made(Julia, "@julia", given, ignored=("computing_nodes",)))


def opencl(**given: Any) -> Callable[[Any], Task]:
    """The task is a program for an OpenCL kernel: `kernel`."""
    return _mark(_made(OpenCL, "@opencl", given))


def ompss(**given: Any) -> Callable[[Any], Task]:
    """The task is an OmpSs program: `binary`."""
    return _mark(_made(OmpSs, "@ompss", given, ignored=("computing_nodes",)))


def decaf(**given: Any) -> Callable[[Any], Task]:
    """The task is a Decaf workflow: `df_script`, `df_executor`, `df_lib`, `runner`."""
    return _mark(_made(Decaf, "@decaf", given))


def software(*, config_file: str) -> Callable[[Any], Task]:
    """What the task is stands in a JSON file:

    its `execution`, `parameters`, `constraints`, `container`, `prolog`, `epilog`.
    """

    def mark(thing: Any) -> Task:
        import json

        path = os.path.expandvars(config_file)
        try:
            with open(path) as file:
                described = json.load(file)
        except FileNotFoundError:
            raise NotFound(f"{path} is not there.", place="@software: config_file") from None
        except json.JSONDecodeError as error:
            raise Invalid(f"It is no JSON: {error}.", place=f"{path}:{error.lineno}") from None
        return _described(thing, described, path)

    return mark


_EXECUTIONS: dict[str, Any] = {
    "binary": binary,
    "mpi": mpi,
    "mpmd_mpi": mpmd_mpi,
    "http": http,
    "compss": compss,
    "multinode": multinode,
    "julia": julia,
}


def _described(thing: Any, described: Mapping[str, Any], path: str) -> Task:
    if isinstance(thing, Task):
        task = thing
    else:
        parameters = described.get("parameters", {})
        task = declare(thing, {name: _value(value) for name, value in parameters.items()})
    execution = dict(described.get("execution", {}))
    kind = execution.pop("type", "task") or "task"
    if kind not in ("task", "workflow"):
        if kind not in _EXECUTIONS:
            raise Invalid(f"{kind!r} is no kind of execution.", place=path, hint=nearest(kind, _EXECUTIONS))
        if kind == "binary":
            execution.pop("runner", None)
        task = _EXECUTIONS[kind](**execution)(task)
    for name, decorator in (("container", container), ("prolog", prolog), ("epilog", epilog)):
        if name in described:
            task = decorator(**described[name])(task)
    if "constraints" in described:
        task = constraint(**described["constraints"])(task)
    return task


def _value(value: Any) -> Any:
    """A parameter of a JSON file: a direction's name, or a dict with Type, Depth and so on."""
    if isinstance(value, Mapping):
        return {str(key).lower(): inner for key, inner in value.items()}
    return 1 if value in ("int", "str", "object", "list", "dict", "float") else value
