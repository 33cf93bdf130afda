"""What is in a folder's stream, found by its headers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.data.members import PIECE, Member, member, members
from isthmus.domain.errors import Invalid
from isthmus.runner import canonical


class Stream:
    """A folder's canonical tar that counts what is read of it."""

    def __init__(self, folder: Path) -> None:
        self.data = b"".join(canonical.stream(folder))
        self.read_bytes = 0

    async def read(self, offset: int, length: int) -> bytes:
        part = self.data[offset : offset + length]
        self.read_bytes += len(part)
        return part

    def content(self, one: Member) -> bytes:
        return self.data[one.begin : one.begin + one.size]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "out"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "a.csv").write_text("x,y\n1,2\n")
    (top / "empty").write_bytes(b"")
    (top / "sub" / ("n" * 130 + " שלום.txt")).write_text("long")
    (top / "sub" / "link").symlink_to("t" * 150)
    (top / "big.bin").write_bytes(bytes(range(256)) * 40_000)
    (top / "z").write_text("the last")
    return top


async def test_members_of_a_folder(folder: Path) -> None:
    stream = Stream(folder)
    page = await members(stream.read, len(stream.data))
    assert [(one.name, one.kind, one.size) for one in page.members] == [
        ("a.csv", "file", 8),
        ("big.bin", "file", 256 * 40_000),
        ("empty", "file", 0),
        ("sub", "folder", 0),
        ("sub/deep", "folder", 0),
        ("sub/link", "link", 0),
        ("sub/" + "n" * 130 + " שלום.txt", "file", 4),
        ("z", "file", 8),
    ]
    assert page.next == 0
    for one in page.members:
        if one.kind == "file":
            assert stream.content(one) == (folder / one.name).read_bytes()
    assert page.members[5].target == "t" * 150
    assert stream.read_bytes < 3 * PIECE  # not what is in the large file


async def test_pages_of_members_and_one_alone(folder: Path) -> None:
    stream = Stream(folder)
    whole = (await members(stream.read, len(stream.data))).members
    found: list[Member] = []
    at = 0
    while True:
        page = await members(stream.read, len(stream.data), at=at, limit=3)
        found.extend(page.members)
        at = page.next
        if not at:
            break
    assert tuple(found) == whole
    for one in whole:
        assert await member(stream.read, len(stream.data), one.at) == one


async def test_an_empty_folder(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    assert (await members(stream.read, len(stream.data))).members == ()


@pytest.mark.parametrize("at", [-512, 100, 1536, 10**9])
async def test_a_place_where_no_member_begins(folder: Path, at: int) -> None:
    stream = Stream(folder)
    with pytest.raises(Invalid):
        await member(stream.read, len(stream.data), at)


async def test_what_is_no_folder_at_all() -> None:
    async def read(offset: int, length: int) -> bytes:
        return b"not a tar at all"[offset : offset + length]

    with pytest.raises(Invalid):
        await members(read, 16)
