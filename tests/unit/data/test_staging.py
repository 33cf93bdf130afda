"""Staging: at most once at a time, resumable, verified, by the ways that residency allows."""

import asyncio
import random
from pathlib import Path

import pytest

from isthmus.data.digests import hex_of
from isthmus.data.requirements import Content, Origin
from isthmus.db import replicas
from isthmus.domain.errors import Conflict, IsthmusError, Refused, Unavailable, Unreachable
from isthmus.domain.sites import Inventory
from tests.unit.data.conftest import Ground, digest_of, in_cache, needs

DATA = random.Random(7).randbytes(1_300_000)


async def test_content_comes_from_the_store(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    told: list[tuple[int, int]] = []
    staged = await ground.staging.ensure(place, needs(content), progress=lambda *done: told.append(done))
    assert in_cache(place, content.digest) == DATA
    assert staged.inputs == ({"path": "in/0", "source": f"cache/{hex_of(content.digest)}", "mode": "link"},)
    assert told[-1] == (len(DATA), len(DATA))
    row = await ground.replica(place, content.digest)
    assert (row.state, row.bytes_done, row.path) == ("PRESENT", len(DATA), f"cache/{hex_of(content.digest)}")


async def test_fifty_jobs_wait_for_one_transfer(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    fake = ground.fakes["far"]
    release = fake.hold("put")
    jobs = [asyncio.create_task(ground.staging.ensure(place, needs(content))) for _ in range(50)]
    await fake.called("put")
    release()
    staged = await asyncio.gather(*jobs)
    assert fake.calls["put"] == 1
    assert len({one.inputs[0]["source"] for one in staged}) == 1
    await ground.staging.ensure(place, needs(content))
    assert fake.calls["put"] == 1


async def test_each_user_has_their_own_copy(ground: Ground) -> None:
    """Replicas lie in a user's folder: another one's can't be read by everybody."""
    place = await ground.site("far")
    content = await ground.dataset(b"x")
    await ground.staging.ensure(place, needs(content))
    import dataclasses

    from isthmus.db import users
    from isthmus.domain.users import Role
    from isthmus.testing import FakeSite

    bob = await ground.db.write(users.create, "bob", Role.MEMBER, now=1.0)
    other = dataclasses.replace(place, user_id=bob.id, site=FakeSite("far-bob"))
    await ground.staging.ensure(other, needs(content))
    assert in_cache(other, content.digest) == b"x"


@pytest.mark.parametrize("seed", range(5))
async def test_a_cut_transfer_is_gone_on_with(ground: Ground, seed: int) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    fake = ground.fakes["far"]
    fake.cut_transfer(random.Random(seed).randrange(1, len(DATA)))
    with pytest.raises(Unreachable):
        await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) is None
    part = len(fake.partial[f"cache/{hex_of(content.digest)}"])
    assert 0 < part < len(DATA)
    assert (await ground.replica(place, content.digest)).state == "FAILED"
    first: list[int] = []
    # After a restart of the control plane nothing but the part is left of it.
    await ground.new_staging().ensure(place, needs(content), progress=lambda done, total: first.append(done))
    assert in_cache(place, content.digest) == DATA
    assert first[0] >= part


async def test_wrong_bytes_never_become_content(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    path = ground.store.local(content.digest)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(IsthmusError) as failure:
        await ground.staging.ensure(place, needs(content))
    assert failure.value.code == "digest"
    assert in_cache(place, content.digest) is None
    assert not ground.fakes["far"].cached


async def test_a_spoilt_part_is_begun_anew(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    ground.fakes["far"].partial[f"cache/{hex_of(content.digest)}"] = b"?" * 1000
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA


async def test_one_site_gives_what_the_store_has_not(ground: Ground) -> None:
    origin = await ground.site("origin")
    place = await ground.site("far")
    content = await ground.dataset(DATA, stored=False)
    await ground.put_at(origin, DATA)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA
    assert await ground.store.stat(content.digest) is None, "it went through memory, not through the store"


async def test_a_source_that_fails_is_tried_again_from_where_it_was(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.data.transfer.FIRST_PAUSE_S", 0.0)
    origin = await ground.site("origin")
    place = await ground.site("far")
    content = await ground.dataset(DATA, stored=False)
    await ground.put_at(origin, DATA)
    ground.fakes["origin"].cut_transfer(700_000)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA
    assert ground.fakes["origin"].calls["get"] == 2


async def test_a_dead_source_is_not_blamed_on_the_target(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the supervisor must not do: call the target unreachable because another site is."""
    monkeypatch.setattr("isthmus.data.transfer.FIRST_PAUSE_S", 0.0)
    origin = await ground.site("origin")
    place = await ground.site("far")
    content = await ground.dataset(DATA, stored=False)
    await ground.put_at(origin, DATA)
    ground.fakes["origin"].cut()
    with pytest.raises(Unavailable) as failure:
        await ground.staging.ensure(place, needs(content))
    assert "origin" in str(failure.value)
    assert failure.value.transient


async def test_another_copy_is_taken_when_one_is_gone(ground: Ground) -> None:
    first, second = await ground.site("a-first"), await ground.site("b-second")
    place = await ground.site("far")
    content = await ground.dataset(DATA, stored=False)
    await ground.put_at(first, DATA)
    await ground.put_at(second, DATA)
    ground.fakes["a-first"].files.clear()
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA
    assert ground.opened == ["a-first", "b-second"]


async def test_what_exists_nowhere_is_said_to_be_missing(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA, stored=False)
    with pytest.raises(Conflict) as failure:
        await ground.staging.ensure(place, needs(content))
    assert failure.value.code == "missing"
    assert "dataset d" in str(failure.value)


async def test_an_output_is_read_where_its_job_left_it(ground: Ground) -> None:
    place = await ground.site("far")
    ground.fakes["far"].files["jobs/3.1-abcd/work/model"] = DATA
    origin = Origin(
        job=3, attempt="3.1-abcd", site_id=place.site_id, user_id=ground.user_id, path="jobs/3.1-abcd/work/model"
    )
    content = Content(label="output model of job 3", digest=digest_of(DATA), size=len(DATA), origin=origin)
    staged = await ground.staging.ensure(place, needs(content))
    assert staged.inputs[0]["source"] == "jobs/3.1-abcd/work/model"
    assert ground.fakes["far"].calls["put"] == 0


async def test_an_output_comes_from_the_site_of_its_job(ground: Ground) -> None:
    origin_place = await ground.site("origin")
    place = await ground.site("far")
    ground.fakes["origin"].files["jobs/3.1-abcd/work/model"] = DATA
    origin = Origin(
        job=3, attempt="3.1-abcd", site_id=origin_place.site_id, user_id=ground.user_id, path="jobs/3.1-abcd/work/model"
    )
    content = Content(label="output model of job 3", digest=digest_of(DATA), size=len(DATA), origin=origin)
    staged = await ground.staging.ensure(place, needs(content))
    assert staged.inputs[0]["source"] == f"cache/{hex_of(content.digest)}"
    assert in_cache(place, content.digest) == DATA


async def test_a_waiter_may_leave_and_the_others_get_theirs(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    fake = ground.fakes["far"]
    release = fake.hold("put")
    first = asyncio.create_task(ground.staging.ensure(place, needs(content)))
    second = asyncio.create_task(ground.staging.ensure(place, needs(content)))
    await fake.called("put")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release()
    await second
    assert fake.calls["put"] == 1


async def test_a_transfer_that_nobody_waits_for_stops(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    fake = ground.fakes["far"]
    release = fake.hold("cache")
    only = asyncio.create_task(ground.staging.ensure(place, needs(content)))
    await fake.called("cache")
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    release()
    assert fake.calls["put"] == 0
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA


async def test_this_machine_links_instead_of_sending(ground: Ground, tmp_path: Path) -> None:
    place = await ground.site("here", here=True)
    content = await ground.dataset(DATA)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA
    assert ground.fakes["here"].calls["put"] == 0
    (request,) = ground.fakes["here"].prepared
    assert request["op"] == "link" and request["source"] == str(ground.store.local(content.digest))


async def test_where_a_link_is_not_allowed_bytes_are_sent(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await ground.site("here", here=True)
    content = await ground.dataset(DATA)

    async def refuse(request: object, *, timeout_s: float = 0) -> dict[str, object]:
        raise Refused("The site does not allow it.", code="forbidden")

    monkeypatch.setattr(ground.fakes["here"], "prepare", refuse)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA


async def test_a_full_disk_is_told_as_such(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)

    async def full(*args: object, **more: object) -> None:
        error = Refused("The disk of the work folder is full.", code="disk-full")
        error.transient = True  # as the proxy says
        raise error

    monkeypatch.setattr(ground.fakes["far"], "put", full)
    with pytest.raises(Refused) as failure:
        await ground.staging.ensure(place, needs(content))
    assert failure.value.code == "disk-full"
    assert not failure.value.transient, "an attempt that waits for room would wait for ever"
    assert (await ground.replica(place, content.digest)).error.startswith("The disk of the work folder is full")


async def test_a_full_disk_makes_the_unused_go(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await ground.site("far")
    old = await ground.dataset(b"old", "old")
    await ground.staging.ensure(place, needs(old))
    fake = ground.fakes["far"]
    _age(ground, old.digest)
    content = await ground.dataset(DATA, "new")
    put, failures = fake.put, [Refused("full", code="disk-full")]

    async def full_once(*args: object, **more: object) -> None:
        if failures:
            raise failures.pop()
        await put(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fake, "put", full_once)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, old.digest) is None
    assert in_cache(place, content.digest) == DATA


async def test_uses_are_written_before_anything_is_brought(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    attempt = await ground.attempt(place)
    ground.fakes["far"].cut()
    with pytest.raises(Unreachable):
        await ground.staging.ensure(place, needs(content), attempt_id=attempt)
    assert await ground.db.read(replicas.needed) == {content.digest}


async def test_what_was_removed_at_the_site_is_brought_again(ground: Ground) -> None:
    place = await ground.site("far")
    content = await ground.dataset(DATA)
    await ground.staging.ensure(place, needs(content))
    ground.fakes["far"].files.clear()
    ground.fakes["far"].cached.clear()
    ground.staging.forget(place.site_id)
    await ground.staging.ensure(place, needs(content))
    assert in_cache(place, content.digest) == DATA


async def test_an_archive_is_made_ready_once(ground: Ground) -> None:
    import dataclasses

    from isthmus.domain.artefacts import ImageFormat

    place = await ground.site("far")
    place = dataclasses.replace(place, inventory=Inventory(engines={"charliecloud": "0.31"}))
    content = dataclasses.replace(await ground.dataset(DATA), format=ImageFormat.OCI_ARCHIVE)
    digits = hex_of(content.digest)
    fake = ground.fakes["far"]
    fake.preparations[f"{digits}.root"] = {"env": {"PATH": "/usr/bin"}}
    release = fake.hold("prepare")
    jobs = [asyncio.create_task(ground.staging.ensure(place, needs(image=content))) for _ in range(10)]
    await fake.called("prepare")
    release()
    staged = await asyncio.gather(*jobs)
    assert staged[0].container == {"engine": "charliecloud", "image": f"cache/{digits}.root"}
    assert staged[0].env == {"PATH": "/usr/bin"}
    assert fake.calls["prepare"] == 1


async def test_when_the_engine_can_not_convert_the_layers_are_unpacked(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from isthmus.domain.artefacts import ImageFormat

    place = await ground.site("far")
    place = dataclasses.replace(place, inventory=Inventory(engines={"apptainer": "1.4"}))
    content = dataclasses.replace(await ground.dataset(DATA), format=ImageFormat.OCI_ARCHIVE)
    asked: list[str] = []

    async def prepare(request: dict[str, object], *, timeout_s: float = 0) -> dict[str, object]:
        asked.append(str(request["op"]))
        if request["op"] == "run":
            raise Refused("apptainer ended with exit code 255", code="engine")
        return {}

    monkeypatch.setattr(ground.fakes["far"], "prepare", prepare)
    staged = await ground.staging.ensure(place, needs(image=content))
    assert asked == ["run", "layers"]
    assert staged.container == {"engine": "apptainer", "image": f"cache/{hex_of(content.digest)}.root"}


def _age(ground: Ground, digest: str, name: str = "far") -> None:
    """Last used an hour ago."""
    import dataclasses
    import time

    cached = ground.fakes[name].cached
    cached[hex_of(digest)] = dataclasses.replace(cached[hex_of(digest)], used=time.time() - 3600)
