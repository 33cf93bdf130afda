"""Garbage collection: what is used, pinned or the last copy never goes."""

import asyncio
import dataclasses
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from isthmus.data.digests import hex_of
from isthmus.data.garbage import GRACE_S, victims
from isthmus.data.requirements import Content
from isthmus.db import artefacts, attempts, replicas
from isthmus.db.schema import attempts as table
from isthmus.db.schema import replicas as rows_of_replicas
from isthmus.domain.artefacts import ArtefactKind
from isthmus.domain.errors import Unreachable
from isthmus.domain.units import Bytes
from isthmus.sites.base import Cached
from tests.unit.data.conftest import Ground, digest_of, in_cache, needs

NOW = 10_000.0
NAMES = st.sampled_from([letter * 64 for letter in "abcdef"])
ENTRIES = st.dictionaries(
    st.one_of(NAMES, NAMES.map(lambda name: name + ".sif")),
    st.builds(Cached, size=st.integers(0, 100), used=st.floats(0, NOW)),
    max_size=8,
)


@given(
    entries=ENTRIES,
    in_use=st.sets(NAMES, max_size=3),
    sole=st.sets(NAMES, max_size=3),
    unused_since=st.one_of(st.none(), st.floats(0, NOW)),
    bound=st.integers(0, 300),
    wanted=st.integers(0, 300),
)
def test_victims(
    entries: dict[str, Cached],
    in_use: set[str],
    sole: set[str],
    unused_since: float | None,
    bound: int,
    wanted: int,
) -> None:
    taken = victims(entries, in_use=in_use, sole=sole, now=NOW, unused_since=unused_since, bound=bound, wanted=wanted)
    names = [one.name for one in taken]
    assert not {name.partition(".")[0] for name in names} & in_use
    assert not set(names) & sole
    assert all(entries[name].used <= NOW - GRACE_S for name in names)
    assert [entries[name].used for name in names] == sorted(entries[name].used for name in names)
    left = set(entries) - set(names)
    loose = {
        name
        for name in left
        if name.partition(".")[0] not in in_use and name not in sole and entries[name].used <= NOW - GRACE_S
    }
    freed = sum(one.size for one in taken)
    total = sum(entry.size for entry in entries.values())
    if loose:  # something could still go: so what was asked for has been reached
        assert freed >= wanted
        assert not bound or total - freed <= bound
    if unused_since is not None:
        assert all(entries[name].used >= unused_since for name in loose)


async def test_what_a_live_attempt_uses_stays(ground: Ground) -> None:
    place = await ground.site("far")
    used, unused = await ground.dataset(b"used", "u"), await ground.dataset(b"unused", "v")
    attempt = await ground.attempt(place)
    await ground.staging.ensure(place, needs(used), attempt_id=attempt)
    await ground.staging.ensure(place, needs(unused))
    _age(ground)
    taken = await ground.new_staging().collect_garbage(place, unused_since=time.time())
    assert taken.digests == (unused.digest,)
    assert in_cache(place, used.digest) == b"used"
    await ground.end(attempt)
    taken = await ground.staging.collect_garbage(place, unused_since=time.time())
    assert taken.digests == (used.digest,)
    assert await ground.replica(place, used.digest) is None


async def test_the_last_copy_of_what_is_registered_stays(ground: Ground) -> None:
    place, other = await ground.site("far"), await ground.site("other")
    content = await ground.dataset(b"precious", stored=False)
    await ground.put_at(place, b"precious")
    await ground.put_at(other, b"precious")
    _age(ground)
    # Both at once: one of the two copies has to stay.
    both = await asyncio.gather(
        ground.staging.collect_garbage(place, unused_since=time.time()),
        ground.staging.collect_garbage(other, unused_since=time.time()),
    )
    assert sum(one.count for one in both) == 1
    left = [one for one in (place, other) if in_cache(one, content.digest) is not None]
    assert len(left) == 1
    made = (await ground.db.read(artefacts.versions, ArtefactKind.DATASET, "d"))[0]
    await ground.db.write(artefacts.remove, made.id, now=time.time())
    taken = await ground.staging.collect_garbage(left[0], unused_since=time.time())
    assert taken.digests == (content.digest,)


