"""The command lines of container engines. The real engines are a matter of the system tests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from isthmus.runner import containers
from isthmus.runner.containers import ContainerError, Place, explain, wrap

PROGRAMS = ("apptainer", "podman", "docker", "ch-run")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder with an image and an attempt, and programs of every engine's name."""
    for name in PROGRAMS:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    for folder in ("jobs/1.1-a/work", "cache/root", "data"):
        (tmp_path / "w" / folder).mkdir(parents=True)
    (tmp_path / "w/cache/image").write_bytes(b"sif")
    return tmp_path / "w"


def place(site: Path, **more: Any) -> Place:
    job = str(site / "jobs/1.1-a")
    return Place(str(site), job + "/work", "isthmus-1.1-a", [[job, job, "rw"]], **more)


ENV = {"PATH": "/usr/bin:/bin", "DEPTH": "3", "API_KEY": "s3cret", "SLURM_PROCID": "1", "USER": "u", "HOME": "/h"}
GIVEN = ["DEPTH", "API_KEY"]


CD = {
    "apptainer": "--pwd",
    "singularity": "--pwd",
    "podman": "--workdir",
    "docker": "--workdir",
    "charliecloud": "--cd",
}


@pytest.mark.parametrize("engine", sorted(containers._WRAP))
@pytest.mark.parametrize("image", ["cache/root", "cache/image", "registry.example/x:1"])
def test_in_every_engine(site: Path, engine: str, image: str) -> None:
    """No value in an argument; the work folder is the current one; the command comes last, as it is."""
    if engine in ("podman", "docker") and image == "cache/image":
        return  # no image of theirs: see below
    if engine == "docker" and image == "cache/root":
        return
    made = wrap({"engine": engine, "image": image, "options": ["--option"]}, ["prog", "a b"], ENV, GIVEN, place(site))
    assert made.argv[-2:] == ["prog", "a b"]
    assert not any("s3cret" in word for word in made.argv)
    assert "s3cret" in made.env.values()
    assert "jobs/1.1-a/work" in made.argv[made.argv.index(CD[engine]) + 1]
    assert "--option" in made.argv[: made.argv.index("prog")]


def test_apptainer(site: Path) -> None:
    spec = {"engine": "apptainer", "image": "cache/image", "binds": [[str(site / "data"), "/data", "ro"]], "gpu": True}
    made = wrap(spec, ["prog"], ENV, GIVEN, place(site))
    job = str(site / "jobs/1.1-a")
    assert made.argv[1:] == [
        "exec", "--pwd", job + "/work", "--bind", f"{site}/data:/data:ro", "--bind", f"{job}:{job}:rw", "--nv",
        str(site / "cache/image"), "prog",
    ]  # fmt: skip
    assert made.env["APPTAINERENV_API_KEY"] == "s3cret" and made.env["APPTAINERENV_SLURM_PROCID"] == "1"


def test_singularity_is_the_same_program_by_another_name(site: Path) -> None:
    (site.parent / "bin/apptainer").rename(site.parent / "bin/singularity")
    made = wrap({"engine": "apptainer", "image": "cache/image"}, ["prog"], ENV, GIVEN, place(site))
    assert made.argv[0].endswith("/singularity") and made.env["SINGULARITYENV_DEPTH"] == "3"


def test_podman_takes_the_names_and_removes_what_a_killed_one_leaves(site: Path) -> None:
    made = wrap({"engine": "podman", "image": "localhost/x:1"}, ["prog"], ENV, GIVEN, place(site, gpu=True))
    words = " ".join(made.argv)
    assert "--env API_KEY --env DEPTH --env SLURM_PROCID localhost/x:1 prog" in words
    assert "--name isthmus-1.1-a" in words and "--device nvidia.com/gpu=all" in words and "--network=host" in words
    assert made.cleanup[1:] == ["rm", "--force", "--ignore", "--time", "0", "isthmus-1.1-a"]


def test_podman_runs_root_folders_and_archives(site: Path) -> None:
    made = wrap({"engine": "podman", "image": "cache/root"}, ["prog"], ENV, [], place(site))
    assert made.argv[-3:] == ["--rootfs", str(site / "cache/root"), "prog"]
    for name, form in (("oci-layout", "oci-archive"), ("manifest.json", "docker-archive")):
        archive = site / "cache/archive.tar"
        with tarfile.open(archive, "w") as bundle:
            bundle.addfile(tarfile.TarInfo("blobs"))
            bundle.addfile(tarfile.TarInfo(name), io.BytesIO())
        made = wrap({"engine": "podman", "image": "cache/archive.tar"}, ["prog"], ENV, [], place(site))
        assert made.argv[-2:] == [f"{form}:{archive}", "prog"]
    with pytest.raises(ContainerError, match="not an image that podman can run"):
        wrap({"engine": "podman", "image": "cache/image"}, ["prog"], ENV, [], place(site))


