"""Rows of datasets and images: versions of content. What a version holds never changes; taken out, its row stays."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, String, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSON

from isthmus.db.schema import artefacts, attempts, jobs, outputs, users, uses
from isthmus.db.times import moment
from isthmus.domain.artefacts import Artefact, ArtefactKind, ImageFormat
from isthmus.domain.errors import Conflict, NotFound, nearest
from isthmus.domain.states import JobState
from isthmus.domain.units import Bytes


def register(
    connection: Connection,
    kind: ArtefactKind,
    name: str,
    *,
    user_id: int,
    now: float,
    digest: str,
    size: int,
    version: str = "",
    is_folder: bool = False,
    format: ImageFormat | None = None,
    reference: str = "",
    zones: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    description: str = "",
) -> Artefact:
    """Add a version; without ``version`` the next whole number. The same version of the same content is the same one.

    Raises Conflict when the version stands for other content, also if that was taken out: who wrote NAME@VERSION
    somewhere meant that content.
    """
    version = version or _next_version(connection, kind, name)
    values = {
        "is_folder": is_folder,
        "format": format.value if format else None,
        "reference": reference,
        "zones": json.dumps(list(zones)),
        "labels": json.dumps(dict(labels or {})),
        "description": description,
        "size": size,
    }
    here = _this(kind, name) & (artefacts.c.version == version)
    old = connection.execute(select(artefacts).where(here)).first()
    if old is None:
        fixed = {"kind": kind.value, "name": name, "version": version, "digest": digest}
        connection.execute(artefacts.insert().values(**fixed, **values, user_id=user_id, created_at=now))
        return get(connection, kind, name, version)
    if old.digest != digest or old.reference != reference:
        raise Conflict(
            f"{kind.value} {name}@{version} stands for other content: {old.digest or old.reference}.",
            place="version",
            hint="Choose another version, or leave it out for the next one.",
            code="version-exists",
        )
    if old.removed_at is not None:
        back = {**values, "user_id": user_id, "created_at": now, "removed_at": None}
        connection.execute(update(artefacts).where(artefacts.c.id == old.id).values(**back))
    elif (old.zones, old.is_folder) != (values["zones"], is_folder):
        raise Conflict(
            f"{kind.value} {name}@{version} exists with other zones.",
            place="zones",
            hint="Register it as another version.",
            code="version-exists",
        )
    return get(connection, kind, name, version)


def get(connection: Connection, kind: ArtefactKind, name: str, version: str = "") -> Artefact:
    """A version, or the newest one. Raises NotFound with the nearest name or version."""
    wanted = _select().where(_this(kind, name), artefacts.c.removed_at.is_(None))
    if version:
        wanted = wanted.where(artefacts.c.version == version)
    row = connection.execute(wanted.order_by(artefacts.c.id.desc()).limit(1)).first()
    if row is not None:
        return of_row(row)
    known = [one.version for one in versions(connection, kind, name)]
    if known:
        message = f"There is no version {version!r} of {kind.value} {name!r}."
        raise NotFound(message, place=kind.value, hint=nearest(version, known))
    names = select(artefacts.c.name).where(artefacts.c.kind == kind.value, artefacts.c.removed_at.is_(None))
    hint = nearest(name, connection.execute(names.distinct()).scalars())
    raise NotFound(f"There is no {kind.value} {name!r}.", place=kind.value, hint=hint)


def resolve(connection: Connection, kind: ArtefactKind, text: str) -> Artefact:
    """The artefact that ``NAME`` (the newest version) or ``NAME@VERSION`` means. Raises NotFound."""
    name, _, version = text.partition("@")
    return get(connection, kind, name, version)


def by_id(connection: Connection, artefact_id: int) -> Artefact:
    """The version with this id, taken out or not. Raises NotFound."""
    row = connection.execute(_select().where(artefacts.c.id == artefact_id)).first()
    if row is None:
        raise NotFound(f"There is no artefact with id {artefact_id}.")
    return of_row(row)


def versions(connection: Connection, kind: ArtefactKind, name: str) -> Sequence[Artefact]:
    """The versions of a name, the newest first."""
    wanted = _select().where(_this(kind, name), artefacts.c.removed_at.is_(None))
    return [of_row(row) for row in connection.execute(wanted.order_by(artefacts.c.id.desc()))]


def page(
    connection: Connection,
    kind: ArtefactKind,
    *,
    name: str = "",
    before: int = 0,
    limit: int = 100,
    labels: Sequence[tuple[str, str]] = (),
    removed: bool = False,
    newest_only: bool = False,
) -> Sequence[Artefact]:
    """The newest first, ids below ``before``; ``name`` is a part of the name, ``newest_only`` one of each name.

    Those taken out are left out unless ``removed``.
    """
    wanted: list[ColumnElement[bool]] = [artefacts.c.kind == kind.value]
    if not removed:
        wanted.append(artefacts.c.removed_at.is_(None))
    wanted.extend(_label(connection, key) == value for key, value in labels)
    if newest_only:
        newest = select(func.max(artefacts.c.id)).where(*wanted).group_by(artefacts.c.name)
        wanted.append(artefacts.c.id.in_(newest))
    if name:
        wanted.append(artefacts.c.name.contains(name, autoescape=True))
    if before:
        wanted.append(artefacts.c.id < before)
    rows = connection.execute(_select().where(*wanted).order_by(artefacts.c.id.desc()).limit(limit))
    return [of_row(row) for row in rows]


def of_digest(connection: Connection, digest: str) -> Sequence[Artefact]:
    """The versions that have this content, the oldest first."""
    wanted = _select().where(artefacts.c.digest == digest, artefacts.c.removed_at.is_(None))
    return [of_row(row) for row in connection.execute(wanted.order_by(artefacts.c.id))]


def referenced(connection: Connection) -> set[str]:
    """The digests of all content that a version or a collected output stands for."""
    registered = select(artefacts.c.digest).where(artefacts.c.removed_at.is_(None))
    collected = select(outputs.c.digest).where(outputs.c.collected)
    return {row.digest for row in connection.execute(registered.union(collected))}


def of_kinds(connection: Connection, kinds: Sequence[ArtefactKind]) -> set[str]:
    """The digests of all content that was ever registered as one of these kinds."""
    wanted = artefacts.c.kind.in_([kind.value for kind in kinds])
    return set(connection.execute(select(artefacts.c.digest).where(wanted).distinct()).scalars())


def open_jobs_naming(connection: Connection, name: str, version: str, limit: int = 5) -> Sequence[int]:
    """Jobs that have not ended and name this version; ``limit`` of them at most."""
    # The spec is JSON text in which names stand pinned, and in quotation marks.
    named = jobs.c.spec.contains(json.dumps(f"{name}@{version}"), autoescape=True)
    open_now = jobs.c.state.not_in([state.value for state in JobState if state.ended])
    return list(connection.execute(select(jobs.c.id).where(open_now, named).order_by(jobs.c.id).limit(limit)).scalars())


def jobs_using(connection: Connection, artefact: Artefact, limit: int = 50) -> Sequence[int]:
    """Jobs that used this content at a site, and those that have not ended and name this version; the newest first."""
    used = (
        select(attempts.c.job_id)
        .join(uses, uses.c.attempt_id == attempts.c.id)
        .where(uses.c.digest == artefact.digest)
        .distinct()
        .order_by(attempts.c.job_id.desc())
        .limit(limit)
    )
    found = set(connection.execute(used).scalars()) if artefact.digest else set()
    found.update(open_jobs_naming(connection, artefact.name, artefact.version, limit))
    return sorted(found, reverse=True)[:limit]


def names_of(connection: Connection, digests: Sequence[str]) -> dict[str, list[str]]:
    """What each content is registered as: ``dataset prices@3``."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(digests), 500):
        wanted = artefacts.c.digest.in_(digests[start : start + 500]) & artefacts.c.removed_at.is_(None)
        for row in connection.execute(_select().where(wanted).order_by(artefacts.c.id)):
            found.setdefault(row.digest, []).append(f"{row.kind} {row.name}@{row.version}")
    return found


