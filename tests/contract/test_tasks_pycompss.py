"""What programs of PyCOMPSs count on, the same on every engine."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import start, stop, task, wait_on
from isthmus.tasks.compiled import compiled
from isthmus.tasks.directions import TABLE
from tests.testbed.taskengines import *  # noqa: F403


@task(spreads=True)
def spread(x):
    if x > 1:
        return x, [x]
    return x + 1, None


class Counter:
    def __init__(self, n):
        self.n = n

    @task()
    def add(self, more):
        self.n += more

    @task(target_direction=TABLE["IN"], returns=1)
    def doubled(self):
        return 2 * self.n


@task(returns=Counter)
def counter(n):
    time.sleep(0.05)
    return Counter(n)


def test_what_a_return_statement_writes_out_is_several_values(engine):
    first, second = spread(3)
    assert wait_on(first, second) == [3, [3]]
    assert list(wait_on(spread(1))) == [2, None]


@task(returns=1)
def zeros(dtype):
    return np.zeros(3, dtype)


def test_a_class_is_an_argument_as_any_other(engine):
    assert wait_on(zeros(np.float32)).dtype == np.float32


@task(returns=1)
def seen(values):
    return values


@task(returns=1)
def unsendable():
    return threading.Lock()


def test_what_cannot_be_pickled_is_named_with_its_place():
    start(engine="processes", workers=2)
    try:
        with pytest.raises(Invalid, match=r"The lock values\['deep'\]\[1\] in the argument 'values' .*seen"):
            seen({"deep": [zeros(int), threading.Lock()]})
        with pytest.raises(Invalid, match=r"The argument 'values' of .*seen can't be sent"):
            seen(threading.Lock())
        with pytest.raises(TypeError) as failed:
            wait_on(unsendable())
        assert "can't be sent back" in str(failed.value.__notes__) and "unsendable" in str(failed.value.__notes__)
    finally:
        stop(kill=True)


@task(returns=1, numba=True, on_failure="FAIL")
def fast(x):
    return x + 1


@task(returns=1, numba="nijt", on_failure="FAIL")
def mistyped(x):
    return x + 1


def test_numba_is_asked_for_by_name(parallel, monkeypatch):
    with pytest.raises(Invalid, match="njit"):
        wait_on(mistyped(1))
    monkeypatch.setitem(sys.modules, "numba", None)  # as where it is not installed
    with pytest.raises(Invalid, match="pip install numba"):
        compiled(fast)


def test_methods_that_are_tasks_are_called_on_futures(engine):
    made = counter(4)
    made.add(3)
    made.add(wait_on(counter(1)).n)
    assert wait_on(made.doubled()) == 16
    assert wait_on(made).n == 8
    made.add(1)  # its class is known by its value now
    assert wait_on(made).n == 9


def test_a_future_says_why_it_has_no_attribute(parallel):
    made = counter(4)
    with pytest.raises(AttributeError, match="wait_on it first"):
        made.n  # noqa: B018
    assert not hasattr(made, "anything")


def test_a_direction_of_nothing_is_left_over():
    from isthmus.tasks.pycompss.api.task import task as as_there

    with pytest.warns(UserWarning, match="'valeus' is no parameter .*values"):

        @as_there(valeus=TABLE["INOUT"], values=TABLE["INOUT"])
        def f(values):
            pass

    assert f.shape.written == ["values"]
    with pytest.raises(Invalid, match="returns"):
        as_there(retruns=1)(f.function)


# -- pycompss.interactive --------------------------------------------------------------------------------------------


@pytest.fixture
def prompt(tmp_path, monkeypatch):
    """Where a person types, with nothing running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISTHMUS_TASKS_WORKERS", "2")
    yield {"task": task, "__name__": "__main__"}
    stop(kill=True)


def test_stop_brings_the_prompts_variables_up_to_date(prompt, capsys, tmp_path):
    from isthmus.tasks.pycompss import interactive

    said = (
        "interactive.start(graph=True, trace=True, project_xml='project.xml', debug=True)\n"
        "a = add(2, 3)\n"
        "several = [add(a, 1), 7]\n"
        "values = [1]\n"
        "append(values)\n"
        "interactive.tasks_info()\n"
        "drawn = interactive.current_task_graph()\n"
        "interactive.stop(sync=True)\n"
    )
    prompt |= {"interactive": interactive, "add": add_two, "append": append_one}
    exec(said, prompt)
    assert (prompt["a"], prompt["several"], prompt["values"]) == (5, [6, 7], [1, 1])
    assert "add_two: 2 called" in capsys.readouterr().out
    assert prompt["drawn"].count("<circle") >= 3
    assert (tmp_path / "trace.prv").exists()
    interactive.stop()
    assert "not running" in capsys.readouterr().out


