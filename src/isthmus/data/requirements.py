"""Requirements: the content that must be at a site before a job starts, from the names in its spec.

Reads the database and nothing else. What must be brought there, and from where, is `isthmus.data.routes`'.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from isthmus.data.digests import hex_of, name_of, of_text
from isthmus.db import artefacts, attempts
from isthmus.domain.artefacts import Artefact, ArtefactKind, ImageFormat
from isthmus.domain.errors import NotFound, nearest
from isthmus.domain.jobs import Input, JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an output of another job was left: in the work folder of its user at a site."""

    job: int
    attempt: str  # its key
    site_id: int
    user_id: int
    path: str  # relative to the work folder: jobs/<key>/work/...


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Something with a digest that may lie at several places. ``digest`` is ``sha256:<hex>``; "" for a reference."""

    label: str  # for people: "dataset sp500@2", "output model.pt of job 17"
    digest: str
    size: int = 0
    is_folder: bool = False
    zones: tuple[str, ...] = ()
    format: ImageFormat | None = None
    reference: str = ""
    origin: Origin | None = None

    @property
    def use(self) -> str:
        """Under what its use is written down: its digest, of a reference ``reference:<name of what was pulled>``."""
        return self.digest or f"reference:{pulled_name(self.reference)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputNeed:
    """One input: its content, and where in the job's work folder it goes."""

    path: str
    content: Content
    mode: Literal["link", "copy"] = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """All that one job needs at its site. ``missing`` says in sentences what can't be found any more."""

    inputs: tuple[InputNeed, ...] = ()
    image: Content | None = None
    missing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.inputs or self.image or self.missing)

    def contents(self) -> Iterator[Content]:
        """Each content once."""
        seen: set[tuple[str, str]] = set()
        for content in [need.content for need in self.inputs] + ([self.image] if self.image else []):
            if (content.digest, content.reference) not in seen:
                seen.add((content.digest, content.reference))
                yield content


def requirements(conn: Connection, spec: JobSpec, zones: Sequence[str] = ()) -> Requirements:
    """What a job needs, from its pinned spec. Call it when the jobs whose outputs it reads have ended.

    ``zones`` are those the job inherited (`jobs.zones`): they hold for the outputs of other jobs that it reads.
    """
    missing: list[str] = []
    inputs: list[InputNeed] = []
    for item in spec.inputs:
        try:
            content = _dataset(conn, item) if item.dataset else _output(conn, item, tuple(zones))
        except NotFound as error:
            missing.append(f"{error.message} {error.hint}".strip())
        else:
            inputs.append(InputNeed(path=item.path, content=content, mode=item.mode))
    try:
        image = _image(conn, spec.image) if spec.image else None
    except NotFound as error:
        image = None
        missing.append(f"{error.message} {error.hint}".strip())
    return Requirements(inputs=tuple(inputs), image=image, missing=tuple(missing))


def pulled_name(reference: str) -> str:
    """How what a site pulled lies in its cache: no digest of its content is known before."""
    return f"ref-{of_text(reference)[:48]}"


def is_reference(text: str) -> bool:
    """Whether an image is named by a reference, not by the name of a registered one."""
    return "/" in text


def content_of(artefact: Artefact) -> Content:
    """The content of a registered artefact."""
    return Content(
        label=f"{artefact.kind.value} {artefact.name}@{artefact.version}",
        digest=artefact.digest,
        size=int(artefact.size),
        is_folder=artefact.is_folder,
        zones=artefact.zones,
        format=artefact.format,
        reference=artefact.reference,
    )


def _dataset(conn: Connection, item: Input) -> Content:
    return content_of(artefacts.resolve(conn, ArtefactKind.DATASET, item.dataset))


def _image(conn: Connection, text: str) -> Content:
    if is_reference(text):
        return Content(label=f"image {text}", digest="", format=ImageFormat.REFERENCE, reference=text)
    return content_of(artefacts.resolve(conn, ArtefactKind.IMAGE, text))


def _output(conn: Connection, item: Input, zones: tuple[str, ...]) -> Content:
    """The output of another job: the one with that path, or the only one that its pattern fits."""
    every = attempts.outputs_of(conn, item.job)
    last = max((row.attempt_number for row in every), default=0)
    rows = [row for row in every if row.attempt_number == last]
    wanted = item.output.rstrip("/")
    found = [row for row in rows if row.path.rstrip("/") == wanted]
    found = found or [row for row in rows if fnmatch.fnmatchcase(row.path.rstrip("/"), wanted)]
    if not found:
        hint = nearest(wanted, [row.path for row in rows]) if rows else "It left none."
        raise NotFound(f"Job {item.job} has no output {item.output!r}.", hint=hint)
    if len(found) > 1:
        some = ", ".join(row.path for row in found[:3])
        raise NotFound(f"Job {item.job} has {len(found)} outputs that {item.output!r} fits: {some}.", hint="Name one.")
    return content_of_output(found[0], zones)


def content_of_output(row: Any, zones: tuple[str, ...] = ()) -> Content:
    """The content of an output, from a row of `attempts.outputs_of`."""
    return Content(
        label=f"output {row.path} of job {row.job_id}",
        digest=name_of(hex_of(row.digest)),
        size=row.size,
        is_folder=row.kind == "folder",
        zones=zones,
        origin=Origin(
            job=row.job_id,
            attempt=row.key,
            site_id=row.site_id,
            user_id=row.user_id,
            path=f"jobs/{row.key}/work/{row.path.rstrip('/')}",
        ),
    )
