"""Submission: whole, once, whatever comes twice or breaks."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.testbed.proxies import Proxy, SiteFolder
from tests.testbed.waiting import wait_for


def test_the_same_key_again_gives_the_same_answer_and_one_run(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        command = ("sh", "-c", "echo ran >> ../ran")
        first = proxy.submit("1.1-a", *command)
        assert first == {"ok": {"native_id": "1.1-a"}}
        assert proxy.submit("1.1-a", *command) == first
        proxy.finished("1.1-a")
        assert proxy.submit("1.1-a", *command) == first, "after its end too"
        wait_for(lambda: proxy.seen("1.1-a", wait_s=0)["state"] == "ended", "the keeper to know of the end")
        assert (site.job("1.1-a") / "ran").read_text() == "ran\n"
        assert [report["kind"] for report in site.reports("1.1-a")] == ["started", "finished"]


def test_the_same_key_from_many_proxies_at_once(site: SiteFolder) -> None:
    proxies = [site.proxy() for _ in range(4)]
    keys = [f"{n}.1-a" for n in range(10)]

    def submit(proxy: Proxy) -> list[object]:
        return [proxy.submit(key, "sh", "-c", "echo ran >> ../ran") for key in keys]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(submit, proxies))
    assert all(answer == [{"ok": {"native_id": key}} for key in keys] for answer in answers)
    for key in keys:
        proxies[0].finished(key)
        assert (site.job(key) / "ran").read_text() == "ran\n"
    for proxy in proxies:
        proxy.close()


def test_a_batch_whose_items_fail_one_by_one(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        jobs = [
            {"key": "1.1-a", "job": {"command": ["true"]}},
            {"key": "../2", "job": {"command": ["true"]}},
            {"key": "3.1-a", "job": {"key": "other", "command": ["true"]}},
            {"key": "4.1-a", "job": {"command": ["true"], "gpus": 99}},
            {"key": "1.1-a", "job": {"command": ["true"]}},
        ]
        results = proxy.ask("submit", jobs=jobs)["results"]
        codes = {key: said.get("error", {}).get("code", "ok") for key, said in results.items()}
        assert codes == {"1.1-a": "ok", "../2": "bad-request", "3.1-a": "bad-request", "4.1-a": "batch-refused"}
        proxy.finished("1.1-a")


def test_what_is_written(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        answer = proxy.submit("1.1-a", script="#!/bin/sh\necho $GREETING\n", secrets={"GREETING": "hello"})
        assert "ok" in answer
        proxy.finished("1.1-a")
        folder = site.job("1.1-a")
        job = json.loads((folder / "job.json").read_text())
        assert job["script"] is True and "hello" not in (folder / "job.json").read_text()
        assert (folder / "script").stat().st_mode & 0o777 == 0o700
        assert not (folder / "secrets.json").exists()
        assert proxy.log("1.1-a") == "hello\n"


def test_a_fence_comes_before_the_submission_that_it_is_for(site: SiteFolder) -> None:
    """The request was cut off, the control plane gave up and fenced it; then it arrives all the same."""
    with site.proxy() as proxy:
        proxy.ask("kill", keys={"1.1-a": {"native_id": "", "grace_s": 0}}, fence=True)
        answer = proxy.submit("1.1-a", "true")
        assert answer["error"]["code"] == "fenced"
        seen = proxy.seen("1.1-a", wait_s=0)
        assert (seen["state"], seen["claimed"]) == ("gone", False)


@pytest.mark.system
def test_a_full_disk(small_site: SiteFolder) -> None:
    site = small_site
    with site.proxy() as proxy:
        fill(site)
        answer = proxy.submit("1.1-a", "true")
        assert answer["error"]["code"] == "disk-full" and "job folder" in answer["error"]["message"]
        assert not site.job("1.1-a").exists(), "nothing half-done stays"
        empty(site)
        assert proxy.submit("1.1-a", "true") == {"ok": {"native_id": "1.1-a"}}
        assert proxy.finished("1.1-a")["reason"] == ""


@pytest.mark.system
def test_a_disk_that_becomes_full_while_it_runs(small_site: SiteFolder) -> None:
    """The end is told all the same, with its reason; orders to end work too."""
    site = small_site
    with site.proxy() as proxy:
        proxy.submit(
            "1.1-a",
            "sh",
            "-c",
            "echo ready; while [ ! -e stop ]; do sleep 0.05; done; head -c 1000000 /dev/zero || exit 5",
        )
        proxy.submit("2.1-a", "sleep", "1000")
        for key in ("1.1-a", "2.1-a"):
            proxy.report(key, "started")
            wait_for((site.job(key) / "reserve").exists, "the reserve")
        (site.path / "stop").touch()
        fill(site)
        os.rename(site.path / "stop", site.job("1.1-a") / "work/stop")
        proxy.ask("kill", keys={"2.1-a": {"native_id": "2.1-a", "grace_s": 0}}, fence=True)
        assert proxy.finished("1.1-a")["reason"] == "DISK_FULL"
        assert proxy.finished("2.1-a")["reason"] == "KILLED"
        empty(site)


@pytest.mark.system
def test_a_job_that_fills_the_disk(small_site: SiteFolder) -> None:
    site = small_site
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", "while [ ! -e ../reserve ]; do sleep 0.05; done; cat /dev/zero > big")
        end = proxy.finished("1.1-a")
        assert end["reason"] == "DISK_FULL", end
        (site.job("1.1-a") / "work/big").unlink()


def fill(site: SiteFolder) -> None:
    """Fill the site's disk to its last byte."""
    fd = os.open(site.path / "filler", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        try:
            while os.write(fd, b"\0" * size):
                pass
        except OSError:
            continue
    os.close(fd)


def empty(site: SiteFolder) -> None:
    (site.path / "filler").unlink()
