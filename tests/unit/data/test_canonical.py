"""A folder's canonical stream: the same bytes everywhere, cut anywhere, and nothing evil unpacked."""

import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from isthmus.runner import canonical
from isthmus.runner.canonical import NotCanonical

# Made once and kept: a change of the form would make every digest that people have wrong.
KNOWN = "ba1d3301fb8ffd24cfbb0a3adb1a252118615695d83da7baac0b6d9c6261e853"


def make(top: Path) -> Path:
    """Everything that a folder may hold."""
    for name in ("a", "b/c", "empty", "ü x"):
        (top / name).mkdir(parents=True)
    (top / "a" / "x").write_bytes(b"hello\n")
    (top / "b" / "c" / "big").write_bytes(random.Random(5).randbytes(3_000_001))
    (top / "b" / "block").write_bytes(b"x" * 512)
    (top / "a.b").write_bytes(b"#!/bin/sh\n")
    (top / "a.b").chmod(0o700)
    (top / "ü x" / "none").write_bytes(b"")
    (top / "b" / "link").symlink_to("/etc/passwd")
    (top / "b" / "far").symlink_to("q" * 150)
    for length in (99, 100, 101, 200):
        (top / ("n" * length)).write_bytes(b"%d" % length)
    deep = top / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"f")
    with open(os.fsencode(top) + b"/bad\xff", "wb") as file:
        file.write(b"bytes that are no text")
    return top


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return make(tmp_path / "top")


def whole(top: Path) -> bytes:
    return b"".join(canonical.stream(str(top)))


def test_it_is_a_tar_archive_that_others_read(top: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(whole(top))
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "x.tar", "-C", tmp_path / "there"], check=True)
    subprocess.run(["diff", "-r", "--no-dereference", top, tmp_path / "there"], check=True)


def test_it_depends_on_the_content_alone(top: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "again")
    for path in again.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (again / "a" / "x").chmod(0o600)
    assert whole(again) == whole(top)
    (again / "a" / "x").chmod(0o700)
    assert whole(again) != whole(top)


def test_every_python_makes_the_same_bytes(top: Path) -> None:
    program = f"""
import sys, importlib.util
spec = importlib.util.spec_from_file_location("canonical", {canonical.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest(sys.argv[1])[0])
"""
    found = {sys.executable, *_pythons()}
    digests = {
        one: subprocess.run([one, "-c", program, str(top)], check=True, capture_output=True, text=True).stdout.strip()
        for one in found
    }
    assert set(digests.values()) == {hashlib.sha256(whole(top)).hexdigest()}, digests


def test_the_form_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "x").write_bytes(b"hello\n")
    (tmp_path / "d" / "run").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "d" / "run").chmod(0o755)
    (tmp_path / "d" / "link").symlink_to("sub/x")
    assert canonical.digest(str(tmp_path / "d")) == (KNOWN, 4096)


def test_from_any_offset(top: Path) -> None:
    all_of_it = whole(top)
    assert canonical.measure(str(top)) == len(all_of_it)
    chance = random.Random(2)
    for _ in range(40):
        offset = chance.randrange(len(all_of_it) + 1)
        assert b"".join(canonical.stream(str(top), offset)) == all_of_it[offset:]


def test_unpacked_it_is_the_same_folder(top: Path, tmp_path: Path) -> None:
    expected = canonical.digest(str(top))
    assert canonical.check(io.BytesIO(whole(top))) == expected
    assert canonical.unpack(io.BytesIO(whole(top)), str(tmp_path / "there")) == expected
    assert canonical.digest(str(tmp_path / "there")) == expected


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, as a pipe may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 7777))


def test_it_is_read_from_a_pipe(top: Path, tmp_path: Path) -> None:
    assert canonical.unpack(Dribble(whole(top)), str(tmp_path / "there")) == canonical.digest(str(top))


def test_a_cut_stream_is_no_folder(top: Path, tmp_path: Path) -> None:
    all_of_it = whole(top)
    for number, end in enumerate([0, 511, 512, 5000, len(all_of_it) - 513, len(all_of_it) - 1]):
        with pytest.raises(NotCanonical):
            canonical.unpack(io.BytesIO(all_of_it[:end]), str(tmp_path / str(number)))


EVIL = {
    "leads out": [("../x", tarfile.REGTYPE, "evil")],
    "absolute": [("/tmp/x", tarfile.REGTYPE, "evil")],
    "through a link": [("l", tarfile.SYMTYPE, "/tmp"), ("l/x", tarfile.REGTYPE, "evil")],
    "a hard link": [("l", tarfile.LNKTYPE, "/etc/passwd")],
    "a device": [("d", tarfile.CHRTYPE, "")],
    "twice": [("x", tarfile.REGTYPE, "a"), ("x", tarfile.REGTYPE, "b")],
    "out of order": [("b", tarfile.REGTYPE, "b"), ("a", tarfile.REGTYPE, "a")],
    "no folder for it": [("d/x", tarfile.REGTYPE, "x")],
    "a dot": [("./x", tarfile.REGTYPE, "x")],
}


@pytest.mark.parametrize("what", EVIL)
def test_nothing_evil_is_unpacked(what: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in EVIL[what]:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.mode = kind, 0, 0o644
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content
            elif kind == tarfile.REGTYPE:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    with pytest.raises(NotCanonical):
        canonical.unpack(io.BytesIO(buffer.getvalue()), str(tmp_path / "top"))
    assert not [path for path in Path("/tmp").glob("x") if path.read_bytes() == b"evil"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["top"]


def test_other_bytes_are_refused(top: Path, tmp_path: Path) -> None:
    """Every bit of a header counts: else two streams would be one folder with two digests."""
    all_of_it = whole(top)
    chance = random.Random(4)
    for _ in range(60):
        place = chance.randrange(512)
        spoilt = bytearray(all_of_it)
        spoilt[place] ^= 1 << chance.randrange(8)
        with pytest.raises(NotCanonical):
            canonical.check(io.BytesIO(bytes(spoilt)))
    with pytest.raises(NotCanonical):
        canonical.check(io.BytesIO(all_of_it + b"\0"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "pipe")
    with pytest.raises(NotCanonical, match="neither a file, a folder nor a link"):
        canonical.digest(str(tmp_path / "d"))


def test_a_file_that_changes_on_the_way_is_told(tmp_path: Path) -> None:
    for change in (b"", b"x" * (canonical.CHUNK * 3)):
        folder = tmp_path / f"d{len(change)}"
        folder.mkdir()
        (folder / "x").write_bytes(b"x" * (canonical.CHUNK * 2))
        pieces = canonical.stream(str(folder))
        next(pieces), next(pieces)
        (folder / "x").write_bytes(change)
        with pytest.raises(NotCanonical, match=r"became (shorter|longer)"):
            list(pieces)


def _pythons() -> list[str]:
    """Interpreters of other versions on this machine, the oldest among them."""
    places = [Path("/usr/bin"), *sorted(Path.home().glob(".pyenv/versions/3.*/bin"))]
    return [str(place / "python3") for place in places if (place / "python3").exists()]
