"""Requests and replies: framing, order, and what is no request."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.proxies import TOKEN, Refusal, SiteFolder, interpreters
from tests.testbed.waiting import wait_for

OLDEST = next(iter(interpreters().items()))


@pytest.mark.parametrize("python", [pytest.param(OLDEST[1], id=f"oldest-here-{OLDEST[0]}")])
def test_the_oldest_python_here_runs_the_archive(tmp_path: Path, python: Path) -> None:
    site = SiteFolder(tmp_path / "w", python)
    try:
        with site.proxy() as proxy:
            hello = proxy.ask("hello")
            assert hello["python"].startswith(OLDEST[0]) and hello["workdir"] == str(site.path)
            code = "import isthmus, sys; isthmus.report(major=sys.version_info[0]); print('told'); sys.exit(3)"
            answer = proxy.submit("1.1-a", str(python), "-c", code, outputs=[{"path": "none", "optional": True}])
            assert answer == {"ok": {"native_id": "1.1-a"}}
            end = proxy.finished("1.1-a")
            assert (end["exit_code"], end["reason"]) == (3, "EXIT_CODE")
            assert proxy.report("1.1-a", "metrics")["values"] == {"major": 3}
            assert proxy.log("1.1-a") == "told\n"
            # The keeper's way is warm; a batch system's runner starts an interpreter of its own.
            assert site.run("2.1-a", "sh", "-c", "exit 4")["exit_code"] == 4
    finally:
        site.close()


def test_it_starts_quickly_and_leaves_itself_compiled(site: SiteFolder) -> None:
    with site.proxy():
        compiled = [path for path in site.archive.parent.iterdir() if path.is_dir()]
    assert len(compiled) == 1 and re.fullmatch(r"isthmus-[0-9a-f]{12}\.cpython-\d+", compiled[0].name)
    assert (compiled[0] / "isthmus/runner/attempt.pyc").exists()
    traced = [site.python, "-I", "-S", "-X", "importtime", str(site.archive), "run", "/nowhere"]
    said = subprocess.run(traced, capture_output=True, text=True, check=False).stderr
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
    assert "isthmus.runner.attempt" in imported
    slow = {"typing", "asyncio", "urllib.request", "ssl", "pathlib", "inspect", "dataclasses", "tarfile", "tempfile"}
    assert not imported & slow, "modules that a runner does not need, and whose import costs milliseconds"


def test_replies_stand_alone_on_their_lines_whatever_is_printed(site: SiteFolder) -> None:
    """The token frames the reply; what batch modules or child processes print goes to stderr."""
    done = subprocess.run(
        site.program("proxy"), input=b'{"id": 1, "verb": "hello"}\n', capture_output=True, check=True, timeout=60
    )
    lines = [line for line in done.stdout.split(b"\n") if line]
    assert len(lines) == 1 and lines[0].startswith(TOKEN.encode()) and lines[0].endswith(TOKEN.encode())
    assert json.loads(lines[0][len(TOKEN) : -len(TOKEN)])["ok"]["user"]


def test_requests_are_answered_in_order(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        numbers = [proxy.send("stat", paths=[f"p{n}"]) for n in range(50)]
        replies = [proxy.reply() for _ in numbers]
    assert [reply["id"] for reply in replies] == numbers
    assert replies[7]["ok"] == {"results": {"p7": None}}


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b"{}",
        b'{"id": 3}',
        b'{"id": 3, "verb": "destroy"}',
        b'{"id": 3, "verb": "submit"}',
        b'{"id": 3, "verb": "submit", "jobs": [{"key": "../../etc", "job": {}}], "x": 1}',
        b'{"id": 3, "verb": "poll", "attempts": 7}',
        b'{"id": 3, "verb": "logs", "key": "1.1-a", "name": "../secrets.json"}',
        b'{"id": 3, "verb": "stat", "paths": ["/etc/passwd"]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_answered(site: SiteFolder, line: bytes) -> None:
    with site.proxy() as proxy:
        proxy.write(line + b"\n")
        reply = proxy.reply()
        if b"etc" in line and b"submit" in line:
            reply = reply["ok"]["results"]["../../etc"]
        assert reply["error"]["code"] in ("bad-request", "outside-workdir"), reply
        assert reply["error"]["message"]
        assert proxy.ask("hello")["workdir"] == str(site.path)


@pytest.mark.parametrize("cut", [1, 30, -2])
def test_half_a_request_is_none(site: SiteFolder, cut: int) -> None:
    """The connection was cut within a request: nothing of it may be done."""
    job = {"key": "1.1-a", "job": {"key": "1.1-a", "command": ["true"]}}
    request = json.dumps({"id": 1, "verb": "submit", "jobs": [job]}).encode() + b"\n"
    done = subprocess.run(site.program("proxy"), input=request[:cut], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"" and not site.job("1.1-a").exists()


def test_it_ends_when_nobody_reads(site: SiteFolder) -> None:
    proxy = site.proxy()
    assert proxy.process.stdout is not None
    proxy.process.stdout.close()
    proxy.send("hello")
    assert proxy.process.wait(30) == 0
    proxy.close()


def test_it_ends_while_it_waits_when_the_connection_is_cut(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sleep", "1000")
        proxy.report("1.1-a", "started")
        proxy.send("poll", attempts={"1.1-a": {"native_id": "1.1-a", "reports": 10**6}}, wait_s=1000)
        assert proxy.process.stdin is not None
        proxy.process.stdin.close()
        assert proxy.process.wait(30) == 0


def test_a_work_folder_that_can_not_be_made(tmp_path: Path) -> None:
    site = SiteFolder(tmp_path / "w")
    blocked = SiteFolder.__new__(SiteFolder)
    blocked.path, blocked.python, blocked.archive = tmp_path / "w" / "file" / "w", site.python, site.archive
    (tmp_path / "w" / "file").touch()
    with pytest.raises(Refusal, match="Making the work folder"):
        blocked.proxy()


def test_the_work_folder_is_for_its_user_alone(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true", secrets={"A": "b"})
        proxy.finished("1.1-a")
    for path in (site.path, site.job("1.1-a")):
        assert path.stat().st_mode & 0o777 == 0o700


def test_probe(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        found = proxy.ask("probe", options={})
    from pydantic import TypeAdapter

    from isthmus.domain.sites import Inventory

    inventory = TypeAdapter(Inventory).validate_python(found)
    assert inventory.batch == "process" and inventory.host == os.uname().nodename
    node = inventory.queues[0].nodes[0]
    assert node.cpus == len(os.sched_getaffinity(0)) and node.mem > 1 << 20


def test_a_batch_system_that_the_archive_lacks(site: SiteFolder) -> None:
    with site.proxy(batch="moab") as proxy, pytest.raises(Refusal, match="no batch system 'moab'"):
        proxy.ask("probe")


def test_usage(site: SiteFolder) -> None:
    done = subprocess.run([site.python, str(site.archive)], capture_output=True, text=True, check=False)
    assert done.returncode == 64 and "proxy" in done.stderr and "rank" in done.stderr


def test_waiting_ends_as_soon_as_another_request_comes(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sleep", "1000")
        proxy.report("1.1-a", "started")
        offset = (site.job("1.1-a") / "reports").stat().st_size
        known: dict[str, Any] = {"1.1-a": {"native_id": "1.1-a", "reports": offset, "native_state": "running"}}
        first = proxy.send("poll", attempts=known, wait_s=1000, query=False)
        second = proxy.send("hello")
        assert [proxy.reply()["id"], proxy.reply()["id"]] == [first, second]
        proxy.ask("kill", keys={"1.1-a": {"native_id": "1.1-a", "grace_s": 0}}, fence=True)
        assert proxy.finished("1.1-a")["reason"] == "KILLED"
    wait_for(lambda: not site.strays("1.1-a"), "the command's end")
