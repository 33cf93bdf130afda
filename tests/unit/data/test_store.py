"""The store and its spool: resumable, verified, one writer, nothing half-done."""

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.data.digests import name_of
from isthmus.data.incoming import Spool
from isthmus.data.intake import read_into
from isthmus.data.store import FolderStore
from isthmus.domain.errors import Conflict, Invalid, NotFound
from isthmus.runner import canonical

DATA = random.Random(1).randbytes(2_500_000)
DIGEST = name_of(hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    store.prepare()
    return store


def parts(store: FolderStore) -> list[str]:
    return [path.name for path in store.spool.folder.iterdir()]


async def whole(store: FolderStore, digest: str, **more: int) -> bytes:
    return b"".join([piece async for piece in store.read(digest, **more)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(DATA)), max_size=5).map(sorted))
def test_cut_anywhere_and_gone_on_with(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    async def run() -> None:
        store = FolderStore(tmp_path_factory.mktemp("s"))
        store.prepare()
        for end in [*cuts, len(DATA)]:
            # Each time from the file alone, as after a crash.
            async with store.spool.open("u") as incoming:
                assert incoming.offset == store.spool.size("u")
                await incoming.write(DATA[incoming.offset : end])
        async with store.spool.open("u") as incoming:
            path, digest, size = await incoming.seal(DIGEST, len(DATA))
            await store.take(path, digest)
        assert (digest, size) == (DIGEST, len(DATA))
        assert await whole(store, DIGEST) == DATA
        assert not parts(store)

    asyncio.run(run())


async def test_wrong_bytes_are_refused_and_gone(store: FolderStore) -> None:
    async with store.spool.open("u") as incoming:
        await incoming.write(DATA[:-1] + b"!")
        with pytest.raises(Invalid) as failure:
            await incoming.seal(DIGEST)
    assert failure.value.code == "digest"
    assert DIGEST in str(failure.value)
    assert await store.stat(DIGEST) is None
    assert not parts(store)


async def test_too_few_bytes_are_refused(store: FolderStore) -> None:
    async with store.spool.open("u") as incoming:
        await incoming.write(DATA[:1000])
        with pytest.raises(Invalid, match="1000 bytes came, 2500000 were announced"):
            await incoming.seal(DIGEST, len(DATA))
    assert store.spool.size("u") == 1000, "the rest may follow"


async def test_too_many_bytes_are_refused_and_gone(store: FolderStore) -> None:
    async with store.spool.open("u") as incoming:
        await incoming.write(DATA)
        with pytest.raises(Invalid, match="2500000 bytes came, 1000 were announced"):
            await incoming.seal("", 1000)
    assert not parts(store)


async def test_one_writer_at_a_time(store: FolderStore) -> None:
    async with store.spool.open("u") as first:
        await first.write(b"abc")
        with pytest.raises(Conflict) as failure:
            async with store.spool.open("u"):
                pass
        assert failure.value.code == "busy"
    async with store.spool.open("u") as second:
        assert second.offset == 3


async def test_ranges(store: FolderStore) -> None:
    async with store.spool.open("u") as incoming:
        await incoming.write(DATA)
        path, digest, _ = await incoming.seal()
        await store.take(path, digest)
    assert await whole(store, digest, offset=2_000_000) == DATA[2_000_000:]
    assert await whole(store, digest, offset=10, length=20) == DATA[10:30]
    assert await whole(store, digest, offset=len(DATA)) == b""
    assert await whole(store, digest, offset=len(DATA) + 5) == b""
    local = store.local(digest)
    assert local is not None and local.stat().st_mode & 0o777 == 0o444


async def test_what_is_not_there(store: FolderStore) -> None:
    with pytest.raises(NotFound):
        await whole(store, DIGEST)
    assert await store.stat(DIGEST) is None
    assert not await store.touch(DIGEST)
    await store.delete(DIGEST)
    assert [one async for one in store.all()] == []


async def test_the_age_of_content_begins_when_it_is_named_anew(store: FolderStore) -> None:
    async with store.spool.open("u") as incoming:
        await incoming.write(b"x")
        path, digest, _ = await incoming.seal()
        await store.take(path, digest)
    local = store.local(digest)
    assert local is not None
    os.utime(local, (1.0, 1.0))
    assert [one.at async for one in store.all()] == [1.0]
    assert await store.touch(digest)
    stored = await store.stat(digest)
    assert stored is not None and stored.at > 1e9


async def test_intake_of_a_file_and_of_a_folder(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "x").write_bytes(DATA)
    for path, digest in (
        (tmp_path / "f", hashlib.sha256(DATA).hexdigest()),
        (tmp_path / "d", canonical.digest(str(tmp_path / "d"))[0]),
    ):
        async with store.spool.open("u") as incoming:
            # It goes on behind what is there.
            stream = DATA if path.is_file() else b"".join(canonical.stream(str(path)))
            await incoming.write(stream[:1_000_001])
            sealed, found, size = await read_into(incoming, path, digest=digest)
            assert (found, size) == (name_of(digest), len(stream))
            sealed.unlink()


async def test_intake_can_be_stopped(store: FolderStore, tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(1 << 30)
    async with store.spool.open("u") as incoming:
        reading = asyncio.create_task(read_into(incoming, tmp_path / "f"))
        while not incoming.offset:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert incoming.offset < 1 << 30


def test_names_of_parts_have_their_age(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / "u.part").write_bytes(b"abc")
    os.utime(tmp_path / "u.part", (5.0, 5.0))
    assert spool.names() == {"u": 5.0}
    spool.drop("u")
    spool.drop("u")
    assert spool.names() == {}