def test_docker_runs_as_the_user(site: Path) -> None:
    made = wrap({"engine": "docker", "image": "x:1"}, ["prog"], ENV, GIVEN, place(site))
    import os

    words = " ".join(made.argv)
    assert f"--user {os.getuid()}:{os.getgid()}" in words and "--init" in made.argv
    with pytest.raises(ContainerError, match="load it first"):
        wrap({"engine": "docker", "image": "cache/image"}, ["prog"], ENV, GIVEN, place(site))


def test_charliecloud_makes_bind_targets_in_a_root_folder(site: Path) -> None:
    spec = {"engine": "charliecloud", "image": "cache/root", "binds": [[str(site / "data"), "/in/data"]]}
    made = wrap(spec, ["prog"], ENV, GIVEN, place(site))
    job = str(site / "jobs/1.1-a")
    assert made.argv[1:] == [
        "--bind", f"{site}/data:/in/data", "--bind", job, "--cd", job + "/work", str(site / "cache/root"), "--", "prog",
    ]  # fmt: skip
    assert (site / "cache/root/in/data").is_dir() and (site / "cache/root" / job.lstrip("/")).is_dir()


def test_charliecloud_that_can_make_no_targets_sees_the_site_under_mnt(site: Path) -> None:
    env = {**ENV, "ISTHMUS_REPORT": str(site / "jobs/1.1-a/metrics")}
    argv = ["sh", str(site / "jobs/1.1-a/script")]
    made = wrap({"engine": "charliecloud", "image": "cache/image"}, argv, env, ["ISTHMUS_REPORT"], place(site))
    assert made.argv[1:] == [
        "--bind", f"{site}:/mnt", "--cd", "/mnt/jobs/1.1-a/work", str(site / "cache/image"), "--",
        "sh", "/mnt/jobs/1.1-a/script",
    ]  # fmt: skip
    assert made.env["ISTHMUS_REPORT"] == "/mnt/jobs/1.1-a/metrics"


def test_charliecloud_that_can_make_targets_does(site: Path) -> None:
    (site.parent / "bin/ch-run").write_text("#!/bin/sh\necho '  -W, --write-fake[=SIZE]'\n")
    made = wrap({"engine": "charliecloud", "image": "cache/image"}, ["prog"], ENV, [], place(site))
    assert made.argv[1] == "--write-fake" and "--cd" in made.argv and "/mnt" not in made.argv


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"engine": "rkt", "image": "x"}, "no container engine 'rkt'"),
        ({"engine": "podman", "image": "x", "binds": [["/nowhere/data", "/data"]]}, "/nowhere/data.*does not exist"),
        ({"engine": "charliecloud", "image": "x", "binds": [["/usr", "/a:b"]]}, "has a ':' or ','"),
    ],
)
def test_what_can_not_be_done(site: Path, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ContainerError, match=said):
        wrap(spec, ["prog"], ENV, [], place(site))


def test_an_engine_that_is_not_there(site: Path) -> None:
    (site.parent / "bin/ch-run").unlink()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch, pytest.raises(ContainerError, match="charliecloud is not on this node's path"):
        patch.setenv("PATH", "/nowhere")
        wrap({"engine": "charliecloud", "image": "cache/root"}, ["prog"], ENV, [], place(site))


@pytest.mark.parametrize(
    ("engine", "code", "tail", "reason"),
    [
        ("apptainer", 255, b'FATAL:   "nope": executable file not found in $PATH\n', "COMMAND"),
        ("apptainer", 255, b"FATAL:   could not open image /x.sif: no such file\n", "CONTAINER"),
        ("apptainer", 255, b"the program's own words\n", None),
        ("apptainer", 1, b"FATAL: printed by the program\n", None),
        ("podman", 125, b"Error: short-name resolution failed\n", "CONTAINER"),
        ("podman", 127, b"Error: crun: executable file `nope` not found in $PATH: No such file\n", "COMMAND"),
        (
            "docker",
            127,
            b'docker: Error response from daemon: exec: "nope": executable file not found in $PATH\n',
            "COMMAND",
        ),
        ("podman", 127, b"sh: nope: not found\n", None),
        ("charliecloud", 1, b"ch-run[12]: error: can't execve(2): nope: No such file (ch_core.c:410 2)\n", "COMMAND"),
        ("charliecloud", 1, b"ch-run[12]: error: can't stat: /nonexist: No such file (ch_core.c:255 2)\n", "CONTAINER"),
        ("charliecloud", 1, b"Traceback\n", None),
        ("none", 1, b"x", None),
    ],
)
def test_the_engines_own_failures(engine: str, code: int, tail: bytes, reason: str | None) -> None:
    told = explain(engine, code, tail)
    assert (told[0] if told else None) == reason
    assert told is None or told[1] in tail.decode()
