"""From a job's spec to what placement must know of it: digests and residency come from the artefacts registered."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from isthmus.control.live import read_spec
from isthmus.data.images import engines_for
from isthmus.db import index
from isthmus.db.engine import Database
from isthmus.domain.artefacts import ArtefactKind, ImageFormat
from isthmus.domain.errors import NotFound, nearest
from isthmus.domain.jobs import JobSpec
from isthmus.placement.needs import Need, need_of


@dataclass(frozen=True, slots=True)
class Fact:
    """What placement must know of one version of an artefact."""

    id: int
    kind: ArtefactKind
    name: str
    version: str
    digest: str
    size: int
    zones: frozenset[str] | None
    format: ImageFormat | None = None
    reference: str = ""
    is_folder: bool = False
    architecture: str = ""  # of an image, where its labels say so

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


class Mark(NamedTuple):
    """Changes whenever an artefact is registered or removed, or a user is added."""

    last_artefact: int
    last_removal: float
    users: int


class Needs:
    """Keeps the artefacts' facts at hand. ``refresh`` before use; the rest does no I/O but ``cached``."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._mark: Mark | None = None
        self._facts: dict[tuple[ArtefactKind, str], dict[str, Fact]] = {}
        self._users: dict[int, str] = {}
        self._memory: dict[tuple[str, int, int, str | None, str], Need] = {}

    async def refresh(self, now: Mark | None = None) -> None:
        """Read what is new since the last time; ``now``: the mark, where it was read already."""
        fresh = now if now is not None else await self._db.read(mark)
        if fresh.users != len(self._users):
            self._users = await self._db.read(index.user_names)
        if fresh != self._mark:
            rows = await self._db.read(index.artefact_facts)
            self._facts = {}
            for row in rows:
                zones = json.loads(row.zones)
                fact = Fact(
                    id=row.id,
                    kind=ArtefactKind(row.kind),
                    name=row.name,
                    version=row.version,
                    digest=row.digest,
                    size=row.size,
                    zones=frozenset(zones) if zones else None,
                    format=ImageFormat(row.format) if row.format else None,
                    reference=row.reference,
                    is_folder=row.is_folder,
                    architecture=str(json.loads(row.labels).get("architecture", "")),
                )
                self._facts.setdefault((fact.kind, fact.name), {})[fact.version] = fact
            self._mark = fresh
            self._memory.clear()

    def names(self, user_ids: Iterable[int]) -> frozenset[str]:
        return frozenset(self._users.get(user_id, f"#{user_id}") for user_id in user_ids)

    async def cached(self, site_id: int) -> set[str]:
        """The digests that lie at a site."""
        return await self._db.read(index.present_at, site_id)

    def find(self, kind: ArtefactKind, text: str, place: str) -> Fact:
        """The artefact that ``NAME`` (the newest version) or ``NAME@VERSION`` names. Raises NotFound."""
        name, _, version = text.partition("@")
        versions = self._facts.get((kind, name))
        if not versions:
            known = [known_name for known_kind, known_name in self._facts if known_kind is kind]
            raise NotFound(f"There is no {kind.value} {name!r}.", place=place, hint=nearest(name, known))
        if not version:
            return list(versions.values())[-1]
        if version not in versions:
            hint = nearest(version, versions)
            raise NotFound(f"There is no version {version!r} of {kind.value} {name!r}.", place=place, hint=hint)
        return versions[version]

    def image(self, spec: JobSpec) -> Fact | None:
        """The registered image of a job; None where it has none, or a reference that the site pulls itself."""
        if not spec.image:
            return None
        name = spec.image.partition("@")[0]
        if (ArtefactKind.IMAGE, name) not in self._facts:
            return None
        return self.find(ArtefactKind.IMAGE, spec.image, "image")

    def datasets(self, spec: JobSpec) -> list[tuple[int, Fact]]:
        """The registered datasets that a job reads, each with the number of its input."""
        return [
            (number, self.find(ArtefactKind.DATASET, item.dataset, f"inputs[{number}].dataset"))
            for number, item in enumerate(spec.inputs)
            if item.dataset
        ]

    def zones(self, spec: JobSpec) -> frozenset[str] | None:
        """Where everything that a job names may be: the zones common to all; None: anywhere."""
        common: frozenset[str] | None = None
        facts = [fact for _, fact in self.datasets(spec)]
        image = self.image(spec)
        for fact in [*facts, *([image] if image else [])]:
            if fact.zones is not None:
                common = fact.zones if common is None else common & fact.zones
        return common

    def of(self, spec_text: str, user_id: int, mem_bytes: int, zones_text: str | None = None, at: str = "") -> Need:
        """The need of a job as the database keeps it. What was removed since counts as nothing to bring.

        ``at``: the site of its last attempt.
        """
        key = (spec_text, user_id, mem_bytes, zones_text, at)
        known = self._memory.get(key)
        if known is None:
            if len(self._memory) > 20_000:
                self._memory.clear()
            zones = None if zones_text is None else frozenset(json.loads(zones_text))
            known = self._memory[key] = self.need(read_spec(spec_text), user_id, mem_bytes, zones, at)
        return known

    def need(self, spec: JobSpec, user_id: int, mem_bytes: int, zones: frozenset[str] | None, at: str = "") -> Need:
        """The need of a spec, residency given."""
        digests: list[tuple[str, int]] = []
        formats: tuple[str, ...] = ()
        try:
            image = self.image(spec)
            facts = [fact for _, fact in self.datasets(spec)]
        except NotFound:
            image, facts = None, []
        if image is None and spec.image:
            formats = engines_for(None, spec.image)
        if image is not None:
            formats = engines_for(image.format, image.reference)
            if image.digest:
                digests.append((image.digest, image.size))
        digests.extend((fact.digest, fact.size) for fact in facts)
        return need_of(
            spec,
            self._users.get(user_id, f"#{user_id}"),
            mem=mem_bytes,
            zones=zones,
            digests=tuple(digests),
            image_formats=formats,
            architecture=image.architecture if image is not None else "",
            at=at,
        )


def mark(conn: Connection) -> Mark:
    """Of now; cheap."""
    last, removed = index.artefact_mark(conn)
    return Mark(last, removed, index.user_count(conn))
