"""Collection: checked, brought home where it may be, registered; the same after a crash."""

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from isthmus.data.collection import CollectedOutput, Collection, output_of, work_path
from isthmus.data.digests import hex_of
from isthmus.data.requirements import requirements
from isthmus.data.transfer import Place
from isthmus.db import artefacts, attempts, events, replicas
from isthmus.domain.artefacts import ArtefactKind
from isthmus.domain.errors import IsthmusError, Refused, Unreachable
from isthmus.domain.jobs import Input, JobSpec, Output
from isthmus.domain.sites import Inventory
from isthmus.runner import canonical
from tests.unit.data.conftest import NOW, Ground, digest_of

DATA = random.Random(9).randbytes(900_000)
SPEC = JobSpec(command=("x",), outputs=(Output(path="model"), Output(path="*.log"), Output(path="big", collect=False)))


def said(path: str, data: bytes, kind: str = "file") -> dict[str, Any]:
    """An output as a runner reports it."""
    return {"path": path, "size": len(data), "digest": hashlib.sha256(data).hexdigest(), "kind": kind}


def left(ground: Ground, place: Place, key: str, path: str, data: bytes) -> None:
    ground.fakes[place.spec.name].files[work_path(key, path)] = data


async def stored(ground: Ground, digest: str) -> bytes:
    return b"".join([piece async for piece in ground.store.read(digest)])


async def test_outputs_come_home_verified(ground: Ground) -> None:
    place = await ground.site("far")
    collection = Collection(ground.store)
    left(ground, place, "1.1-aa", "model", DATA)
    left(ground, place, "1.1-aa", "a.log", b"log")
    outputs = [said("model", DATA), said("a.log", b"log"), said("big", b"big")]
    collected = await collection.collect(place, "1.1-aa", SPEC, outputs)
    assert [(one.path, one.collected) for one in collected] == [("model", True), ("a.log", True), ("big", False)]
    assert await stored(ground, digest_of(DATA)) == DATA
    assert await ground.store.stat(digest_of(b"big")) is None


@pytest.mark.parametrize("seed", range(4))
async def test_a_cut_is_gone_on_from(ground: Ground, seed: int) -> None:
    place = await ground.site("far")
    left(ground, place, "1.1-aa", "model", DATA)
    fake = ground.fakes["far"]
    fake.cut_transfer(random.Random(seed).randrange(1, len(DATA)))
    with pytest.raises(Unreachable):
        await Collection(ground.store).collect(place, "1.1-aa", SPEC, [said("model", DATA)])
    part = ground.store.spool.size(hex_of(digest_of(DATA)))
    assert 0 < part <= len(DATA)
    assert await ground.store.stat(digest_of(DATA)) is None
    await Collection(ground.store).collect(place, "1.1-aa", SPEC, [said("model", DATA)])
    assert await stored(ground, digest_of(DATA)) == DATA


async def test_another_content_than_reported_is_no_output(ground: Ground) -> None:
    place = await ground.site("far")
    left(ground, place, "1.1-aa", "model", DATA[:-1] + b"!")
    with pytest.raises(Refused) as failure:
        await Collection(ground.store).collect(place, "1.1-aa", SPEC, [said("model", DATA)])
    assert failure.value.code == "output"
    assert "'model'" in str(failure.value)
    assert not list(ground.store.spool.folder.iterdir())
    assert [one async for one in ground.store.all()] == []


async def test_many_jobs_with_the_same_content_bring_it_once(ground: Ground) -> None:
    place = await ground.site("far")
    collection = Collection(ground.store)
    for number in range(20):
        left(ground, place, f"{number}.1-aa", "model", DATA)
    await asyncio.gather(
        *(collection.collect(place, f"{number}.1-aa", SPEC, [said("model", DATA)]) for number in range(20))
    )
    assert ground.fakes["far"].calls["get"] == 1


async def test_outputs_on_this_machine_are_read_where_they_lie(ground: Ground, tmp_path: Path) -> None:
    import dataclasses

    place = await ground.site("here", here=True)
    place = dataclasses.replace(place, inventory=Inventory(workdir=str(tmp_path / "w")))
    work = tmp_path / "w" / "jobs" / "1.1-aa" / "work"
    (work / "model" / "sub").mkdir(parents=True)
    (work / "model" / "sub" / "x").write_bytes(DATA)
    (work / "a.log").write_bytes(b"log")
    digits, size = canonical.digest(str(work / "model"))
    folder = {"path": "model", "size": size, "digest": digits, "kind": "folder"}
    await Collection(ground.store).collect(place, "1.1-aa", SPEC, [folder, said("a.log", b"log")])
    assert ground.fakes["here"].calls["get"] == 0
    path = ground.store.local(f"sha256:{digits}")
    assert path is not None
    with path.open("rb") as file:
        assert canonical.check(file) == (digits, size)


async def test_what_can_not_be_read_here_is_asked_of_the_site(ground: Ground, tmp_path: Path) -> None:
    import dataclasses

    place = await ground.site("here", here=True)
    place = dataclasses.replace(place, inventory=Inventory(workdir=str(tmp_path / "elsewhere")))
    left(ground, place, "1.1-aa", "model", DATA)
    await Collection(ground.store).collect(place, "1.1-aa", SPEC, [said("model", DATA)])
    assert await stored(ground, digest_of(DATA)) == DATA


