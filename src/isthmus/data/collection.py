"""Collection: what a job left is checked, brought home where it may be, and registered.

    the runner's last report ─► home, verified (or kept in the site's cache) ─► recorded with the attempt's end

Safe to be called again after a crash: what the store has is not brought twice, what was half brought is gone on with.
"""

import fnmatch
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from isthmus.data.digests import hex_of, name_of
from isthmus.data.flights import Flight, Flights
from isthmus.data.intake import read_into
from isthmus.data.requirements import Content, content_of_output
from isthmus.data.store import Store
from isthmus.data.transfer import Place
from isthmus.db import artefacts, attempts, events, replicas
from isthmus.domain.artefacts import ArtefactKind, ReplicaState, may_be_in
from isthmus.domain.errors import Invalid, NotFound, Refused
from isthmus.domain.jobs import JobSpec, Output
from isthmus.runner import canonical

log = logging.getLogger(__name__)

SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedOutput:
    """An output that was checked."""

    path: str
    kind: str  # file, folder
    size: int  # of its bytes; of a folder, of its canonical stream
    digest: str  # sha256:<hex>
    collected: bool  # the store has it
    dataset: str = ""  # to be registered as a new version of this
    kept: bool = False  # a copy lies in the site's cache


class Collection:
    """Brings outputs home. One per control plane process."""

    def __init__(self, store: Store, *, zone: str = "") -> None:
        self._store = store
        self._zone = zone
        self._flights: Flights[None] = Flights()

    async def collect(
        self,
        place: Place,
        key: str,
        spec: JobSpec,
        outputs: Sequence[Mapping[str, Any]],
        zones: Sequence[str] = (),
    ) -> list[CollectedOutput]:
        """Check the outputs of attempt ``key`` and bring home those that ask for it.

        ``outputs`` are those of the runner's last report (or rows of `outputs`); ``zones`` the job's, if it is bound:
        an output that the store may not have stays at the site. Raises SiteError with ``transient`` to be called again;
        any other IsthmusError means Reason.OUTPUT, its message says which output and why.
        """
        allowed = may_be_in(tuple(zones), self._zone)
        collected = []
        for said in outputs:
            path = str(said["path"])
            wanted = declared(spec, path)
            result = CollectedOutput(
                path=path,
                kind=str(said.get("kind") or "file"),
                size=int(said["size"]),
                digest=name_of(hex_of(str(said["digest"]))),
                collected=wanted.collect and allowed,
                dataset=wanted.dataset,
                kept=bool(wanted.dataset) and not (wanted.collect and allowed),
            )
            if result.collected:
                await self._bring(place, key, result)
            elif result.kept:
                await self._keep(place, key, result)
            collected.append(result)
        return collected

    def record(
        self, conn: Connection, attempt: Any, collected: Sequence[CollectedOutput], zones: Sequence[str], now: float
    ) -> None:
        """Write down what was collected: rows of `outputs`, new versions of datasets, replicas.

        ``attempt`` is a row of `isthmus.db.attempts`. May be called again for the same attempt.
        """
        rows = {row.path: row for row in attempts.outputs_of_attempt(conn, attempt.id)}
        home = {one.path for one in collected if one.collected}
        attempts.mark_collected(conn, [row.id for path, row in rows.items() if path in home])
        for one in collected:
            if one.dataset:
                _register(conn, attempt, one, tuple(zones), now)
            if one.kept:
                replicas.put(
                    conn,
                    one.digest,
                    attempt.site_id,
                    attempt.user_id,
                    state=ReplicaState.PRESENT,
                    path=f"cache/{hex_of(one.digest)}",
                    size=one.size,
                    bytes_done=one.size,
                    last_used_at=now,
                )

    def open(
        self, content: Content, place: Place | None, *, offset: int = 0, length: int | None = None, stored: bool = True
    ) -> AsyncIterator[bytes]:
        """Bytes of an output (`requirements.content_of_output`): from the store, else from its site."""
        if stored:
            return self._store.read(content.digest, offset=offset, length=length)
        if place is None or content.origin is None:
            raise NotFound(f"{content.label} is neither in the store nor at a site that can be asked.", code="missing")
        return part(place.site.get(content.origin.path, offset=offset), length)

    # ---- bringing home

    async def _bring(self, place: Place, key: str, output: CollectedOutput) -> None:
        if await self._store.touch(output.digest):
            return

        async def work(_: Flight[None]) -> None:
            here = _here(place, key, output.path)
            if here is not None and await self._take_here(here, output):
                return
            await self._fetch(place, key, output)

        # Many jobs leave the same content (an empty file, say): one brings it.
        await self._flights.join(output.digest, work)

    async def _take_here(self, path: Path, output: CollectedOutput) -> bool:
        """Read an output on this machine; False where this process can't."""
        async with self._store.spool.open(hex_of(output.digest)) as incoming:
            try:
                sealed, digest, _ = await read_into(incoming, path, digest=output.digest, size=output.size)
            except (OSError, canonical.NotCanonical, Invalid) as error:
                log.info("%s is asked of its site, since it was not read here: %s", path, error)
                return False
            await self._store.take(sealed, digest)
        return True

    async def _fetch(self, place: Place, key: str, output: CollectedOutput) -> None:
        """Bring an output from its site; a part that turns out wrong is fetched once more from its beginning."""
        name = hex_of(output.digest)
        for last in (False, True):
            async with self._store.spool.open(name) as incoming:
                async for piece in place.site.get(work_path(key, output.path), offset=incoming.offset):
                    await incoming.write(piece)
                try:
                    sealed, digest, _ = await incoming.seal(output.digest, output.size)
                except Invalid as error:
                    if last:
                        raise Refused(
                            f"The output {output.path!r} is not what its runner reported: {error.message}",
                            hint="Did something write to it after the job's command had ended?",
                            code="output",
                        ) from error
                else:
                    await self._store.take(sealed, digest)
                    return

    async def _keep(self, place: Place, key: str, output: CollectedOutput) -> None:
        """Put an output that stays at its site into the cache there: the job's own folder goes one day."""
        digits = hex_of(output.digest)
        request = {
            "op": "link",
            "to": digits,
            "source": work_path(key, output.path),
            "digest": digits,
            "size": output.size,
            "unpack": False,
        }
        await place.site.prepare(request)


