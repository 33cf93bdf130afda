"""/v1/datasets and /v1/images, alike; and /v1/gc, which takes away copies that nothing needs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from isthmus.api import content
from isthmus.api.jobs import Labels, label_of
from isthmus.api.routes import MAX_ID, STRICT, Name, answer, router
from isthmus.api.services import By, Use
from isthmus.control.artefacts import ArtefactFilter, Download
from isthmus.domain.artefacts import Artefact, ArtefactKind, Registration, Replica
from isthmus.domain.errors import Invalid
from isthmus.domain.views import ArtefactPage, Collected


def _routes(kind: ArtefactKind) -> APIRouter:
    """The routes of one kind. `name` is NAME (the newest version) or NAME@VERSION."""
    routes = router(f"/{kind.value}s", f"{kind.value}s")

    @routes.get("", response_model=ArtefactPage, name=f"list_{kind.value}s")
    async def list_them(
        services: Use,
        caller: By,
        name: Annotated[str, Query(max_length=200, description="A part of the name.")] = "",
        label: Labels = (),
        removed: Annotated[bool, Query(description="The removed ones too.")] = False,
        before: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> Response:
        """A page of them, the newest first."""
        labels = tuple(label_of(each) for each in label)
        which = ArtefactFilter(name=name, label=labels, removed=removed, before=before, limit=limit)
        return answer(await services.artefacts.list(caller, kind, which))

    @routes.post("", status_code=201, response_model=Artefact, name=f"register_{kind.value}")
    async def register(request: Registration, services: Use, caller: By) -> Response:
        """Register one from a path on the server's machine (admins) or by a reference. See /v1/uploads for others."""
        if not request.path and not request.reference:
            raise Invalid(
                "It names neither a path nor a reference.", place="path", hint="Or upload it: POST /v1/uploads."
            )
        return answer(await services.artefacts.register(caller, kind, request), status=201)

    @routes.get("/{name}", response_model=Artefact, name=f"get_{kind.value}")
    async def get(name: Name, services: Use, caller: By) -> Response:
        """One of them."""
        return answer(await services.artefacts.get(caller, kind, name))

    @routes.get("/{name}/versions", response_model=list[Artefact], name=f"{kind.value}_versions")
    async def versions(name: Name, services: Use, caller: By) -> Response:
        """All versions of the name, the newest first."""
        return answer(await services.artefacts.versions(caller, kind, name), list[Artefact])

    @routes.get("/{name}/replicas", response_model=list[Replica], name=f"{kind.value}_replicas")
    async def replicas(name: Name, services: Use, caller: By) -> Response:
        """Its copies: in the control plane's store (site "") and at sites."""
        return answer(await services.artefacts.replicas(caller, kind, name), list[Replica])

    @routes.get(
        "/{name}/content",
        response_class=Response,
        responses=content.DOCUMENTED,
        name=f"{kind.value}_content",
    )
    async def bytes_of(name: Name, services: Use, caller: By, header: content.Range = "") -> Response:
        """Its bytes, whole or a range of them."""

        async def open_at(offset: int, length: int | None) -> Download:
            return await services.artefacts.download(caller, kind, name, offset=offset, length=length)

        return await content.serve(header, open_at)

    @routes.delete("/{name}", response_model=Artefact, name=f"remove_{kind.value}")
    async def remove(
        name: Name,
        services: Use,
        caller: By,
        force: Annotated[bool, Query(description="Though jobs that have not ended name it.")] = False,
    ) -> Response:
        """Take a version out: new jobs can't name it. Its bytes go with the next garbage collection."""
        return answer(await services.artefacts.remove(caller, kind, name, force=force))

    return routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What to look through: one site, the store (""), or everything (null); no kinds: all."""

    __pydantic_config__ = STRICT

    kinds: tuple[ArtefactKind, ...] = ()
    site: str | None = None
    unused_since: AwareDatetime | None = None
    dry_run: bool = False


garbage = router("", "datasets")


@garbage.post("/gc", response_model=Collected)
async def collect_garbage(request: Garbage, services: Use, caller: By) -> Response:
    """Take away copies that nothing needs: never what a live job uses, nor the last copy of what is registered."""
    since: datetime | None = request.unused_since
    taken = await services.artefacts.gc(
        caller, request.kinds, site=request.site, unused_since=since, dry_run=request.dry_run
    )
    return answer(taken)


all_routes = (*(_routes(kind) for kind in ArtefactKind), garbage)
