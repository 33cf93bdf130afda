"""The look at a node: the script itself is run by sh here, in whatever engines this machine has."""

import subprocess
from pathlib import Path

import pytest

from isthmus.proxy.batch import hardware, node

PRINTED = """\
Welcome to node 7
isthmus-node: arch x86_64
isthmus-node: engine apptainer apptainer version 1.4.5
isthmus-node: engine ch-run 0.31
isthmus-node: engine podman podman version 4.3.1
isthmus-node: scratch /localscratch
isthmus-node: python Python 3.9.2
isthmus-node: api no
isthmus-node: end
"""


def test_reads_what_the_script_prints_among_noise() -> None:
    facts, complete = node.parse(PRINTED)
    assert complete
    assert facts == {
        "engines": {"apptainer": "1.4.5", "charliecloud": "0.31", "podman": "4.3.1"},
        "scratch": "/localscratch",
        "architecture": "x86_64",
        "nodes_reach_api": False,
        "node_python": "Python 3.9.2",
    }
    assert node.notes(facts) == []
    assert "node_python" not in facts


@pytest.mark.parametrize("said", ["", "Python 2.7.18", "bash: python3: command not found", "Python 3.5.1"])
def test_a_python_that_is_too_old_is_told(said: str) -> None:
    assert "3.6" in node.notes({"node_python": said})[0]


def test_half_an_output_is_not_taken() -> None:
    assert node.parse(PRINTED[:-5])[1] is False


def test_the_script_runs_in_a_bare_shell(tmp_path: Path) -> None:
    engine = tmp_path / "apptainer"
    engine.write_text("#!/bin/sh\necho apptainer version 9.8.7\n")
    engine.chmod(0o755)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho Cannot connect >&2; exit 1\n")
    docker.chmod(0o755)
    job_folder = tmp_path / "scratch" / "job-77"
    job_folder.mkdir(parents=True)
    done = subprocess.run(
        ["bash"],
        input=node.script("http://127.0.0.1:9", ("SET_UP=done", "export SET_UP")),
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "TMPDIR": str(job_folder),
            "SLURM_JOB_ID": "77",
            "BASH_FUNC_module%%": "() { :; }",  # a cluster's own: /etc/profile is left alone then
        },
        capture_output=True,
        text=True,
        check=True,
    )
    facts, complete = node.parse(done.stdout)
    assert complete
    assert facts["engines"]["apptainer"] == "9.8.7"
    assert "docker" not in facts["engines"], "a client without its server is no engine"
    assert facts["scratch"] == str(tmp_path / "scratch"), "the folder of the job itself goes with it"
    assert facts["nodes_reach_api"] is False
    assert facts["node_python"].startswith("Python 3")


def test_an_address_can_not_smuggle_a_command() -> None:
    assert "touch" not in node.script('http://x"; touch /tmp/y; "', python="python3; touch /tmp/y")


def test_waiting_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "WAIT_S", 0.0)
    assert node.wait_for(str(tmp_path / "never")) is None


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("a100", 40),
        ("nvidia_a100-sxm4-80gb", 80),
        ("a100_3g.20gb", 20),
        ("tesla_v100", 16),
        ("V100-32G", 32),
        ("h100", 80),
        ("l40s", 48),
        ("", 0),
        ("gpu", 0),
        ("rtx_3090", 0),
    ],
)
def test_what_a_gpu_holds_at_least(name: str, gib: int) -> None:
    assert hardware.gpu_mem(name) == gib * 2**30
