"""The use cases of datasets and images, on a real store and database, with sites in memory."""

import dataclasses
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isthmus.control.artefacts import ArtefactFilter, Artefacts
from isthmus.data.collection import Collection
from isthmus.data.requirements import content_of
from isthmus.data.uploads import KEEP_S
from isthmus.db import artefacts as rows
from isthmus.db import attempts, events, users
from isthmus.db import jobs as job_rows
from isthmus.domain.artefacts import ArtefactKind, ImageFormat, Registration
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from isthmus.domain.jobs import JobSpec, Output, check
from isthmus.domain.users import Caller, Role, User
from isthmus.runner import canonical
from isthmus.sites.base import Site
from isthmus.testing import ManualClock
from tests.unit.data.conftest import NOW, Ground, digest_of, in_cache, needs

DATASET, IMAGE = ArtefactKind.DATASET, ArtefactKind.IMAGE
DATA = random.Random(11).randbytes(2_000_000)


class Sessions:
    """What `Artefacts` asks of `isthmus.control.sessions.Sessions`: everybody shares the admin's credential."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    async def of(self, site_id: int, user_id: int) -> Site:
        return next(place.site for place in self.ground.places.values() if place.site_id == site_id)

    def credential_of(self, site_id: int, user_id: int) -> int:
        return self.ground.user_id


class Team:
    """The use cases, and who calls them."""

    def __init__(self, ground: Ground, ada: User, bob: User, eve: User) -> None:
        self.ground = ground
        self.clock = ManualClock(datetime.now(UTC))
        self.ada, self.bob, self.eve = Caller(user=ada), Caller(user=bob), Caller(user=eve)
        self.use = self.in_zone("")

    def in_zone(self, zone: str) -> Artefacts:
        """A control plane whose store is in that zone."""
        self.ground.new_staging(zone)
        self.use = Artefacts(
            self.ground.db,
            self.ground.store,
            self.ground.staging,
            Collection(self.ground.store, zone=zone),
            Sessions(self.ground),  # type: ignore[arg-type]
            self.clock,
            zone=zone,
        )
        return self.use


@pytest.fixture
async def team(ground: Ground) -> Team:
    def write(conn: Any) -> tuple[User, User]:
        return (
            users.create(conn, "bob", Role.MEMBER, now=NOW),
            users.create(conn, "eve", Role.VIEWER, now=NOW),
        )

    bob, eve = await ground.db.write(write)
    return Team(ground, User(id=ground.user_id, name="ada", role=Role.ADMIN), bob, eve)


async def chunks(data: bytes, size: int = 70_000) -> AsyncIterator[bytes]:
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def uploaded(team: Team, data: bytes, kind: ArtefactKind = DATASET, **what: Any) -> Any:
    view = await team.use.begin_upload(team.bob, kind, Registration(name=what.pop("name", "d"), **what))
    await team.use.append(team.bob, view.id, 0, chunks(data))
    return await team.use.finish_upload(team.bob, view.id, digest_of(data))


# ---- uploads


async def test_an_upload_becomes_a_version(team: Team) -> None:
    made = await uploaded(team, DATA, labels={"k": "v"}, description="prices")
    assert (made.name, made.version, made.digest, made.size) == ("d", "1", digest_of(DATA), len(DATA))
    assert (made.owner, made.labels, made.description) == ("bob", {"k": "v"}, "prices")
    download = await team.use.download(team.eve, DATASET, "d", offset=5, length=10)
    assert b"".join([piece async for piece in download.data]) == DATA[5:15]
    (event,) = [one for one in await team.ground.db.read(events.page) if one.noun == "dataset"]
    assert (event.actor, event.noun_id, event.verb) == ("bob", "d@1", "created")


@pytest.mark.parametrize("seed", range(4))
async def test_a_cut_upload_is_gone_on_with(team: Team, seed: int) -> None:
    cut = random.Random(seed).randrange(1, len(DATA))
    what = Registration(name="d", digest=digest_of(DATA), size=len(DATA))
    view = await team.use.begin_upload(team.bob, DATASET, what)

    async def dying() -> AsyncIterator[bytes]:
        async for piece in chunks(DATA[:cut]):
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await team.use.append(team.bob, view.id, 0, dying())
    team.in_zone("")  # as after a restart
    again = await team.use.begin_upload(team.bob, DATASET, what)
    assert (again.id, again.offset) == (view.id, cut)
    with pytest.raises(Conflict) as failure:
        await team.use.append(team.bob, view.id, 0, chunks(DATA))
    assert failure.value.code == "offset" and str(cut) in str(failure.value)
    await team.use.append(team.bob, view.id, cut, chunks(DATA[cut:]))
    made = await team.use.finish_upload(team.bob, view.id)
    assert made.digest == digest_of(DATA)
    assert (await team.use.finish_upload(team.bob, view.id)).id == made.id, "its answer may have been lost"


async def test_what_the_store_has_is_not_sent_again(team: Team) -> None:
    await uploaded(team, DATA)
    what = Registration(name="same", digest=digest_of(DATA), size=len(DATA))
    view = await team.use.begin_upload(team.bob, DATASET, what)
    assert view.offset == len(DATA)
    assert (await team.use.finish_upload(team.bob, view.id)).name == "same"


async def test_a_wrong_digest_is_refused_and_nothing_stays(team: Team) -> None:
    view = await team.use.begin_upload(team.bob, DATASET, Registration(name="d"))
    await team.use.append(team.bob, view.id, 0, chunks(DATA))
    with pytest.raises(Invalid) as failure:
        await team.use.finish_upload(team.bob, view.id, digest_of(b"other"))
    assert failure.value.code == "digest"
    assert (await team.use.upload(team.bob, view.id)).offset == 0
    assert [one async for one in team.ground.store.all()] == []
    with pytest.raises(NotFound):
        await team.use.get(team.bob, DATASET, "d")
    with pytest.raises(Invalid):
        await team.use.finish_upload(team.bob, view.id)


async def test_too_much_is_refused(team: Team) -> None:
    view = await team.use.begin_upload(team.bob, DATASET, Registration(name="d", size=10))
    with pytest.raises(TooLarge):
        await team.use.append(team.bob, view.id, 0, chunks(b"x" * 11))
    other = await team.use.begin_upload(team.bob, DATASET, Registration(name="e"))
    with pytest.raises(TooLarge):
        await team.use.append(team.bob, other.id, 0, chunks(b"x" * 11), limit=10)


async def test_uploads_are_their_owner_s(team: Team) -> None:
    view = await team.use.begin_upload(team.bob, DATASET, Registration(name="d"))
    with pytest.raises(NotFound):
        await team.use.append(team.ada, view.id, 0, chunks(b"x"))
    with pytest.raises(Forbidden):
        await team.use.begin_upload(team.eve, DATASET, Registration(name="d"))
    await team.use.cancel_upload(team.bob, view.id)
    await team.use.cancel_upload(team.bob, view.id)
    with pytest.raises(NotFound):
        await team.use.upload(team.bob, view.id)


async def test_folders_are_checked(team: Team, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "x").write_bytes(b"x")
    stream = b"".join(canonical.stream(str(tmp_path / "top")))
    assert (await uploaded(team, stream, is_folder=True)).is_folder
    with pytest.raises(Invalid) as failure:
        await uploaded(team, b"no folder at all", is_folder=True, name="e")
    assert failure.value.code == "folder"


async def test_formats_of_images_are_found_out(team: Team) -> None:
    sif = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0"
    assert (await uploaded(team, sif, IMAGE, name="i")).format is ImageFormat.SIF
    with pytest.raises(Invalid, match="It is of format sif, not sqfs"):
        await uploaded(team, sif, IMAGE, name="j", format=ImageFormat.SQUASHFS)
    with pytest.raises(Invalid, match="no image that is known here"):
        await uploaded(team, b"hello", IMAGE, name="k")


@pytest.mark.parametrize(
    ("what", "place", "words"),
    [
        (Registration(name="a/b"), "name", "'a/b' is not a name."),
        (Registration(name="a@1"), "name", "'a@1' is not a name."),
        (Registration(name="a", version="1 2"), "version", "'1 2' is not a version."),
        (Registration(name="a", digest="md5:1"), "digest", "'md5:1' is not a digest."),
        (Registration(name="a", format=ImageFormat.SIF), "format", "Only images have a format."),
        (Registration(name="a", path="/etc/passwd"), "path", "An upload has neither a path nor a reference."),
        (
            Registration(name="a", zones=("EU",)),
            "zones",
            "It may only be in EU, and this control plane's store is in no declared zone.",
        ),
    ],
)
async def test_bad_registrations_name_the_place(team: Team, what: Registration, place: str, words: str) -> None:
    with pytest.raises(Invalid) as failure:
        await team.use.begin_upload(team.bob, DATASET, what)
    assert (failure.value.place, failure.value.message) == (place, words)


def test_a_job_s_output_is_registered_under_a_name_that_can_be() -> None:
    for dataset in ("a/b", "m@", "m@1 2", "@1"):
        with pytest.raises(Invalid) as failure:
            check(JobSpec(command=("x",), outputs=(Output(path="m"), Output(path="n", dataset=dataset))))
        assert failure.value.place == "outputs[1].dataset"
    check(JobSpec(command=("x",), outputs=(Output(path="m", dataset="m@v1.0"),)))


# ---- versions


async def test_the_same_again_is_the_same(team: Team) -> None:
    first = await uploaded(team, DATA)
    assert (await uploaded(team, DATA)).id == first.id
    assert (await uploaded(team, b"new")).version == "2"
    with pytest.raises(Conflict) as failure:
        await uploaded(team, b"newer", version="2")
    assert failure.value.code == "version-exists"
    with pytest.raises(Conflict):
        await team.use.begin_upload(team.bob, DATASET, Registration(name="d", version="1", digest=digest_of(b"other")))
    assert [one.version for one in await team.use.versions(team.eve, DATASET, "d")] == ["2", "1"]


async def test_pages_and_labels(team: Team) -> None:
    for number in range(5):
        await uploaded(team, b"%d" % number, name=f"d{number}", labels={"kind": "odd" if number % 2 else "even"})
    page = await team.use.list(team.eve, DATASET, ArtefactFilter(limit=2))
    assert [one.name for one in page.artefacts] == ["d4", "d3"]
    page = await team.use.list(team.eve, DATASET, ArtefactFilter(limit=2, before=page.next or 0))
    assert [one.name for one in page.artefacts] == ["d2", "d1"]
    page = await team.use.list(team.eve, DATASET, ArtefactFilter(label=(("kind", "odd"),)))
    assert [one.name for one in page.artefacts] == ["d3", "d1"] and page.next is None


async def test_the_nearest_name_is_told(team: Team) -> None:
    await uploaded(team, DATA, name="sp500")
    with pytest.raises(NotFound, match=r"There is no dataset 'sp50'\. Did you mean 'sp500'\?"):
        await team.use.get(team.eve, DATASET, "sp50")
    with pytest.raises(NotFound, match="There is no version '7' of dataset 'sp500'"):
        await team.use.get(team.eve, DATASET, "sp500@7")


# ---- paths and references


async def test_an_admin_registers_what_lies_on_the_server(team: Team, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(DATA)
    made = await team.use.register(team.ada, DATASET, Registration(name="d", path=str(tmp_path / "d")))
    assert made.is_folder and made.digest == f"sha256:{canonical.digest(str(tmp_path / 'd'))[0]}"
    made = await team.use.register(team.ada, DATASET, Registration(name="x", path=str(tmp_path / "d" / "x")))
    assert made.digest == digest_of(DATA)
    assert not list(team.ground.store.spool.folder.iterdir())
    with pytest.raises(Forbidden, match="Upload it instead"):
        await team.use.register(team.bob, DATASET, Registration(name="y", path="/etc/shadow"))
    for path in ("/nowhere", "relative", os.devnull):
        with pytest.raises(Invalid) as failure:
            await team.use.register(team.ada, DATASET, Registration(name="y", path=path))
        assert failure.value.place == "path"
    with pytest.raises(Invalid) as failure:
        wrong = Registration(name="y", path=str(tmp_path / "d" / "x"), digest=digest_of(b""))
        await team.use.register(team.ada, DATASET, wrong)
    assert failure.value.code == "digest"


async def test_a_reference_is_kept_as_it_is(team: Team) -> None:
    made = await team.use.register(team.bob, IMAGE, Registration(name="py", reference="docker://python:3.12"))
    assert (made.format, made.reference, made.digest) == (ImageFormat.REFERENCE, "docker://python:3.12", "")
    again = await team.use.register(team.bob, IMAGE, Registration(name="py", reference="docker://python:3.12"))
    assert again.id == made.id
    assert await team.use.replicas(team.eve, IMAGE, "py") == []
    with pytest.raises(Conflict):
        await team.use.download(team.eve, IMAGE, "py")


async def test_data_that_lies_at_a_site_is_measured_there(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await team.ground.site("paris", "EU")
    fake = team.ground.fakes["paris"]
    asked: list[dict[str, Any]] = []

    async def prepare(request: dict[str, Any], *, timeout_s: float = 0) -> dict[str, Any]:
        asked.append(request)
        return {"digest": hashlib.sha256(DATA).hexdigest(), "size": len(DATA), "kind": "file"}

    monkeypatch.setattr(fake, "prepare", prepare)
    what = Registration(name="scans", reference="paris:/data/scans", zones=("EU",))
    made = await team.use.register(team.bob, DATASET, what)
    assert (made.digest, made.size, made.zones) == (digest_of(DATA), len(DATA), ("EU",))
    assert asked == [{"op": "adopt", "path": "/data/scans", "digest": ""}]
    (replica,) = await team.use.replicas(team.eve, DATASET, "scans")
    assert (replica.site, replica.state.value) == ("paris", "PRESENT")
    # Staged there, it is the path itself, looked at again for changes.
    staged = await team.ground.staging.ensure(place, needs(content_of(made)))
    assert staged.inputs[0]["source"] == "/data/scans"
    assert asked[-1]["digest"] == hashlib.sha256(DATA).hexdigest()
    # Elsewhere in the zone it can't be: the control plane is not in it.
    other = await team.ground.site("berlin", "EU")
    with pytest.raises(Conflict) as failure:
        await team.ground.staging.ensure(other, needs(content_of(made)))
    assert failure.value.code == "residency"
    with pytest.raises(Invalid, match="It may only be in US, and paris is in zone EU"):
        await team.use.register(team.bob, DATASET, dataclasses.replace(what, zones=("US",)))
    with pytest.raises(Invalid, match=r"Write it like SITE:/path"):
        await team.use.register(team.bob, DATASET, dataclasses.replace(what, reference="s3://bucket"))
    with pytest.raises(NotFound, match="Did you mean 'paris'"):
        await team.use.register(team.bob, DATASET, dataclasses.replace(what, reference="pariss:/data"))


# ---- outputs


async def test_outputs_are_read_from_home_or_from_their_site(team: Team) -> None:
    place = await team.ground.site("far", "EU")
    attempt = await team.ground.attempt(place)

    def write(conn: Any) -> tuple[int, str]:
        from isthmus.db.schema import attempts as table

        row = conn.execute(table.select().where(table.c.id == attempt)).one()
        output = {"job_id": row.job_id, "attempt_id": row.id, "path": "out/model", "kind": "file", "size": len(DATA)}
        attempts.add_outputs(conn, [{**output, "digest": hashlib.sha256(DATA).hexdigest(), "collected": False}])
        return row.job_id, row.key

    job, key = await team.ground.db.write(write)
    (row,) = await team.ground.db.read(attempts.outputs_of, job)
    team.ground.fakes["far"].files[f"jobs/{key}/work/out/model"] = DATA
    download = await team.use.output(team.eve, job, row.id, offset=100)
    assert (download.name, download.size, download.digest) == ("model", len(DATA), digest_of(DATA))
    assert b"".join([piece async for piece in download.data]) == DATA[100:]
    await team.ground.keep(DATA)
    download = await team.use.output(team.eve, job, row.id, offset=1, length=2)
    assert b"".join([piece async for piece in download.data]) == DATA[1:3]
    assert team.ground.fakes["far"].calls["get"] == 1
    await team.ground.db.write(job_rows.change, [{"id": job, "zones": '["EU"]'}])
    with pytest.raises(Forbidden) as failure:
        await team.use.output(team.eve, job, row.id)
    assert failure.value.code == "residency"
    await team.in_zone("EU").output(team.eve, job, row.id)
    with pytest.raises(NotFound):
        await team.use.output(team.eve, job, 999)
    with pytest.raises(NotFound):
        await team.use.output(team.eve, 999, row.id)


# ---- removing


async def test_removing(team: Team) -> None:
    await uploaded(team, DATA)
    job = {"user_id": team.bob.user.id, "state": "QUEUED", "spec": '{"image":"i@1","inputs":[{"dataset":"d@1"}]}'}
    (number,) = await team.ground.db.write(job_rows.insert, [{**job, "submitted_at": NOW}])
    with pytest.raises(Conflict, match=f"Jobs that have not ended name dataset d@1: {number}") as failure:
        await team.use.remove(team.bob, DATASET, "d@1")
    assert failure.value.code == "in-use"
    await team.ground.db.write(job_rows.change, [{"id": number, "state": "COMPLETED"}])
    carl = await team.ground.db.write(users.create, "carl", Role.MEMBER, now=NOW)
    with pytest.raises(Forbidden, match="dataset d@1 is bob's"):
        await team.use.remove(Caller(user=carl), DATASET, "d")
    await team.use.remove(team.bob, DATASET, "d")
    with pytest.raises(NotFound):
        await team.use.get(team.bob, DATASET, "d")
    page = await team.use.list(team.bob, DATASET, ArtefactFilter(removed=True))
    assert [one.name for one in page.artefacts] == ["d"]


async def test_garbage_of_the_store(team: Team) -> None:
    kept, gone = await uploaded(team, DATA), await uploaded(team, b"gone", name="e")
    young = await uploaded(team, b"young", name="f")
    await team.use.remove(team.bob, DATASET, "e")
    await team.use.remove(team.bob, DATASET, "f")
    for one in (kept, gone):
        path = team.ground.store.local(one.digest)
        assert path is not None
        os.utime(path, (1.0, 1.0))
    with pytest.raises(Forbidden):
        await team.use.gc(team.bob)
    assert (await team.use.gc(team.ada, site="", dry_run=True)).digests == (gone.digest,)
    assert await team.ground.store.stat(gone.digest) is not None
    assert (await team.use.gc(team.ada, [IMAGE], site="")).count == 0
    assert (await team.use.gc(team.ada, site="")).digests == (gone.digest,)
    assert await team.ground.store.stat(gone.digest) is None
    assert await team.ground.store.stat(kept.digest) is not None
    assert await team.ground.store.stat(young.digest) is not None


async def test_garbage_everywhere(team: Team) -> None:
    first, second = await team.ground.site("a"), await team.ground.site("b")
    made = await uploaded(team, DATA)
    for place in (first, second):
        await team.ground.staging.ensure(place, needs(content_of(made)))
        cached = team.ground.fakes[place.spec.name].cached
        for name in cached:
            cached[name] = dataclasses.replace(cached[name], used=time.time() - 9000)
    team.ground.fakes["a"].cut()
    taken = await team.use.gc(team.ada, unused_since=datetime.now(UTC))
    assert (taken.count, taken.digests) == (1, (made.digest,))
    assert in_cache(second, made.digest) is None
    from isthmus.domain.errors import Unreachable

    with pytest.raises(Unreachable):
        await team.use.gc(team.ada, site="a", unused_since=datetime.now(UTC))
    assert (await team.ground.db.read(rows.get, DATASET, "d")).digest == made.digest


async def test_forgotten_uploads_go(team: Team) -> None:
    view = await team.use.begin_upload(team.bob, DATASET, Registration(name="d"))
    await team.use.append(team.bob, view.id, 0, chunks(b"x" * 100))
    await team.use.gc(team.ada, site="")
    assert (await team.use.upload(team.bob, view.id)).offset == 100
    team.clock.jump(KEEP_S + 60)
    await team.use.gc(team.ada, site="")
    with pytest.raises(NotFound):
        await team.use.upload(team.bob, view.id)
    assert not list(team.ground.store.spool.folder.iterdir())