async def test_outputs_of_bound_jobs_stay_in_their_zones(ground: Ground) -> None:
    place = await ground.site("far", "EU")
    left(ground, place, "1.1-aa", "model", DATA)
    spec = JobSpec(command=("x",), outputs=(Output(path="model", dataset="m"),))
    collected = await Collection(ground.store, zone="US").collect(place, "1.1-aa", spec, [said("model", DATA)], ("EU",))
    assert (collected[0].collected, collected[0].kept) == (False, True)
    assert ground.fakes["far"].calls["get"] == 0
    (request,) = ground.fakes["far"].prepared
    assert request["source"] == "jobs/1.1-aa/work/model" and request["to"] == hex_of(digest_of(DATA))
    there = await Collection(ground.store, zone="EU").collect(place, "1.1-aa", spec, [said("model", DATA)], ("EU",))
    assert there[0].collected


async def recorded(ground: Ground, place: Place, collected: list[CollectedOutput], zones: tuple[str, ...] = ()) -> Any:
    """An attempt whose outputs were recorded twice, as after a crash between."""
    attempt = await ground.attempt(place)

    def write(conn: Connection) -> Any:
        from isthmus.db.schema import attempts as table

        key = conn.execute(table.select().where(table.c.id == attempt)).one().key
        row = attempts.by_keys(conn, [key])[key]
        attempts.add_outputs(
            conn,
            [
                {"job_id": row.job_id, "attempt_id": row.id, "path": one.path, "kind": one.kind, "size": one.size}
                | {"digest": one.digest, "collected": False}
                for one in collected
            ],
        )
        return row

    row = await ground.db.write(write)
    for _ in range(2):
        await ground.db.write(Collection(ground.store).record, row, collected, zones, NOW)
    return row


async def test_datasets_are_registered_once(ground: Ground) -> None:
    place = await ground.site("far", "EU")
    output = CollectedOutput(
        path="model", kind="file", size=len(DATA), digest=digest_of(DATA), collected=True, dataset="m"
    )
    row = await recorded(ground, place, [output], ("EU",))
    versions = await ground.db.read(artefacts.versions, ArtefactKind.DATASET, "m")
    assert [(one.version, one.digest, one.zones) for one in versions] == [("1", digest_of(DATA), ("EU",))]
    assert versions[0].labels == {"job": str(row.job_id), "output": "model"}
    assert [one.collected for one in await ground.db.read(attempts.outputs_of, row.job_id)] == [True]
    made = [one for one in await ground.db.read(events.page) if one.noun == "dataset"]
    assert [(one.noun_id, one.verb, one.job_id) for one in made] == [("m@1", "created", row.job_id)]
    # Another job with the same content is another version: it has a history of its own.
    await recorded(ground, place, [output], ("EU",))
    assert len(await ground.db.read(artefacts.versions, ArtefactKind.DATASET, "m")) == 2


async def test_what_stays_at_its_site_is_known_there(ground: Ground) -> None:
    place = await ground.site("far")
    output = CollectedOutput(path="big", kind="file", size=3, digest=digest_of(b"big"), collected=False, kept=True)
    await recorded(ground, place, [output])
    row = await ground.db.read(replicas.get, digest_of(b"big"), place.site_id, place.user_id)
    assert row is not None and row.state == "PRESENT"


async def test_an_output_is_an_input_of_the_next_job(ground: Ground) -> None:
    place = await ground.site("far")
    collected = [
        CollectedOutput(path="a.log", kind="file", size=3, digest=digest_of(b"log"), collected=False),
        CollectedOutput(path="b.log", kind="file", size=3, digest=digest_of(b"lob"), collected=False),
        CollectedOutput(path="model", kind="folder", size=9, digest=digest_of(b"f"), collected=True),
    ]
    row = await recorded(ground, place, collected)
    spec = JobSpec(command=("x",), inputs=(Input(path="in", job=row.job_id, output="mod*"),))
    found = await ground.db.read(requirements, spec, ("EU",))
    content = found.inputs[0].content
    assert (content.digest, content.is_folder, content.zones) == (digest_of(b"f"), True, ("EU",))
    assert content.origin is not None and content.origin.path == f"jobs/{row.key}/work/model"
    for wanted, why in (("*.log", r"has 2 outputs that '\*.log' fits"), ("modle", "Did you mean 'model'")):
        spec = JobSpec(command=("x",), inputs=(Input(path="in", job=row.job_id, output=wanted),))
        (sentence,) = (await ground.db.read(requirements, spec)).missing
        import re

        assert re.search(why, sentence)
    outputs = await ground.db.read(attempts.outputs_of, row.job_id)
    _, content = await ground.db.read(output_of, row.job_id, outputs[0].id, ())
    left(ground, place, row.key, "a.log", b"log")
    pieces = Collection(ground.store).open(content, place, offset=1, length=1, stored=False)
    assert [piece async for piece in pieces] == [b"o"]


async def test_an_output_that_nobody_asked_for_is_refused(ground: Ground) -> None:
    place = await ground.site("far")
    with pytest.raises(IsthmusError, match="'other' was reported, but not asked for"):
        await Collection(ground.store).collect(place, "1.1-aa", SPEC, [said("other", b"x")])