def test_what_start_is_told_wrongly_has_a_nearest(prompt):
    from isthmus.tasks.pycompss import interactive

    with pytest.raises(Invalid, match="graph"):
        interactive.start(grahp=True)


@task(returns=1)
def add_two(a, b):
    return a + b


@task(values=TABLE["INOUT"])
def append_one(values):
    values.append(1)


# -- the package -----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
NAMES = """
from pycompss.api.task import task, Task
from pycompss.api.api import (
    TaskGroup, compss_add_logger, compss_barrier, compss_barrier_group, compss_cancel_group, compss_delete_file,
    compss_delete_object, compss_file_exists, compss_free_resources, compss_get_number_of_resources, compss_open,
    compss_request_resources, compss_set_wall_clock, compss_snapshot, compss_start, compss_stop, compss_wait_on,
    compss_wait_on_directory, compss_wait_on_file,
)
from pycompss.api.parameter import *
from pycompss.api.binary import binary, Binary
from pycompss.api.compss import compss
from pycompss.api.constraint import constraint
from pycompss.api.container import container
from pycompss.api.data_transformation import *
from pycompss.api.decaf import decaf
from pycompss.api.epilog import epilog
from pycompss.api.exceptions import COMPSsException
from pycompss.api.http import http
from pycompss.api.implement import implement
from pycompss.api.IO import IO
from pycompss.api.julia import julia
from pycompss.api.local import local
from pycompss.api.mpi import mpi
from pycompss.api.mpmd_mpi import mpmd_mpi
from pycompss.api.multinode import multinode
from pycompss.api.ompss import ompss
from pycompss.api.on_failure import on_failure
from pycompss.api.opencl import opencl
from pycompss.api.prolog import prolog
from pycompss.api.reduction import reduction
from pycompss.api.software import software
from pycompss.functions.data import generator
from pycompss.functions.elapsed_time import timeit
from pycompss.functions.reduce import merge_reduce
from pycompss.functions.map import map
from pycompss.runtime.management.classes import Future
from pycompss.dds import DDS
from pycompss.streams.distro_stream import FileDistroStream, ObjectDistroStream, PscoDistroStream
from pycompss.util.serialization.serializer import deserialize_from_file, serialize_to_file
from storage.api import getByID
import pycompss.interactive
assert {Type: FILE_IN, Depth: 1, Direction: IN, StdIOStream: STDOUT, Prefix: "", Weight: "", Keep_rename: 0, Cache: 0}
assert dt and dto and FILE_TO_OBJECT and COLLECTION_INOUT and DICTIONARY_OUT and STREAM_IN and FILE_CONCURRENT
assert block_count and block_length and stride and DIRECTORY_INOUT and COLLECTION_FILE_OUT and IN_DELETE
print("all there")
"""


def python(code, *paths):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), str(ROOT / "src")])}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


def test_the_documented_names_are_there():
    said = python(NAMES, ROOT / "compat" / "pycompss")
    assert said.stdout == "all there\n", said.stderr


def test_it_refuses_to_stand_beside_pycompss_itself(tmp_path):
    folder = tmp_path / "pycompss-3.3.3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pycompss\nVersion: 3.3.3\n")
    said = python("import pycompss", ROOT / "compat" / "pycompss", tmp_path)
    assert said.returncode and "PyCOMPSs itself is installed" in said.stderr


def test_runcompss_does_not_stand_before_an_installed_pycompss(tmp_path):
    (tmp_path / "pycompss").mkdir()
    (tmp_path / "pycompss" / "__init__.py").touch()
    said = python("from isthmus.tasks.pycompss import install; install()", tmp_path)
    assert said.returncode and "Another PyCOMPSs is installed" in said.stderr


def test_python_m_pycompss_runs_a_program_and_shows_its_own_failure(tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom pycompss.api.task import task\nfrom pycompss.api.constraint import constraint\n"
        "from pycompss.api.api import compss_wait_on\n"
        "@task()\ndef both(x):\n    return x, x + 1\n"
        "@constraint(computing_units=4000)\n@task(returns=1)\ndef huge():\n    return 1\n"
        "a, b = both(int(sys.argv[1]))\nprint(compss_wait_on(a, b))\nhuge()\n"
    )
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'compat' / 'pycompss'}{os.pathsep}{ROOT / 'src'}",
        "ISTHMUS_CONFIG": str(tmp_path / "none"),
    }
    env.pop("ISTHMUS_URL", None)
    command = [sys.executable, "-m", "pycompss", "run", "-d", "--lang=python", str(app), "4"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert said.stdout == "[4, 5]\n", said.stderr
    assert said.returncode == 1 and "Traceback" in said.stderr and "computing_units=4000" in said.stderr
