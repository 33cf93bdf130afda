"""Datasets and images: versions, where their copies are, who uses them; uploads that go on where they were cut."""

import functools
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from isthmus import codec
from isthmus.api import content
from isthmus.api.jobs import label_of
from isthmus.control.artefacts import ArtefactFilter, Download
from isthmus.domain.artefacts import ArtefactKind, Registration
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.units import Seconds, show_bytes
from isthmus.panel import files
from isthmus.panel.visitor import PageOf, Pages, Visitor

pages = Pages()

PAGE = 50
STORE = "the server's store"  # no site can have that name


def _for_both(path: str, page: Any, *, post: bool = False) -> None:
    """The same page for datasets and images."""
    for kind in ArtefactKind:
        bound: PageOf = functools.partial(page, kind)
        (pages.post if post else pages.get)(f"/{kind.value}s{path}")(bound)


async def table(kind: ArtefactKind, visitor: Visitor) -> Response:
    """A page of them, the newest first."""
    return await _table(kind, visitor)


async def _table(
    kind: ArtefactKind, visitor: Visitor, *, error: IsthmusError | None = None, form: dict[str, str] | None = None
) -> Response:
    label = visitor.query.get("label", "").replace("\0", "").strip()[:200]
    try:
        labels = (label_of(label),) if label else ()
    except Invalid as wrong:
        labels, error = (), error or wrong
    which = ArtefactFilter(
        name=visitor.query.get("q", "").replace("\0", "")[:200],
        label=labels,
        removed=bool(visitor.query.get("removed")),
        before=visitor.number("before"),
        limit=PAGE,
    )
    page = await visitor.services.artefacts.list(visitor.caller, kind, which)
    return visitor.page(
        "data.html",
        status=error.status if error else 200,
        kind=kind.value,
        page=page,
        which=which,
        label=label,
        error=error,
        form=defaultdict(str, form or {}),
        places=[STORE, *(site.name for site in await visitor.services.sites.list(visitor.caller))],
    )


async def one(kind: ArtefactKind, visitor: Visitor) -> Response:
    """One name: this version, the others, the copies, who uses it."""
    artefacts, caller, name = visitor.services.artefacts, visitor.caller, visitor.path["name"]
    found = await artefacts.get(caller, kind, name)
    copies = await artefacts.replicas(caller, kind, f"{found.name}@{found.version}")
    jobs = await visitor.services.jobs.many(caller, await artefacts.jobs_using(caller, found))
    file = files.of_artefact(visitor, kind, found)
    stored = any(not copy.site for copy in copies)
    listed = stored and found.is_folder and kind is ArtefactKind.DATASET
    return visitor.page(
        "artefact.html",
        file=file,
        listing=await file.listing(visitor.number("from")) if listed else None,
        kind=kind.value,
        one=found,
        versions=await artefacts.versions(caller, kind, found.name),
        copies=copies,
        stored=stored,
        jobs=jobs,
        mine=found.owner == caller.user.name or visitor.may("admin"),
    )


async def download(kind: ArtefactKind, visitor: Visitor) -> Response:
    """Its bytes; a folder comes as a tar."""

    async def open_at(offset: int, length: int | None) -> Download:
        return await visitor.services.artefacts.download(
            visitor.caller, kind, visitor.path["name"], offset=offset, length=length
        )

    return await content.serve(visitor.request.headers.get("range", ""), open_at)


async def register(kind: ArtefactKind, visitor: Visitor) -> Response:
    """Register by a reference, or a path on the server's machine."""
    form = await visitor.form()
    try:
        made = await visitor.services.artefacts.register(visitor.caller, kind, _registration(form))
    except IsthmusError as error:
        return await _table(kind, visitor, error=error, form=dict(form))
    return visitor.go(f"/{kind.value}s/{made.name}@{made.version}", said=f"{made.name}@{made.version} is registered.")


