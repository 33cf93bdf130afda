"""Artefacts: datasets, images and job outputs, content-addressed and versioned; a replica is a copy at a site."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from isthmus.domain.errors import Invalid
from isthmus.domain.units import Bytes

STRICT = {"extra": "forbid"}

# Without @, / and : so that a name is never mistaken for NAME@VERSION or for a reference.
NAME = re.compile(r"^[\w][\w.+-]{0,199}$")
VERSION = re.compile(r"^[\w.+-]{1,100}$")


class ArtefactKind(StrEnum):
    DATASET = "dataset"
    IMAGE = "image"


class ReplicaState(StrEnum):
    """How far a copy at a site is. Only PRESENT ones were verified."""

    COMING = "COMING"
    PRESENT = "PRESENT"
    FAILED = "FAILED"


class ImageFormat(StrEnum):
    """How an image is kept: what each container engine can take is in :mod:`isthmus.data.images`."""

    SIF = "sif"
    SQUASHFS = "sqfs"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    FOLDER = "folder"
    REFERENCE = "reference"  # the site pulls it itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One version of a dataset or an image. ``digest`` is ``sha256:<hex>`` of its content."""

    __pydantic_config__ = STRICT

    id: int
    kind: ArtefactKind
    name: str
    version: str
    digest: str
    size: Bytes
    is_folder: bool = False  # its content is a tar stream of a folder
    format: ImageFormat | None = None  # images only
    reference: str = ""  # images that sites pull themselves
    zones: tuple[str, ...] = ()  # it may be in these only; none: anywhere
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""
    owner: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a person says of a dataset or image to be registered. Its content is uploaded, or it has one of
    ``path`` (a file or folder on the control plane's machine) and ``reference``.

    A reference is, for an image, what its engine pulls (``docker://python:3.12``) or the absolute path of an image that
    lies at the site; for a dataset ``SITE:/path``: data that lies at a site already and is only measured there.
    """

    __pydantic_config__ = STRICT

    name: str
    version: str = ""  # "": the next number
    digest: str = ""  # sha256:<hex>, if it is known: then it is checked
    size: Bytes | None = None  # of the upload, if it is known: for its progress, and checked
    is_folder: bool = False  # what is uploaded is the canonical stream of a folder
    format: ImageFormat | None = None  # images; None: found out from the content
    path: str = ""
    reference: str = ""
    zones: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A copy of an artefact at a site (or in the control plane's own store: site "")."""

    __pydantic_config__ = STRICT

    artefact: int
    site: str
    state: ReplicaState
    path: str = ""
    bytes_done: Bytes = Bytes(0)
    last_used_at: datetime | None = None
    error: str = ""


def may_be_in(zones: tuple[str, ...], zone: str) -> bool:
    """Whether residency allows a copy in ``zone``. A site that names no zone is none of the named ones."""
    return not zones or zone in zones


def check_name(text: str, place: str) -> None:
    """Raise Invalid unless ``text`` can be the name of a dataset or image."""
    if not NAME.fullmatch(text):
        raise Invalid(
            f"{text[:60]!r} is not a name.",
            place=place,
            hint="Begin with a letter or digit; up to 200 letters, digits, and . _ - +",
        )


def check_version(text: str, place: str) -> None:
    """Raise Invalid unless ``text`` can be a version."""
    if not VERSION.fullmatch(text):
        raise Invalid(
            f"{text[:60]!r} is not a version.",
            place=place,
            hint="Up to 100 letters, digits, and . _ - +; or leave it out for the next number.",
        )
