"""The demo's server as far as it goes without one: which process holds a data folder, and the environment."""

import fcntl
import os
from pathlib import Path

import pytest

from examples.forecast.server import Server


def test_a_folder_without_a_server_has_no_process(tmp_path: Path) -> None:
    assert Server(tmp_path).pid() is None
    assert Server(tmp_path).stop() is False
    (tmp_path / "up.lock").write_text("pid 1\n")  # of a process that ended: nobody holds the lock
    assert Server(tmp_path).pid() is None


def test_the_process_is_the_one_that_holds_the_lock(tmp_path: Path) -> None:
    with (tmp_path / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"pid {os.getpid()}\n")
        lock.flush()
        assert Server(tmp_path).pid() == os.getpid()


def test_nothing_of_another_server_reaches_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_URL", "https://team.example")
    monkeypatch.setenv("ISTHMUS_DATABASE", "postgresql://team.example/isthmus")
    ours = {name: value for name, value in Server(tmp_path).environment().items() if name.startswith("ISTHMUS")}
    assert ours == {"ISTHMUS_CONFIG": str(tmp_path / "config")}
