"""The scripts that start the archive's programs, run by the shells that sites have."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.domain.errors import BadReply, Refused, Unreachable
from isthmus.sites.archive import Archive
from isthmus.sites.launch import MISSING, Launch

PROGRAM = b"import os, sys; print(sys.argv, os.environ.get('FROM_PROFILE', ''), sys.stdin.read())"
ARCHIVE = Archive(PROGRAM, "0123456789ab")
SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "tcsh", "csh", "fish", "ksh") if shutil.which(shell)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".profile").write_text("echo noise; cat; export FROM_PROFILE=yes\n")
    return tmp_path


def run(argv: list[str], home: Path, stdin: bytes = b"", shell: str = "") -> subprocess.CompletedProcess[bytes]:
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    if shell:
        argv = [shell, "-c", shlex.join(argv)]
    return subprocess.run(argv, input=stdin, capture_output=True, env=env, cwd="/", timeout=30)


def installed(launch: Launch, home: Path) -> None:
    assert run(launch.install(), home, PROGRAM).returncode == 0


@pytest.mark.parametrize("workdir", ["~/.isthmus/1", "~", "work here", "{home}/deep/er's"])
@pytest.mark.parametrize("shell", SHELLS)
def test_install_and_start_below_the_home_folder_or_elsewhere(home: Path, workdir: str, shell: str) -> None:
    launch = Launch(ARCHIVE, workdir.replace("{home}", str(home)))
    where = Path(launch.workdir.replace("~", str(home), 1))
    where = where if where.is_absolute() else home / where
    assert run(launch.program("proxy", "TOKEN"), home, shell=shell).returncode == MISSING
    assert run(launch.install(), home, PROGRAM, shell=shell).returncode == 0
    done = run(launch.program("proxy", "TOKEN", "--batch", "a 'b' $c"), home, b"stdin", shell=shell)
    archive = where / "bin" / ARCHIVE.name
    words = [str(archive), "proxy", "--token", "TOKEN", "--batch", "a 'b' $c", "--workdir", str(where)]
    assert (done.stdout.decode().strip(), done.stderr, done.returncode) == (f"{words}  stdin", b"", 0)
    assert archive.stat().st_mode & 0o077 == 0
    assert [path.name for path in archive.parent.iterdir()] == [ARCHIVE.name]


def test_an_archive_that_came_in_part_is_not_taken(home: Path) -> None:
    launch = Launch(ARCHIVE, "~/w")
    done = run(launch.install(), home, PROGRAM[:-1])
    assert done.returncode != 0
    assert list((home / "w" / "bin").iterdir()) == []
    error = launch.install_failure("hpc", done.returncode, done.stderr.decode())
    assert isinstance(error, Unreachable) and "in part" in error.message


def test_a_login_shell_is_used_only_where_the_batch_system_is_not_on_the_path(home: Path) -> None:
    """Its files may print and read as they like: the requests are still all there."""
    for command, profile in (("ls", ""), ("isthmus-no-such-command", "yes")):
        launch = Launch(ARCHIVE, "~/w", command=command)
        installed(launch, home)
        done = run(launch.program("proxy", "T", "--x", "a b $c"), home, b"the requests")
        last = done.stdout.decode().strip().splitlines()[-1]
        assert last.endswith(f"'--x', 'a b $c', '--workdir', '{home}/w'] {profile} the requests"), done


@pytest.mark.parametrize("python", ["isthmus-python", "~/isthmus-python"])
def test_a_python_that_is_not_there(home: Path, python: str) -> None:
    launch = Launch(ARCHIVE, "~/w", python=python)
    installed(launch, home)
    done = run(launch.program("proxy", "T"), home)
    error = launch.failure("hpc", done.returncode, done.stderr.decode())
    assert (error.code, "isthmus-python" in error.message) == ("no-python", True)
    assert "python" in error.hint


def test_a_python_in_the_home_folder(home: Path) -> None:
    (home / "py").symlink_to(Path(sys.executable).resolve())
    launch = Launch(ARCHIVE, "~/w", python="~/py")
    installed(launch, home)
    assert run(launch.program("proxy", "T"), home).returncode == 0


def test_a_work_folder_that_can_not_be_made(home: Path) -> None:
    (home / "file").write_text("")
    launch = Launch(ARCHIVE, "~/file/w")
    done = run(launch.install(), home, PROGRAM)
    error = launch.install_failure("hpc", done.returncode, done.stderr.decode())
    assert (error.code, "Not a directory" in error.message) == ("no-workdir", True)


def test_other_ends() -> None:
    launch = Launch(ARCHIVE, "~/w")
    assert isinstance(launch.install_failure("hpc", 1, "cat: write error: No space left on device"), Refused)
    assert launch.install_failure("hpc", None, "").code == "connection-lost"
    assert isinstance(launch.failure("hpc", MISSING, ""), BadReply)
    assert launch.failure("hpc", 126, "Permission denied").code == "no-python"
