"""A real database and a real store, with sites in memory."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus import codec
from isthmus.data.digests import hex_of, name_of
from isthmus.data.requirements import Content, InputNeed, Requirements
from isthmus.data.staging import Staging
from isthmus.data.store import FolderStore
from isthmus.data.transfer import Place
from isthmus.db import artefacts, attempts, jobs, replicas, users
from isthmus.db import sites as site_rows
from isthmus.db.engine import Database
from isthmus.domain.artefacts import ArtefactKind, ReplicaState
from isthmus.domain.clock import SystemClock
from isthmus.domain.sites import Hop, Inventory, Reach, SiteSpec
from isthmus.domain.users import Role
from isthmus.testing import FakeSite

NOW = 1_900_000_000.0
FAR = Reach(hops=(Hop(host="far.example"),))


def digest_of(data: bytes) -> str:
    return name_of(hashlib.sha256(data).hexdigest())


class Ground:
    """A control plane's data in a test's hands."""

    def __init__(self, db: Database, folder: Path, zone: str = "") -> None:
        self.db = db
        self.zone = zone
        self.store = FolderStore(folder / "store")
        self.store.prepare()
        self.fakes: dict[str, FakeSite] = {}
        self.places: dict[str, Place] = {}
        self.user_id = 0
        self.opened: list[str] = []
        self.clock = SystemClock()
        self.staging = self.new_staging()

    def new_staging(self, zone: str | None = None) -> Staging:
        """As after a restart of the control plane."""
        self.zone = self.zone if zone is None else zone
        self.staging = Staging(self.db, self.store, self._open, self.clock, zone=self.zone)
        return self.staging

    async def _open(self, site_id: int, user_id: int) -> Place:
        place = next(one for one in self.places.values() if one.site_id == site_id)
        self.opened.append(place.spec.name)
        return place

    async def site(self, name: str, zone: str = "", *, here: bool = False, **more: object) -> Place:
        """A site: reached from afar unless it is ``here``."""
        spec = SiteSpec(name=name, zone=zone, reach=None if here else FAR, **more)  # type: ignore[arg-type]
        inventory = Inventory(workdir=f"/sites/{name}", engines={"podman": "4"})
        site_id = await self.db.write(
            site_rows.add,
            name,
            codec.write_json(spec).decode(),
            now=NOW,
            inventory=codec.write_json(inventory).decode(),
        )
        self.fakes[name] = FakeSite(name)
        self.places[name] = Place(
            site_id=site_id, user_id=self.user_id, spec=spec, inventory=inventory, site=self.fakes[name]
        )
        return self.places[name]

    async def keep(self, data: bytes) -> str:
        """Put content into the store; its digest."""
        async with self.store.spool.open("given") as incoming:
            await incoming.write(data)
            path, digest, _ = await incoming.seal()
            await self.store.take(path, digest)
        return digest

    async def dataset(
        self, data: bytes, name: str = "d", *, stored: bool = True, zones: tuple[str, ...] = ()
    ) -> Content:
        """A registered dataset."""
        digest = await self.keep(data) if stored else digest_of(data)
        await self.db.write(
            artefacts.register,
            ArtefactKind.DATASET,
            name,
            user_id=self.user_id,
            now=NOW,
            digest=digest,
            size=len(data),
            zones=zones,
        )
        return Content(label=f"dataset {name}", digest=digest, size=len(data), zones=zones)

    async def put_at(self, place: Place, data: bytes) -> None:
        """A verified copy in a site's cache, with its row."""
        digits = hashlib.sha256(data).hexdigest()
        await place.site.put(_source(data), f"cache/{digits}", size=len(data), digest=digits)
        await self.db.write(
            replicas.put,
            name_of(digits),
            place.site_id,
            place.user_id,
            state=ReplicaState.PRESENT,
            path=f"cache/{digits}",
            size=len(data),
            bytes_done=len(data),
            last_used_at=NOW,
        )

    async def attempt(self, place: Place, *digests: str) -> int:
        """A live attempt of a job that needs these."""

        def write(conn: object) -> int:
            job = jobs.insert(conn, [{"user_id": self.user_id, "state": "RUNNING", "spec": "{}", "submitted_at": NOW}])[
                0
            ]
            row = {
                "key": f"{job}.1-{os.urandom(2).hex()}",
                "job_id": job,
                "number": 1,
                "site_id": place.site_id,
                "user_id": self.user_id,
                "state": "RUNNING",
                "created_at": NOW,
                "token_hash": "x",
            }
            made = attempts.insert(conn, [row])[0]
            replicas.use(conn, made, digests)
            return made

        return await self.db.write(write)

    async def end(self, attempt: int) -> None:
        await self.db.write(attempts.change, [{"id": attempt, "live": False, "state": "COMPLETED"}])

    async def replica(self, place: Place, digest: str) -> object:
        return await self.db.read(replicas.get, digest, place.site_id, place.user_id)


def needs(*contents: Content, image: Content | None = None) -> Requirements:
    """A job that reads these."""
    inputs = tuple(InputNeed(path=f"in/{number}", content=content) for number, content in enumerate(contents))
    return Requirements(inputs=inputs, image=image)


def in_cache(place: Place, digest: str) -> bytes | None:
    """What lies in the cache of a site in memory."""
    site = place.site
    assert isinstance(site, FakeSite)
    path = f"cache/{hex_of(digest)}"
    return site.files.get(path, site.folders.get(path))


def _source(data: bytes) -> object:
    async def pieces(offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]

    return pieces


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    db = await Database.open(f"sqlite:///{tmp_path / 'isthmus.db'}", durable=False)
    ground = Ground(db, tmp_path)
    user = await db.write(users.create, "ada", Role.ADMIN, now=NOW)
    ground.user_id = user.id
    yield ground
    await db.close()