def remove(connection: Connection, artefact_id: int, *, now: float) -> None:
    """Take a version out: it is found no more, and its content may be collected as garbage."""
    gone = update(artefacts).where(artefacts.c.id == artefact_id, artefacts.c.removed_at.is_(None))
    connection.execute(gone.values(removed_at=now))


def of_row(row: Any) -> Artefact:
    """The artefact of a row with the columns of `artefacts` and ``owner``."""
    return Artefact(
        id=row.id,
        kind=ArtefactKind(row.kind),
        name=row.name,
        version=row.version,
        digest=row.digest,
        size=Bytes(row.size),
        is_folder=row.is_folder,
        format=ImageFormat(row.format) if row.format else None,
        reference=row.reference,
        zones=tuple(json.loads(row.zones)),
        labels=json.loads(row.labels),
        description=row.description,
        owner=row.owner,
        created_at=moment(row.created_at),
    )


def _select() -> Any:
    return select(artefacts, users.c.name.label("owner")).join(users, users.c.id == artefacts.c.user_id)


def _this(kind: ArtefactKind, name: str) -> ColumnElement[bool]:
    return (artefacts.c.kind == kind.value) & (artefacts.c.name == name)


def _label(connection: Connection, key: str) -> Any:
    if connection.dialect.name == "postgresql":
        return cast(artefacts.c.labels, JSON)[key].astext
    path = '$."' + key.replace('"', "") + '"'
    return cast(func.json_extract(artefacts.c.labels, path), String)


def _next_version(connection: Connection, kind: ArtefactKind, name: str) -> str:
    rows = connection.execute(select(artefacts.c.version).where(_this(kind, name))).scalars()
    return str(max((int(text) for text in rows if text.isdecimal()), default=0) + 1)
