"""/v1/uploads: content of datasets and images in pieces, gone on from wherever the last piece was cut.

POST /v1/uploads?kind=dataset   what it will be       → where to begin
PATCH /v1/uploads/ID            Upload-Offset: N, bytes → where to go on
POST /v1/uploads/ID/finish      its digest             → the artefact
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Path, Query, Request
from starlette.responses import Response

from isthmus.api.routes import MAX_ID, STRICT, answer, router
from isthmus.api.services import By, Use
from isthmus.domain.artefacts import Artefact, ArtefactKind, Registration
from isthmus.domain.errors import Invalid
from isthmus.domain.views import UploadView

routes = router("/uploads", "uploads")

UploadId = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The digest that was measured where the bytes come from; "": that of the registration."""

    __pydantic_config__ = STRICT

    digest: str = ""


@routes.post("", status_code=201, response_model=UploadView)
async def begin(request: Registration, services: Use, caller: By, kind: Annotated[ArtefactKind, Query()]) -> Response:
    """Begin an upload, or find the one that was begun for the same name, version and digest."""
    if request.path or request.reference:
        raise Invalid(
            "What is uploaded has no path or reference.",
            place="path" if request.path else "reference",
            hint="Register it: POST /v1/datasets or /v1/images.",
        )
    return answer(await services.artefacts.begin_upload(caller, kind, request), status=201)


@routes.get("/{upload}", response_model=UploadView)
async def get(upload: UploadId, services: Use, caller: By) -> Response:
    """How far it is."""
    return answer(await services.artefacts.upload(caller, upload))


@routes.patch(
    "/{upload}",
    response_model=UploadView,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def append(
    upload: UploadId,
    request: Request,
    services: Use,
    caller: By,
    upload_offset: Annotated[int, Header(ge=0, le=MAX_ID, description="Where these bytes begin.")],
) -> Response:
    """Add bytes. What arrived before a cut is kept: ask how far it is, and go on from there."""
    view = await services.artefacts.append(caller, upload, upload_offset, request.stream(), limit=services.max_chunk)
    return answer(view)


@routes.post("/{upload}/finish", status_code=201, response_model=Artefact)
async def finish(upload: UploadId, request: Finish, services: Use, caller: By) -> Response:
    """Check the digest and register. May be asked again."""
    return answer(await services.artefacts.finish_upload(caller, upload, request.digest), status=201)


@routes.delete("/{upload}", status_code=204, response_class=Response)
async def cancel(upload: UploadId, services: Use, caller: By) -> Response:
    """Forget an upload and its bytes."""
    await services.artefacts.cancel_upload(caller, upload)
    return Response(status_code=204)