def _registration(form: Any) -> Registration:
    source = form.get("source", "").strip()
    if not source:
        raise Invalid("Say where it is, or choose a file to upload.", place="source")
    zones = [zone.strip() for zone in form.get("zones", "").split(",") if zone.strip()]
    fields: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "version": form.get("version", "").strip(),
        "zones": zones,
        "description": form.get("description", "").strip(),
        "labels": _labels(form.get("labels", "")),
    }
    # A path on the server begins with a slash; the rest are references: docker://…, SITE:/path.
    fields["path" if source.startswith("/") and not form.get("at_site") else "reference"] = source
    return codec.read(Registration, fields)


def _labels(text: str) -> dict[str, str]:
    try:
        return dict(label_of(pair.strip()) for pair in text.split(",") if pair.strip())
    except Invalid as error:
        error.place = "labels"
        raise


async def remove(kind: ArtefactKind, visitor: Visitor) -> Response:
    """Take a version out."""
    form = await visitor.form()
    name = visitor.path["name"]
    try:
        gone = await visitor.services.artefacts.remove(visitor.caller, kind, name, force=bool(form.get("force")))
    except IsthmusError as error:
        return visitor.go(f"/{kind.value}s/{name}", error=error)
    return visitor.go(f"/{kind.value}s", said=f"{gone.name}@{gone.version} is taken out.")


async def collect(kind: ArtefactKind, visitor: Visitor) -> Response:
    """Take away copies that nothing needs."""
    form = await visitor.form()
    span = form.get("unused", "").strip()
    try:
        since = datetime.now(UTC) - timedelta(seconds=Seconds.parse(span)) if span else None
        dry = form.get("verb") != "collect"
        at = form.get("site", "")
        taken = await visitor.services.artefacts.gc(
            visitor.caller,
            [kind],
            site={"": None, STORE: ""}.get(at, at),
            unused_since=since,
            dry_run=dry,
        )
    except Invalid as error:
        error.place = error.place or "unused"
        return await _table(kind, visitor, error=error, form={"unused": span})
    except IsthmusError as error:
        return visitor.go(f"/{kind.value}s", error=error)
    done = "would be" if dry else "were"
    return visitor.go(f"/{kind.value}s", said=f"{taken.count} copies, {show_bytes(taken.size)}, {done} taken away.")


_for_both("", table)
_for_both("/register", register, post=True)
_for_both("/collect", collect, post=True)
_for_both("/{name}", one)
_for_both("/{name}/content", download)
_for_both("/{name}/remove", remove, post=True)


@pages.post("/uploads")
async def begin(visitor: Visitor) -> Response:
    """Begin an upload, or find the one that was begun: where to go on."""
    plain = await _json(visitor)
    kind = codec.read(ArtefactKind, plain.pop("kind", ""))
    view = await visitor.services.artefacts.begin_upload(visitor.caller, kind, codec.read(Registration, plain))
    return Response(codec.write_json(view), media_type="application/json")


@pages.patch("/uploads/{upload}")
async def append(visitor: Visitor) -> Response:
    """Add bytes from `offset` on."""
    view = await visitor.services.artefacts.append(
        visitor.caller,
        visitor.path["upload"],
        visitor.number("offset"),
        visitor.request.stream(),
        limit=visitor.services.max_chunk,
    )
    return Response(codec.write_json(view), media_type="application/json")


@pages.get("/uploads/{upload}")
async def state(visitor: Visitor) -> Response:
    """How far it is."""
    view = await visitor.services.artefacts.upload(visitor.caller, visitor.path["upload"])
    return Response(codec.write_json(view), media_type="application/json")


@pages.post("/uploads/{upload}/finish")
async def finish(visitor: Visitor) -> Response:
    """Check its digest and register it."""
    plain = await _json(visitor)
    made = await visitor.services.artefacts.finish_upload(
        visitor.caller, visitor.path["upload"], str(plain.get("digest", ""))
    )
    return Response(codec.write_json(made), media_type="application/json")


async def _json(visitor: Visitor) -> dict[str, Any]:
    body = await visitor.request.body()
    codec.refuse_null(body)
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Invalid(f"The body is not JSON: {error}.", place="body") from None
    if not isinstance(found, dict):
        raise Invalid("The body is not an object.", place="body")
    return found
