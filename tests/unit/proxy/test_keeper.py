"""The keeper, and what happens when it, or what it watches, is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from isthmus.runner.keeperfiles import environment, socket_path
from tests.testbed.proxies import SiteFolder, alive
from tests.testbed.waiting import wait_for

WAIT = "echo ready; while [ ! -e stop ]; do sleep 0.02; done; echo stopped"


def start(site: SiteFolder, key: str = "1.1-a", script: str = WAIT) -> int:
    """Start an attempt that runs until it is told to stop; the pid of its runner."""
    with site.proxy() as proxy:
        assert proxy.submit(key, "sh", "-c", script) == {"ok": {"native_id": key}}
        proxy.report(key, "started")
    site.wait_log(key, "ready")
    return int(json.loads((site.job(key) / "claim").read_text())["pid"])


def stop(site: SiteFolder, key: str = "1.1-a") -> None:
    (site.job(key) / "work/stop").touch()


def test_it_outlives_the_proxy_and_so_do_attempts(site: SiteFolder) -> None:
    start(site)
    keeper = site.keeper()
    assert keeper and Path(f"/proc/{keeper}/stat").read_text().split()[3:6][1] != str(os.getpgrp())
    stop(site)
    with site.proxy() as proxy:
        assert proxy.finished("1.1-a")["reason"] == ""
    assert site.keeper() == keeper


def test_one_keeper_however_many_ask_for_it(site: SiteFolder) -> None:
    proxies = [site.proxy() for _ in range(5)]
    for number, proxy in enumerate(proxies):
        proxy.send("submit", jobs=[{"key": f"{number}.1-a", "job": {"command": ["true"]}}])
    for number, proxy in enumerate(proxies):
        assert proxy.reply()["ok"]["results"][f"{number}.1-a"] == {"ok": {"native_id": f"{number}.1-a"}}
        proxy.finished(f"{number}.1-a")
    locks = [pid for pid in os.listdir("/proc") if pid.isdigit() and _holds(int(pid), str(site.path / "keeper.lock"))]
    assert locks == [str(site.keeper())]
    for proxy in proxies:
        proxy.close()


def _holds(pid: int, path: str) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}") == path for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_a_killed_runner_is_lost_and_its_command_ended(site: SiteFolder) -> None:
    script = "setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; echo ready; sleep 1000"
    with site.proxy() as proxy:
        runner = start(site, script=script)
        wait_for(lambda: len(site.strays("1.1-a")) >= 5, "all its processes")
        started = proxy.seen("1.1-a")
        offset = started["from"] + len(started["reports"].encode())
        number = proxy.send(
            "poll", attempts={"1.1-a": {"native_id": "1.1-a", "reports": offset, "native_state": "running"}}, wait_s=60
        )
        os.kill(runner, signal.SIGKILL)
        reply = proxy.reply()
        assert reply["id"] == number
        seen = reply["ok"]["attempts"]["1.1-a"]
        assert (seen["state"], seen["reason"], seen["claimed"]) == ("gone", "LOST", True)
        wait_for(lambda: site.strays("1.1-a") == [], "the end of its processes")
        assert proxy.submit("2.1-a", "true") == {"ok": {"native_id": "2.1-a"}}
        assert proxy.finished("2.1-a")["reason"] == ""


def test_a_killed_idle_worker_is_replaced(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true")
        proxy.finished("1.1-a")
        for pid in site.workers():
            os.kill(pid, signal.SIGKILL)
        proxy.submit("2.1-a", "true")
        assert proxy.finished("2.1-a")["reason"] == ""


def test_a_killed_keeper_takes_nothing_with_it(site: SiteFolder) -> None:
    """What runs goes on and is seen by the next keeper; what it accepted and had not started runs then, once."""
    start(site)
    cpus = len(os.sched_getaffinity(0))
    with site.proxy() as proxy:
        waiting = [f"{number}.1-w" for number in range(2, cpus + 4)]
        for key in waiting:
            proxy.submit(key, "sh", "-c", "echo ran >> ../ran; " + WAIT)
        for key in waiting[: cpus - 1]:
            site.wait_log(key, "ready")
        old = site.keeper()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: not alive(old), "the keeper's end")
        seen = proxy.seen("1.1-a", wait_s=0)
        assert seen["state"] == "running" and site.keeper() not in (0, old)
        assert all(proxy.seen(key, wait_s=0)["state"] in ("pending", "running") for key in waiting)
        for key in ["1.1-a", *waiting]:
            wait_for((site.job(key) / "work").exists, f"the start of {key}")
            stop(site, key)
            assert proxy.finished(key)["reason"] == "", site.story(key)
        for key in waiting:
            assert (site.job(key) / "ran").read_text() == "ran\n"


def test_news_of_an_attempt_that_an_earlier_keeper_started(site: SiteFolder) -> None:
    start(site)
    with site.proxy() as proxy:
        os.kill(site.keeper(), signal.SIGKILL)
        started = proxy.seen("1.1-a")
        offset = started["from"] + len(started["reports"].encode())
        known = {"native_id": "1.1-a", "reports": offset, "native_state": "running"}
        proxy.send("poll", attempts={"1.1-a": known}, wait_s=60, query=False)
        stop(site)
        assert '"finished"' in proxy.reply()["ok"]["attempts"]["1.1-a"]["reports"]


def test_keeper_and_runner_killed_together(site: SiteFolder) -> None:
    runner = start(site, script="setsid sleep 1000 & echo ready; sleep 1000")
    os.kill(site.keeper(), signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    wait_for(lambda: not alive(runner), "the runner's end")
    with site.proxy() as proxy:
        seen = proxy.seen("1.1-a", wait_s=0)
        assert (seen["state"], seen["reason"]) == ("gone", "LOST")
    wait_for(lambda: site.strays("1.1-a") == [], "the end of its processes")


def test_a_process_with_the_runners_number_is_not_the_runner(site: SiteFolder) -> None:
    runner = start(site)
    os.kill(site.keeper(), signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    claim = site.job("1.1-a") / "claim"
    said = json.loads(claim.read_text())
    claim.write_text(json.dumps({**said, "pid": os.getpid()}))  # alive, but it did not start at that time
    with site.proxy() as proxy:
        assert proxy.seen("1.1-a", wait_s=0)["state"] == "gone"


def test_attempts_from_before_the_machine_started_anew_are_gone(site: SiteFolder) -> None:
    """Nobody knows whether they ran: their claim need not have reached the disk."""
    folder = site.write_job("1.1-a", "touch", "ran", boot="another-boot")
    claimed = site.write_job("2.1-a", "true", boot="another-boot")
    (claimed / "claim").write_text(
        json.dumps({"host": socket.gethostname(), "boot": "another-boot", "pid": os.getpid(), "start": 1})
    )
    with site.proxy() as proxy:
        assert proxy.seen("1.1-a", wait_s=0)["state"] == "gone"
        assert proxy.seen("2.1-a", wait_s=0)["state"] == "gone"
        proxy.submit("3.1-a", "true")
        proxy.finished("3.1-a")
    assert not (folder / "work").exists()


def test_another_version_takes_over(site: SiteFolder, tmp_path: Path) -> None:
    start(site)
    old = site.keeper()
    newer = site.archive.with_name("isthmus-newer.pyz")
    shutil.copy(site.archive, newer)
    site.archive = newer
    with site.proxy() as proxy:
        proxy.submit("2.1-a", "sh", "-c", 'echo "$PYTHONPATH"')
        assert proxy.finished("2.1-a")["reason"] == ""
        assert site.keeper() not in (0, old) and "isthmus-newer.pyz" in proxy.log("2.1-a")
        assert proxy.seen("1.1-a", wait_s=0)["state"] == "running" and alive(old), "the old one watches what it started"
        stop(site)
        assert proxy.finished("1.1-a")["reason"] == ""
    wait_for(lambda: not alive(old), "the old keeper's end, with its last attempt")


def test_it_ends_with_its_work_folder(site: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true")
        proxy.finished("1.1-a")
    keeper, workers = site.keeper(), site.workers()
    assert workers
    shutil.rmtree(site.path)
    wait_for(lambda: not alive(keeper) and not any(map(alive, workers)), "its end and its workers'", deadline_s=30)


def test_sigterm_ends_an_idle_keeper(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true")
        proxy.finished("1.1-a")
    keeper, workers = site.keeper(), site.workers()
    os.kill(keeper, signal.SIGTERM)
    wait_for(lambda: not alive(keeper) and not any(map(alive, workers)), "its end and its workers'")
    assert not (site.path / "keeper.sock").exists()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    site = SiteFolder(deep / "w")
    try:
        with site.proxy() as proxy:
            proxy.submit("1.1-a", "true")
            assert proxy.finished("1.1-a")["reason"] == ""
            path = socket_path(str(site.path))
            assert path.startswith(f"/tmp/isthmus-{os.getuid()}/") and len(path) < 100
            assert os.lstat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    finally:
        site.close()


def test_a_folder_in_tmp_that_is_somebody_elses_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    foreign = Path("/tmp/isthmus-4000000000")
    foreign.mkdir()
    try:
        with pytest.raises(PermissionError, match="not a folder of this user's alone"):
            socket_path("/" + "x" * 120)
    finally:
        foreign.rmdir()


def test_the_starters_secrets_are_not_the_jobs() -> None:
    given = {
        "HOME": "/h", "PATH": "/bin", "LC_ALL": "C", "CUDA_VISIBLE_DEVICES": "0", "https_proxy": "http://p",
        "ISTHMUS_TOKEN": "x", "AWS_SECRET_ACCESS_KEY": "x", "PGPASSWORD": "x", "PYTHONPATH": "/x", "DISPLAY": ":0",
    }  # fmt: skip
    assert set(environment(given)) == {"HOME", "PATH", "LC_ALL", "CUDA_VISIBLE_DEVICES", "https_proxy"}


def test_no_more_start_than_there_are_processors_for(site: SiteFolder) -> None:
    cpus = len(os.sched_getaffinity(0))
    with site.proxy() as proxy:
        keys = [f"{number}.1-a" for number in range(cpus + 2)]
        for key in keys:
            proxy.submit(key, "sh", "-c", WAIT)
        for key in keys[:cpus]:
            site.wait_log(key, "ready")
        states = [proxy.seen(key, wait_s=0)["state"] for key in keys]
        assert states == ["running"] * cpus + ["pending"] * 2
        for key in keys:
            wait_for((site.job(key) / "work").exists, f"the start of {key}")
            stop(site, key)
            proxy.finished(key)


def test_a_job_for_more_processors_than_there_are_runs_alone(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", WAIT)
        site.wait_log("1.1-a", "ready")
        proxy.submit("2.1-a", "true", cpus=1000)
        assert proxy.seen("2.1-a", wait_s=0)["state"] == "pending"
        stop(site)
        assert proxy.finished("2.1-a")["reason"] == ""


def test_set_up_lines_run_before_the_runner(site: SiteFolder) -> None:
    """An attempt with a batch.sh of its own: it ends in the runner, as at a site with a batch system."""
    with site.proxy() as proxy:
        text = f"echo set up\nexport LOADED=yes\nexec {site.python} -I -S {site.archive} run {site.job('1.1-a')}\n"
        proxy.submit("1.1-a", "sh", "-c", "echo loaded=$LOADED", batch=text)
        assert proxy.finished("1.1-a")["reason"] == ""
        assert (proxy.log("1.1-a"), proxy.log("1.1-a", "batch.log")) == ("loaded=yes\n", "set up\n")


def test_set_up_lines_that_fail(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true", batch="echo no such module >&2\nexit 1\n")
        wait_for(lambda: proxy.seen("1.1-a", wait_s=0).get("state") == "gone", "its end")
        assert proxy.log("1.1-a", "batch.log") == "no such module\n"


def test_a_kill_of_an_attempt_with_set_up_lines(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        text = f"exec {site.python} -I -S {site.archive} run {site.job('1.1-a')}\n"
        proxy.submit("1.1-a", "sh", "-c", "echo ready; exec sleep 1000", batch=text)
        site.wait_log("1.1-a", "ready")
        proxy.ask("kill", keys={"1.1-a": {"native_id": "1.1-a", "grace_s": 5}}, fence=True)
        assert proxy.finished("1.1-a")["reason"] == "KILLED"


def test_many_at_once_and_nothing_stays(site: SiteFolder) -> None:
    """Three hundred attempts, each once; afterwards few workers, and no zombie."""
    with site.proxy() as proxy:
        keys = [f"{number}.1-a" for number in range(300)]
        jobs = [{"key": key, "job": {"command": ["sh", "-c", "echo ran >> ../ran"]}} for key in keys]
        results = proxy.ask("submit", jobs=jobs)["results"]
        assert all("ok" in results[key] for key in keys)
        offsets = dict.fromkeys(keys, 0)
        while offsets:
            known = {key: {"native_id": key, "reports": at, "native_state": "running"} for key, at in offsets.items()}
            for key, seen in proxy.ask("poll", attempts=known, wait_s=5, query=False)["attempts"].items():
                offsets[key] += len(seen["reports"].encode())
                if '"finished"' in seen["reports"]:
                    del offsets[key]
        assert all((site.job(key) / "ran").read_text() == "ran\n" for key in keys)
        children = [pid for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == site.keeper()]
        assert len(children) <= 9 and all(alive(int(pid)) for pid in children)


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_the_same_key_in_another_work_folder_is_another_attempt(site: SiteFolder, tmp_path: Path) -> None:
    """Two control planes, one machine: what is left of an attempt here is not what runs there."""
    other = SiteFolder(tmp_path / "other")
    try:
        start(site)
        runner = start(other)
        os.kill(runner, signal.SIGKILL)
        wait_for(lambda: other.strays("1.1-a") == [], "the end of the other's command")
        assert len(site.strays("1.1-a")) >= 1
        stop(site)
        with site.proxy() as proxy:
            assert proxy.finished("1.1-a")["reason"] == ""
    finally:
        other.close()


def test_a_socket_that_somebody_has_removed_is_made_anew(site: SiteFolder) -> None:
    """As cleaners of /tmp do, where the socket lies if the work folder's path is too long."""
    start(site)
    keeper = site.keeper()
    os.unlink(socket_path(str(site.path)))
    stop(site)
    with site.proxy() as proxy:
        assert proxy.finished("1.1-a")["reason"] == ""
        assert proxy.submit("2.1-a", "true") == {"ok": {"native_id": "2.1-a"}}
        proxy.finished("2.1-a")
    assert site.keeper() == keeper