async def test_a_dry_run_takes_nothing(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(b"x")
    await ground.staging.ensure(place, needs(content))
    _age(ground)
    taken = await ground.staging.collect_garbage(place, unused_since=time.time(), dry_run=True)
    assert taken.digests == (content.digest,)
    assert in_cache(place, content.digest) == b"x"
    assert await ground.replica(place, content.digest) is not None


async def test_the_bound_of_a_site_is_kept_as_content_comes(ground: Ground) -> None:
    place = await ground.site("far")
    place = dataclasses.replace(place, spec=dataclasses.replace(place.spec, cache=Bytes(2500)))
    contents = [await ground.dataset(random.Random(n).randbytes(1000), f"d{n}") for n in range(4)]
    for content in contents:
        await ground.staging.ensure(place, needs(content))
        _age(ground)
    there = [in_cache(place, content.digest) is not None for content in contents]
    assert there == [False, False, True, True]


async def test_garbage_collection_races_with_jobs(ground: Ground) -> None:
    """Whatever the order, who was told that its content is there has it there until its attempt ends."""
    chance = random.Random(3)
    place = await ground.site("far")
    contents = [await ground.dataset(random.Random(n).randbytes(50), f"d{n}") for n in range(5)]
    stop = False

    async def sweep() -> None:
        while not stop:
            _age(ground, seconds=10_000)
            await ground.staging.collect_garbage(place, unused_since=time.time() - 5000)
            await asyncio.sleep(0)

    async def run(content: Content) -> None:
        for _ in range(15):
            attempt = await ground.attempt(place)
            await ground.staging.ensure(place, needs(content), attempt_id=attempt)
            for _ in range(chance.randrange(4)):
                assert in_cache(place, content.digest) is not None
                await asyncio.sleep(0)
            await ground.end(attempt)

    sweeper = asyncio.create_task(sweep())
    await asyncio.gather(*(run(chance.choice(contents)) for _ in range(8)))
    stop = True
    await sweeper


async def test_an_attempt_that_comes_during_a_sweep_keeps_its_content(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep has looked at the database already, and the job does not ask the site again."""
    place = await ground.site("far")
    content = await ground.dataset(b"x")
    await ground.staging.ensure(place, needs(content))
    _age(ground)
    read = ground.db.read

    async def late(fn: Any, *more: Any, **named: Any) -> Any:
        found = await read(fn, *more, **named)
        if fn is replicas.needed:
            attempt = await ground.attempt(place)
            await ground.staging.ensure(place, needs(content), attempt_id=attempt)
        return found

    monkeypatch.setattr(ground.db, "read", late)
    assert (await ground.staging.collect_garbage(place, unused_since=time.time())).count == 0
    assert in_cache(place, content.digest) == b"x"


async def test_what_was_made_from_an_image_goes_with_it_in_use(ground: Ground) -> None:
    place = await ground.site("far")
    image = await ground.dataset(b"image")
    digits = hex_of(image.digest)
    await ground.staging.ensure(place, needs(image))
    ground.fakes["far"].files[f"cache/{digits}.sif"] = b"made"
    ground.fakes["far"].cached[f"{digits}.sif"] = Cached(4, 0.0)
    attempt = await ground.attempt(place, image.digest)
    _age(ground)
    assert (await ground.new_staging().collect_garbage(place, unused_since=time.time())).count == 0
    await ground.end(attempt)
    taken = await ground.staging.collect_garbage(place, unused_since=time.time())
    assert set(taken.digests) == {f"{digits}.sif", image.digest}


async def test_parts_that_nobody_went_on_with_go(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await ground.site("far")
    contents = [await ground.dataset(random.Random(n).randbytes(200_000), f"d{n}") for n in range(3)]
    removed: list[str] = []
    for content in contents:
        ground.fakes["far"].cut_transfer(70_000)
        with pytest.raises(Unreachable):
            await ground.staging.ensure(place, needs(content))
    await ground.attempt(place, contents[1].digest)  # it still wants to
    await ground.put_at(place, random.Random(2).randbytes(200_000))  # it came by another way
    cache = place.site.cache

    async def watched(**more: Any) -> Any:
        removed.extend(more.get("remove", ()))
        return await cache(**more)

    monkeypatch.setattr(ground.fakes["far"], "cache", watched)
    await ground.staging.collect_garbage(place)
    assert removed == []
    await ground.db.write(lambda conn: conn.execute(rows_of_replicas.update().values(last_used_at=1.0)))
    await ground.staging.collect_garbage(place)
    assert removed == [hex_of(contents[0].digest)]
    assert await ground.replica(place, contents[0].digest) is None
    assert in_cache(place, contents[2].digest) is not None


@pytest.mark.parametrize("prefix", ["", "sha256:"])
async def test_the_folder_of_a_job_stays_while_another_reads_its_output(ground: Ground, prefix: str) -> None:
    place = await ground.site("far")
    maker = await ground.attempt(place)
    digest = digest_of(b"model")

    def end(conn: Connection) -> None:
        job = conn.execute(table.select().where(table.c.id == maker)).one().job_id
        output = {"job_id": job, "attempt_id": maker, "path": "model", "kind": "file", "size": 5}
        attempts.add_outputs(conn, [{**output, "digest": prefix + hex_of(digest), "collected": True}])
        attempts.change(conn, [{"id": maker, "live": False, "state": "COMPLETED", "ended_at": 1.0}])

    await ground.db.write(end)
    reader = await ground.attempt(place, digest)

    async def may_go() -> list[int]:
        return [row.id for row in await ground.db.read(attempts.to_clean, before=2.0, limit=10)]

    assert await may_go() == []
    await ground.end(reader)
    assert await may_go() == [maker]


def _age(ground: Ground, seconds: float = 3600) -> None:
    """Everything in every cache was last used that long ago."""
    for fake in ground.fakes.values():
        for name, entry in list(fake.cached.items()):
            fake.cached[name] = dataclasses.replace(entry, used=time.time() - seconds)
