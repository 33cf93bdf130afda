"""Bytes to and from the work folder: resumed where they were cut, verified, never half there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from isthmus.runner import canonical
from tests.testbed.proxies import TOKEN, SiteFolder

DATA = random.Random(5).randbytes(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def put(site: SiteFolder, data: bytes, path: str, offset: int = 0, **options: Any) -> dict[str, Any]:
    words = ["--path", path, "--offset", str(offset), "--size", str(options.pop("size", len(DATA)))]
    for name, value in options.items():
        words += [f"--{name}", *([str(value)] if value is not True else [])]
    done = subprocess.run([*site.program("put"), *words], input=data, capture_output=True, check=False, timeout=60)
    return dict(frame(done.stdout)[0])


def frame(output: bytes) -> tuple[dict[str, Any], bytes]:
    """The framed reply, and what follows its line."""
    token = TOKEN.encode()
    begin = output.index(token)
    end = output.index(token + b"\n", begin + 1)
    return json.loads(output[begin + len(token) : end]), output[end + len(token) + 1 :]


def get(site: SiteFolder, path: str, offset: int = 0) -> tuple[dict[str, Any], bytes, int]:
    words = [*site.program("get"), "--path", path, "--offset", str(offset)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
    return (*frame(done.stdout), done.returncode)


def test_a_file_cut_at_any_byte_goes_on_there(site: SiteFolder) -> None:
    cuts = sorted(random.Random(7).sample(range(1, len(DATA)), 5))
    begin = 0
    for cut in cuts:
        assert put(site, DATA[begin:cut], "in/x", begin, digest=DIGEST) == {"ok": {"size": cut, "complete": False}}
        assert not (site.path / "in/x").exists()
        begin = cut
    assert put(site, DATA[begin:], "in/x", begin, digest=DIGEST) == {"ok": {"size": len(DATA), "complete": True}}
    assert (site.path / "in/x").read_bytes() == DATA and os.listdir(site.path / "in") == ["x"]


def test_bytes_sent_again_replace_those_after_the_offset(site: SiteFolder) -> None:
    put(site, b"wrong" * 100, "x", digest=DIGEST)
    assert put(site, DATA, "x", 0, digest=DIGEST)["ok"]["complete"]


def test_another_digest_leaves_nothing(site: SiteFolder) -> None:
    said = put(site, DATA, "x", digest="0" * 64)
    assert said["error"]["code"] == "digest" and DIGEST in said["error"]["message"]
    assert not (site.path / "x").exists() and not (site.path / "x.part").exists()


def test_an_offset_beyond_what_is_there(site: SiteFolder) -> None:
    put(site, DATA[:100], "x", digest=DIGEST)
    said = put(site, DATA[200:], "x", 200, digest=DIGEST)
    assert said["error"]["code"] == "conflict" and "has 100 bytes" in said["error"]["message"]


def test_two_transfers_of_the_same_file(site: SiteFolder) -> None:
    words = ["--path", "x", "--offset", "0", "--size", str(len(DATA)), "--digest", DIGEST]
    with subprocess.Popen([*site.program("put"), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin is not None
        first.stdin.write(DATA[:100])
        first.stdin.flush()
        from tests.testbed.waiting import wait_for

        wait_for(lambda: (site.path / "x.part").exists() and (site.path / "x.part").stat().st_size, "its first bytes")
        assert put(site, DATA, "x", digest=DIGEST)["error"]["code"] == "conflict"
        first.communicate(DATA[100:])
    assert (site.path / "x").read_bytes() == DATA


def test_an_empty_file_and_one_for_the_cache(site: SiteFolder) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    assert put(site, b"", "empty", size=0, digest=empty)["ok"]["complete"]
    assert put(site, DATA, f"cache/{DIGEST}", digest=DIGEST)["ok"]["complete"]
    assert (site.path / "cache" / DIGEST).stat().st_mode & 0o777 == 0o444, "jobs read it through links"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "out/x"])
def test_nothing_is_put_outside(site: SiteFolder, path: str) -> None:
    (site.path / "out").symlink_to("/tmp")
    assert put(site, DATA, path)["error"]["code"] == "outside-workdir"
    assert get(site, path)[0]["error"]["code"] == "outside-workdir"


def test_a_file_from_any_offset(site: SiteFolder) -> None:
    (site.path / "x").write_bytes(DATA)
    for offset in (0, 1, 1_234_567, len(DATA)):
        assert get(site, "x", offset) == ({"ok": {"size": len(DATA), "kind": "file"}}, DATA[offset:], 0)
    said, rest, code = get(site, "x", len(DATA) + 1)
    assert (said["error"]["code"], rest, code) == ("bad-request", b"", 1)
    assert get(site, "none")[0]["error"]["code"] == "not-found"


def _tree(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/x").write_bytes(DATA[:100_000])
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("sub/x")
    (folder / ("n" * 120)).write_text("a long name")


def test_a_folder_there_and_back(site: SiteFolder, tmp_path: Path) -> None:
    """Its canonical stream, from any offset; unpacked it has the same digest."""
    _tree(site.path / "tree")
    digest, length = canonical.digest(str(site.path / "tree"))
    said, stream, code = get(site, "tree")
    assert (said, code, len(stream)) == ({"ok": {"size": None, "kind": "folder"}}, 0, length)
    assert hashlib.sha256(stream).hexdigest() == digest
    assert get(site, "tree", 70_001)[1] == stream[70_001:]
    assert put(site, stream[:5000], "copy", size=length, digest=digest, unpack=True)["ok"]["complete"] is False
    done = put(site, stream[5000:], "copy", 5000, size=length, digest=digest, unpack=True)
    assert done == {"ok": {"size": length, "complete": True}}
    assert canonical.digest(str(site.path / "copy"))[0] == digest
    assert sorted(os.listdir(site.path)) == sorted(
        [*{"bin", "jobs", "arrays", "cache", "checkpoints", "tmp"}, "tree", "copy"]
    )


def test_a_stream_that_is_no_folder_leaves_nothing(site: SiteFolder) -> None:
    said = put(site, DATA, "copy", digest=DIGEST, unpack=True)
    assert said["error"]["code"] == "digest"
    assert not (site.path / "copy").exists() and not (site.path / "copy.making").exists()


def test_a_tar_that_would_write_elsewhere_is_refused(site: SiteFolder) -> None:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as bundle:
        info = tarfile.TarInfo("../evil")
        info.size = 4
        bundle.addfile(info, io.BytesIO(b"evil"))
    data = buffer.getvalue()
    said = put(site, data, "copy", size=len(data), digest=hashlib.sha256(data).hexdigest(), unpack=True)
    assert said["error"]["code"] == "digest" and not (site.path / "evil").exists()


def test_an_output_that_is_a_link_within_the_site(site: SiteFolder) -> None:
    (site.path / "cache").mkdir()
    (site.path / "cache/d").write_bytes(b"shared")
    work = site.path / "jobs/1.1-a/work"
    work.mkdir(parents=True)
    (work / "out").symlink_to("../../../cache/d")
    (work / "leak").symlink_to("/etc/passwd")
    assert get(site, "jobs/1.1-a/work/out")[1] == b"shared"
    assert get(site, "jobs/1.1-a/work/leak")[0]["error"]["code"] == "outside-workdir"


@pytest.mark.system
def test_a_full_disk_keeps_what_came(small_site: SiteFolder) -> None:
    big = random.Random(9).randbytes(6_000_000)
    digest = hashlib.sha256(big).hexdigest()
    said = put(small_site, big, "x", size=len(big), digest=digest)
    assert said["error"]["code"] == "disk-full"
    assert 0 < (small_site.path / "x.part").stat().st_size < len(big) and not (small_site.path / "x").exists()
