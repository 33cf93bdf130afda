"""One suite for every object store: a folder, and S3."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.data.digests import name_of
from isthmus.data.s3 import S3Store
from isthmus.data.store import FolderStore, Store
from isthmus.domain.errors import Invalid, NotFound, Unavailable
from tests.testbed.s3 import S3Server

DATA = random.Random(31).randbytes(12_000_000)  # more than one part of a multipart upload
DIGEST = name_of(hashlib.sha256(DATA).hexdigest())
NOTHING = name_of(hashlib.sha256(b"nothing").hexdigest())


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.system)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        folder = FolderStore(tmp_path / "store")
        folder.prepare()
        return folder
    server = request.getfixturevalue("s3")
    made = S3Store(server.url + tmp_path.name, tmp_path / "incoming", **server.options)
    made.prepare()
    return made


async def given(store: Store, data: bytes) -> str:
    async with store.spool.open("given") as incoming:
        await incoming.write(data)
        path, digest, _ = await incoming.seal()
        await store.take(path, digest)
        assert not path.exists()
    return digest


async def whole(store: Store, digest: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(digest, offset=offset, length=length)])


async def test_what_is_put_in_comes_out(store: Store) -> None:
    assert await given(store, DATA) == DIGEST
    stored = await store.stat(DIGEST)
    assert stored is not None
    assert (stored.digest, stored.size) == (DIGEST, len(DATA))
    assert await whole(store, DIGEST) == DATA
    assert await given(store, DATA) == DIGEST, "a second time changes nothing"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 10), (5, None), (11_999_999, None), (11_999_990, 500), (12_000_000, None), (99_000_000, 1)],
)
async def test_ranges(store: Store, offset: int, length: int | None) -> None:
    await given(store, DATA)
    end = None if length is None else offset + length
    assert await whole(store, DIGEST, offset, length) == DATA[offset:end]


async def test_the_empty_content(store: Store) -> None:
    digest = await given(store, b"")
    assert await whole(store, digest) == b""
    assert await store.touch(digest)


async def test_what_is_not_there(store: Store) -> None:
    assert await store.stat(NOTHING) is None
    assert not await store.touch(NOTHING)
    assert store.local(NOTHING) is None
    with pytest.raises(NotFound):
        await whole(store, NOTHING)
    await store.delete(NOTHING)


async def test_all_and_delete(store: Store) -> None:
    digests = {await given(store, b"%d" % number) for number in range(5)}
    assert {one.digest async for one in store.all()} == digests
    gone = digests.pop()
    await store.touch(gone)
    await store.delete(gone)
    assert {one.digest async for one in store.all()} == digests
    assert await store.stat(gone) is None


async def test_its_age_begins_when_it_is_named_anew(store: Store) -> None:
    digest = await given(store, b"x")
    before = await store.stat(digest)
    assert before is not None
    while True:  # times are whole seconds in S3
        await store.touch(digest)
        after = await store.stat(digest)
        assert after is not None
        if after.at > before.at:
            break
    assert [one.at async for one in store.all()] == [after.at]


@pytest.mark.system
async def test_a_store_that_is_away_is_told_so(s3: S3Server, tmp_path: Path) -> None:
    options = {**s3.options, "endpoint": "http://127.0.0.1:9"}
    store = S3Store(s3.url, tmp_path / "incoming", **options)
    store.prepare()
    with pytest.raises(Unavailable, match=r"The object store s3://testbed/some/prefix failed"):
        await store.stat(DIGEST)
    async with store.spool.open("given") as incoming:
        await incoming.write(b"x")
        path, digest, _ = await incoming.seal()
        with pytest.raises(Unavailable):
            await store.take(path, digest)
        assert path.exists(), "nothing is lost"


@pytest.mark.parametrize("url", ["s3://", "http://x/y", "bucket"])
def test_what_is_no_place_in_s3(url: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"Write it like s3://bucket/prefix"):
        S3Store(url, tmp_path)
