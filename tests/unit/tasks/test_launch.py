"""The command lines of runcompss: what is followed, what is accepted, what is refused with a way out."""

import os
import sys

import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import launch


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """What options leave in the environment and on the path goes again."""
    for name in list(os.environ):
        if name.startswith("ISTHMUS_TASKS"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "path", list(sys.path))


def read(line):
    return launch._read(line.split())


def test_the_documented_command_line(capsys):
    program = read(
        "--lang=python --python_interpreter=python3 -d --summary --graph=true --tracing --monitoring=2000 "
        "--project=project.xml --resources=resources.xml --pythonpath=/a:/b --comm=es.bsc.compss.nio.master.NIOAdaptor "
        "--scheduler=es.bsc.compss.scheduler.fifo.FIFOScheduler --log_level=off --checkpoint_folder=/kept "
        "--checkpoint=es.bsc.compss.checkpoint.policies.CheckpointPolicyFinishedTasks "
        "--checkpoint_params=finished.tasks:3 "
        "--specific_log_dir=/tmp/x --worker_working_dir=/tmp --master_working_dir=/tmp app.py 1 --graph two"
    )
    assert program == ("app.py", ["1", "--graph", "two"])
    set_here = {name: value for name, value in os.environ.items() if name.startswith("ISTHMUS_TASKS")}
    assert set_here == {
        "ISTHMUS_TASKS_GRAPH": "complete_graph.svg",
        "ISTHMUS_TASKS_TRACE": "trace.prv",
        "ISTHMUS_TASKS_PROGRESS": "1",
        "ISTHMUS_TASKS_CHECKPOINT": "/kept",
    }
    assert sys.path[:2] == ["/a", "/b"] and os.environ["PYTHONPATH"].startswith("/a:/b")
    assert "--workers=N" in capsys.readouterr().err  # what stands in XML files says nothing, and that is said


def test_letters_stand_together():
    assert read("-dgt app.py") == ("app.py", [])
    assert {"ISTHMUS_TASKS_GRAPH", "ISTHMUS_TASKS_TRACE"} <= set(os.environ)


def test_off_is_off():
    read("--graph=false --tracing=false --monitoring=0 app.py")
    assert not [name for name in os.environ if name.startswith("ISTHMUS_TASKS")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--grahp app.py", "--graph"),
        ("-x app.py", "--help"),
        ("--lang=java app.Main", "@binary"),
        ("--provenance app.py", "isthmus workflow crate"),
        ("-p app.py", "isthmus workflow crate"),
        ("--checkpoint=es.bsc.compss.checkpoint.policies.CheckpointPolicyPeriodicTime app.py", "--checkpoint_folder"),
        ("--storage_impl=hecuba app.py", "redis"),
        ("--python_interpreter=python0.9 app.py", "no such Python"),
        ("--workers app.py", "--workers=VALUE"),
        ("--graph", "no program"),
    ],
)
def test_what_is_refused_says_what_to_do(line, says):
    with pytest.raises(Invalid) as refused:
        read(line)
    assert says in str(refused.value)


def test_objects_in_redis(tmp_path):
    hosts = tmp_path / "storage.cfg"
    hosts.write_text("localhost\n")
    read(f"--storage_impl=redis --storage_conf={hosts} app.py")
    assert os.environ["ISTHMUS_TASKS_OBJECTS"] == "redis://localhost:6379"


def test_other_commands_of_pycompss_are_said_to_be_elsewhere(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        launch.main(["enqueue", "--num_nodes=2", "app.py"])
    assert ended.value.code == 2 and "isthmus job submit" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        launch.main(["run", "not-there.py"])
    assert "not-there.py" in capsys.readouterr().err
