"""Looking at files, and removing what is no longer needed; nothing outside of the work folder."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import Workdir
from tests.testbed.proxies import Refusal, SiteFolder


def test_logs_by_offset(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "printf", "0123456789")
        proxy.finished("1.1-a")

        def read(offset: int, limit: int) -> tuple[int, bytes, int]:
            part = proxy.ask("logs", key="1.1-a", offset=offset, limit=limit)
            return part["offset"], base64.b64decode(part["data"]), part["size"]

        assert read(0, 4) == (0, b"0123", 10)
        assert read(8, 100) == (8, b"89", 10)
        assert read(-3, 100) == (7, b"789", 10)
        assert read(-100, 2) == (0, b"01", 10)
        assert read(50, 10) == (10, b"", 10)
        none = proxy.ask("logs", key="2.1-none", offset=0, limit=10)
        assert (none["data"], none["size"]) == ("", 0)
        with pytest.raises(Refusal, match="no log"):
            proxy.ask("logs", key="1.1-a", name="job.json")


def test_stat_and_list(site: SiteFolder) -> None:
    top = site.path / "data"
    (top / "a/b").mkdir(parents=True)
    (top / "a/x").write_text("12345")
    (top / "a/b/deep").touch()
    (top / "link").symlink_to("a/x")
    digest = "0" * 64
    (site.path / "cache").mkdir()
    (site.path / "cache" / digest).write_text("image")
    with site.proxy() as proxy:
        paths = ["data/a/x", "data/a", "data/none", "data/a/x/none", "data/link", str(top / "a/x"), f"cache/{digest}"]
        results = proxy.ask("stat", paths=paths)["results"]
        assert results["data/a/x"] == {"size": 5, "kind": "file"} == results[str(top / "a/x")] == results["data/link"]
        assert results["data/a"]["kind"] == "folder"
        assert results["data/none"] is None and results["data/a/x/none"] is None
        assert results[f"cache/{digest}"]["digest"] == digest
        listed = proxy.ask("list", path="data", depth=2)["entries"]
        assert [(entry["path"], entry["kind"]) for entry in listed] == [
            ("a", "folder"), ("a/b", "folder"), ("a/x", "file"), ("link", "link"),
        ]  # fmt: skip
        with pytest.raises(Refusal, match="no folder"):
            proxy.ask("list", path="data/none")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "out/x", "", "a\0b"])
def test_paths_stay_within_the_work_folder(tmp_path: Path, path: str) -> None:
    workdir = Workdir(str(tmp_path / "w"))
    workdir.make()
    (tmp_path / "w/out").symlink_to("/etc")
    if path == "":
        assert workdir.inside(path) == str(tmp_path / "w")
        return
    with pytest.raises(ProxyError):
        workdir.inside(path)


def test_a_work_folder_that_is_itself_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "w").symlink_to(tmp_path / "real")
    workdir = Workdir(str(tmp_path / "w"))
    workdir.make()
    assert workdir.inside("jobs/x") == str(tmp_path / "w/jobs/x")


def test_the_cache(site: SiteFolder) -> None:
    cache = site.path / "cache"
    cache.mkdir()
    one, two, part = "1" * 64, "2" * 64, "3" * 64
    (cache / one).write_bytes(b"12345")
    (cache / two / "sub").mkdir(parents=True)
    (cache / two / "sub/x").write_bytes(b"1234567")
    (cache / two / "sub").chmod(0o555)
    (cache / f"{part}.part").write_bytes(b"half")
    (cache / f".{one}.answer").write_text("{}")
    os.utime(cache / one, (1000, 1000))
    with site.proxy() as proxy:
        told = proxy.ask("cache", list=True)
        assert {name: entry["size"] for name, entry in told["entries"].items()} == {one: 5, two: 7}
        assert told["entries"][one]["used"] == 1000 and told["free_bytes"] > 0
        had = proxy.ask("cache", have=[one, part])["entries"]
        assert list(had) == [one]
        assert proxy.ask("cache", list=True)["entries"][one]["used"] > 1e9, "asked for is used"
        left = proxy.ask("cache", remove=[one, two, part, "4" * 64], list=True)["entries"]
        assert left == {}
        assert [path.name for path in cache.iterdir()] == []
        with pytest.raises(Refusal, match="not a name in the cache"):
            proxy.ask("cache", remove=["../jobs"])


def test_clean(site: SiteFolder) -> None:
    with site.proxy() as proxy:
        proxy.submit("1.1-a", "sh", "-c", "mkdir -p d/e; echo x > d/e/f; chmod 500 d/e d")
        proxy.submit("2.1-a", "sh", "-c", "echo ready; exec sleep 1000", checkpoint="checkpoints/2")
        proxy.finished("1.1-a")
        site.wait_log("2.1-a", "ready")
        assert (site.path / "checkpoints/2").is_dir()
        with pytest.raises(Refusal, match=r"Still running, and not removed: 2\.1-a"):
            proxy.ask("clean", keys=["1.1-a", "2.1-a", "9.9-none"], checkpoints=[])
        assert not site.job("1.1-a").exists() and site.job("2.1-a").exists()
        proxy.ask("kill", keys={"2.1-a": {"native_id": "2.1-a", "grace_s": 0}}, fence=True)
        proxy.finished("2.1-a")
        proxy.ask("clean", keys=["2.1-a"], checkpoints=[2, 3])
        assert not site.job("2.1-a").exists() and not (site.path / "checkpoints/2").exists()
        assert list((site.path / "tmp").iterdir()) == []
