"""News of attempts: which, when, and from which byte on."""

from __future__ import annotations

import json
import random
from typing import Any

from isthmus.proxy import news
from tests.testbed.proxies import SiteFolder
from tests.testbed.waiting import wait_for


def test_every_report_once_whatever_pieces_they_come_in(site: SiteFolder, monkeypatch: Any) -> None:
    lines = "".join(f"echo isthmus: n={n}; " for n in range(200))
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", lines)
        taken = b""
        while b'"finished"' not in taken:
            seen = proxy.seen("1.1-a", len(taken), "running", wait_s=5)
            assert seen["from"] == len(taken)
            taken += seen["reports"].encode()
    assert taken == (site.job("1.1-a") / "reports").read_bytes()
    values = [json.loads(line)["values"]["n"] for line in taken.splitlines() if b'"metrics"' in line]
    assert values == list(range(200))


def test_pieces_end_with_a_line(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "true")
    reports = folder / "reports"
    reports.write_bytes(b"".join(b"x" * random.Random(3).randrange(500) + b"%d\n" % n for n in range(50)) + b"half")
    from isthmus.runner.folder import Folder

    taken = b""
    while True:
        piece, size = news.reports_from(Folder(str(folder)), len(taken), 100)
        assert size == reports.stat().st_size
        if not piece:
            break
        assert piece.endswith(b"\n")
        taken += piece
    assert taken == reports.read_bytes()[: -len(b"half")], "what has no end of line yet is not a report"


def test_only_attempts_with_news_are_told_of(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        for key in ("1.1-a", "2.1-a"):
            proxy.submit(key, "sh", "-c", "while [ ! -e stop ]; do sleep 0.02; done")
            proxy.report(key, "started")
        known: dict[str, Any] = {
            key: {"native_id": key, "native_state": "running", "reports": (site.job(key) / "reports").stat().st_size}
            for key in ("1.1-a", "2.1-a")
        }
        assert proxy.ask("poll", attempts=known, wait_s=0)["attempts"] == {}
        (site.job("2.1-a") / "work/stop").touch()
        assert list(proxy.ask("poll", attempts=known, wait_s=60)["attempts"]) == ["2.1-a"]
        (site.job("1.1-a") / "work/stop").touch()
        proxy.finished("1.1-a")


def test_a_poll_sees_what_another_proxy_submitted(site: SiteFolder) -> None:
    """Commands go through one proxy, news through another that waits already."""
    with site.proxy() as commands, site.proxy() as poll:
        commands.submit("1.1-a", "sh", "-c", "while [ ! -e ../go ]; do sleep 0.02; done")
        poll.report("1.1-a", "started")
        offset = (site.job("1.1-a") / "reports").stat().st_size
        known = {"1.1-a": {"native_id": "1.1-a", "reports": offset, "native_state": "running"}}
        poll.send("poll", attempts=known, wait_s=60, query=False)
        (site.job("1.1-a") / "go").touch()
        assert '"finished"' in poll.reply()["ok"]["attempts"]["1.1-a"]["reports"]


def test_states(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", "while [ ! -e stop ]; do sleep 0.02; done")
        proxy.report("1.1-a", "started")
        running = proxy.seen("1.1-a", wait_s=0)
        assert (running["native_state"], running["state"], running["claimed"]) == ("running", "running", True)
        (site.job("1.1-a") / "work/stop").touch()
        proxy.finished("1.1-a")
        wait_for(lambda: proxy.seen("1.1-a", wait_s=0)["state"] == "ended", "the end to be known")
        gone = proxy.seen("9.9-none", wait_s=0)
        assert (gone["state"], gone["reason"], gone["claimed"]) == ("gone", "LOST", False)


def test_no_question_when_none_is_wanted(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        answer = proxy.ask("poll", attempts={"9.9-none": {"native_id": "x", "reports": 0}}, wait_s=0, query=False)
        assert answer == {"attempts": {}, "queried": False, "query_error": "", "others": 0}
        assert proxy.ask("poll", attempts={}, wait_s=0)["attempts"] == {}


def test_a_keeper_that_can_not_start_is_an_error_of_the_question(site: SiteFolder) -> None:
    """Reports are read all the same; no state is guessed."""
    folder = site.write_job("1.1-a", "true")
    (folder / "reports").write_text('{"kind":"started","t":1}\n')
    (site.path / "keeper.lock").mkdir()
    with site.proxy() as proxy:
        answer = proxy.ask("poll", attempts={"1.1-a": {"native_id": "1.1-a", "reports": 0}}, wait_s=0)
        assert "keeper.log" in answer["query_error"] and answer["queried"] is False
        assert answer["attempts"]["1.1-a"]["state"] == "" and "started" in answer["attempts"]["1.1-a"]["reports"]
        error = proxy.submit("2.1-a", "true")["error"]
        assert (error["code"], error["transient"]) == ("batch-unavailable", True)
        (site.path / "keeper.lock").rmdir()
        assert proxy.submit("2.1-a", "true") == {"ok": {"native_id": "2.1-a"}}
        proxy.finished("2.1-a")
