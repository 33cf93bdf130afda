"""The reports of an attempt whose disk fills up."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from isthmus.runner.folder import RESERVE, Folder
from isthmus.runner.reports import Reports


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    made = Reports(Folder(str(tmp_path)))
    made.open()
    return made


class FullDisk:
    """Room for `free` bytes more; what a removed reserve had comes free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int = 0) -> None:
        self.free = free
        self._write, self._unlink = os.write, os.unlink
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "posix_fallocate", self.allocate)
        monkeypatch.setattr(os, "unlink", self.unlink)

    def write(self, fd: int, data: bytes) -> int:
        taken = min(len(data), self.free)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= taken
        return self._write(fd, data[:taken])

    def allocate(self, fd: int, offset: int, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= size
        os.ftruncate(fd, size)

    def unlink(self, path: Any) -> None:
        size = os.stat(path).st_size
        self._unlink(path)
        self.free += size


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "reports").read_text().splitlines()]


def test_the_reserve_makes_room_for_a_report(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch, free=100_000)
    reports.reserve()
    assert (tmp_path / RESERVE).exists()
    disk.free = 10  # half a line
    assert reports.add("metrics", values={"loss": 0.5}) and reports.add("finished", durable=True)
    assert kinds(tmp_path) == ["metrics", "finished"]
    assert (reports.full, reports.lost) == (True, False)


def test_a_refused_reserve_loses_nothing(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    reports.reserve()
    disk.free = 1000  # others end, and leave room
    assert reports.add("finished", durable=True)
    assert kinds(tmp_path) == ["finished"]
    assert (reports.full, reports.lost) == (True, False)


def test_a_report_that_finds_no_room_is_lost_and_leaves_no_half_line(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, free=10)
    assert not reports.add("usage", cpu_s=1.0)
    assert not reports.lost  # a sample of ours is no loss
    disk.free = 10
    assert not reports.add("metrics", values={"loss": 0.5})
    assert reports.lost
    disk.free = 1000
    assert reports.add("finished")
    assert kinds(tmp_path) == ["finished"]
