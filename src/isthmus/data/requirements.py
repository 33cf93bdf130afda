"""Requirements: the content that must be at a site before a job starts, from the names in its spec. SKELETON."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from isthmus.domain.artefacts import ImageFormat
from isthmus.domain.jobs import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an output of another job lies: within the work folder of its user at a site."""

    job: int
    attempt: str  # key
    site: int
    user: int
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


def requirements(conn: Connection, spec: JobSpec, zones: tuple[str, ...] = ()) -> Requirements:
    """What a job needs, from its pinned spec. Call it when the jobs whose outputs it reads have ended.

    ``zones`` are those the job inherited (`jobs.zones`): they hold for the outputs of other jobs that it reads.
    """
    raise NotImplementedError