def declared(spec: JobSpec, path: str) -> Output:
    """The output of the spec that a found path belongs to: the one with that path, else the first that fits it."""
    exact = [output for output in spec.outputs if output.path.rstrip("/") == path.rstrip("/")]
    fitting = [output for output in spec.outputs if fnmatch.fnmatchcase(path, output.path.rstrip("/"))]
    found = exact or fitting
    if not found:
        raise Refused(f"The output {path!r} was reported, but not asked for.", code="output")
    return found[0]


def work_path(key: str, path: str) -> str:
    """Where an output lies, relative to the work folder of the site."""
    return f"jobs/{key}/work/{path.rstrip('/')}"


def output_of(conn: Connection, job_id: int, output_id: int, zones: tuple[str, ...]) -> tuple[Any, Content]:
    """The row of an output and its content. Raises NotFound."""
    for row in attempts.outputs_of(conn, job_id):
        if row.id == output_id:
            return row, content_of_output(row, zones)
    raise NotFound(f"Job {job_id} has no output {output_id}.", place="output")


def _register(conn: Connection, attempt: Any, output: CollectedOutput, zones: tuple[str, ...], now: float) -> None:
    """A new version of the dataset; the same one if this attempt's was registered already."""
    name, _, version = output.dataset.partition("@")
    labels = {"job": str(attempt.job_id), "output": output.path[:200]}
    for known in artefacts.of_digest(conn, output.digest):
        if (known.kind, known.name, known.labels) == (ArtefactKind.DATASET, name, labels):
            return
    made = artefacts.register(
        conn,
        ArtefactKind.DATASET,
        name,
        user_id=attempt.owner_id,
        now=now,
        digest=output.digest,
        size=output.size,
        version=version,
        is_folder=output.kind == "folder",
        zones=zones,
        labels=labels,
        description=f"output {output.path} of job {attempt.job_id}",
    )
    events.add(
        conn,
        SUPERVISOR,
        "dataset",
        f"{made.name}@{made.version}",
        "created",
        now=now,
        message=made.description,
        job_id=attempt.job_id,
    )


def _here(place: Place, key: str, path: str) -> Path | None:
    """The file on this machine, if the site is this machine."""
    workdir = place.inventory.workdir or place.spec.workdir
    if place.spec.reach is not None or not workdir.startswith("/"):
        return None
    return Path(workdir) / work_path(key, path)


async def part(pieces: AsyncIterator[bytes], length: int | None) -> AsyncIterator[bytes]:
    """At most ``length`` bytes of a stream."""
    left = length
    async for piece in pieces:
        if left is None:
            yield piece
            continue
        yield piece[:left]
        left -= len(piece[:left])
        if left <= 0:
            return
