"""Orders to end attempts, wherever they are by then."""

from __future__ import annotations

import os
import socket

from tests.testbed.proxies import Proxy, SiteFolder
from tests.testbed.waiting import wait_for

BUSY = "echo ready; exec sleep 1000"


def kill(proxy: Proxy, key: str, grace_s: float = 5, fence: bool = True) -> None:
    answer = proxy.ask("kill", keys={key: {"native_id": key, "grace_s": grace_s}}, fence=fence)
    assert answer == {"results": {key: {}}}


def test_a_running_attempt_ends_at_once(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", BUSY)
        site.wait_log("1.1-a", "ready")
        kill(proxy, "1.1-a")
        end = proxy.finished("1.1-a")
        assert (end["signal"], end["reason"]) == (15, "KILLED")
        assert end["wall_s"] < 5, "it waits for no look at the folder"
        assert proxy.seen("1.1-a", wait_s=0)["claimed"] is True


def test_the_grace_is_the_one_of_the_order(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", grace_s=1000)
        site.wait_log("1.1-a", "ready")
        kill(proxy, "1.1-a", grace_s=0.2)
        assert proxy.finished("1.1-a")["signal"] == 9


def test_a_waiting_attempt_says_how_it_ended(site: SiteFolder) -> None:
    cpus = len(os.sched_getaffinity(0))
    with site.proxy() as proxy:
        for number in range(cpus):
            proxy.submit(f"{number}.1-b", "sh", "-c", BUSY)
        proxy.submit("1.1-a", "touch", "ran")
        assert proxy.seen("1.1-a", wait_s=0)["state"] == "pending"
        kill(proxy, "1.1-a", fence=False)
        assert proxy.finished("1.1-a")["reason"] == "KILLED"
        assert not (site.job("1.1-a") / "work/ran").exists()
        proxy.submit("2.1-a", "touch", "ran")
        kill(proxy, "2.1-a", fence=True)
        wait_for(lambda: proxy.seen("2.1-a", wait_s=0)["state"] == "gone", "the fenced one to be gone")
        assert not (site.job("2.1-a") / "work/ran").exists()
        for number in range(cpus):
            kill(proxy, f"{number}.1-b", grace_s=0)
            proxy.finished(f"{number}.1-b")


def test_an_ended_or_unknown_attempt_is_silent(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "true")
        proxy.finished("1.1-a")
        before = (site.job("1.1-a") / "reports").read_bytes()
        kill(proxy, "1.1-a")
        kill(proxy, "1.1-a")
        kill(proxy, "9.9-none", fence=False)
        assert (site.job("1.1-a") / "reports").read_bytes() == before
        assert not site.job("9.9-none").exists()


def test_a_bad_key_spoils_no_other(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        keys = {"../x": {"native_id": ""}, "1.1-a": {"native_id": ""}}
        results = proxy.ask("kill", keys=keys, fence=True)["results"]
        assert results["../x"]["error"]["code"] == "bad-request" and results["1.1-a"] == {}


def test_a_second_order_does_not_shorten_the_first_ones_grace(site: SiteFolder) -> None:
    save = "while [ ! -e go ]; do sleep 0.02; done; echo saved; exit 0"
    script = f"trap '{save}' TERM; echo ready; while :; do sleep 0.02; done"
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", script)
        site.wait_log("1.1-a", "ready")
        kill(proxy, "1.1-a", grace_s=60)
        proxy.report("1.1-a", "ending")
        kill(proxy, "1.1-a", grace_s=60)
        (site.job("1.1-a") / "work/go").touch()
        assert proxy.finished("1.1-a")["exit_code"] == 0
        assert "saved" in proxy.log("1.1-a")


def test_locate(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", BUSY)
        site.wait_log("1.1-a", "ready")
        keys = {"1.1-a": {"native_id": "1.1-a"}, "9.9-none": {"native_id": "9.9-none"}}
        results = proxy.ask("locate", keys=keys)["results"]
        assert results == {"1.1-a": {"nodes": [socket.gethostname()]}, "9.9-none": {"nodes": []}}
        kill(proxy, "1.1-a", grace_s=0)
        proxy.finished("1.1-a")
