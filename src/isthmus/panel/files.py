"""What jobs left: downloads, and previews of text, tables and pictures."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response

from isthmus.api import content
from isthmus.control.artefacts import Download
from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.domain.views import OutputView
from isthmus.panel.logs import readable
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

TEXT = 128 * 1024  # bytes of a file that are shown
ROWS = 200
COLUMNS = 40
PICTURE = 20 * 1024 * 1024
# Pictures that a browser may draw in place; SVG only in an <img>, where no script in it runs.
PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
}


@pages.get("/jobs/{job:int}/files/{output:int}")
async def show(visitor: Visitor) -> Response:
    """A preview of a file."""
    job = await visitor.services.jobs.get(visitor.caller, visitor.path["job"])
    output = await _output(visitor)
    return visitor.page("file.html", job=job, output=output, **await _preview(visitor, output))


@pages.get("/jobs/{job:int}/files/{output:int}/content")
async def download(visitor: Visitor) -> Response:
    """Its bytes; a folder comes as a tar."""
    job, output = visitor.path["job"], visitor.path["output"]

    async def open_at(offset: int, length: int | None) -> Download:
        return await visitor.services.artefacts.output(visitor.caller, job, output, offset=offset, length=length)

    return await content.serve(visitor.request.headers.get("range", ""), open_at)


@pages.get("/jobs/{job:int}/files/{output:int}/picture")
async def picture(visitor: Visitor) -> Response:
    """A picture as one, for an <img>. Opened by itself, nothing in it can run or load."""
    output = await _output(visitor)
    kind = PICTURES.get(_ending(output))
    if kind is None or output.kind != "file" or output.size > PICTURE:
        raise NotFound("That is no picture that can be shown.", hint="Download it.")
    data = await _read(visitor, output, PICTURE)
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(data, media_type=kind, headers=headers)


async def _output(visitor: Visitor) -> OutputView:
    job, wanted = visitor.path["job"], visitor.path["output"]
    for output in await visitor.services.jobs.outputs(visitor.caller, job):
        if output.id == wanted:
            return output
    raise NotFound(f"Job {job} left no file {wanted}.", place="output")


async def _preview(visitor: Visitor, output: OutputView) -> dict[str, Any]:
    """How to show it: ``form`` is picture, table, text or none, with what that needs."""
    ending = _ending(output)
    if output.kind != "file":
        return {"form": "none", "why": "It is a folder: download it as a tar archive."}
    if ending in PICTURES:
        if output.size > PICTURE:
            return {"form": "none", "why": "It is too large a picture to be shown here."}
        return {"form": "picture"}
    try:
        data = await _read(visitor, output, TEXT)
    except IsthmusError as error:
        return {"form": "none", "why": str(error)}
    if b"\0" in data[:4096]:
        return {"form": "none", "why": "It is not text."}
    whole = output.size <= len(data)
    text = data.decode("utf-8", "replace")
    if ending in ("csv", "tsv"):
        lines = text if whole else text.rpartition("\n")[0]
        rows = list(csv.reader(io.StringIO(lines), delimiter="\t" if ending == "tsv" else ","))
        cut = len(rows) > ROWS + 1 or not whole
        return {
            "form": "table",
            "head": rows[0][:COLUMNS] if rows else [],
            "rows": [row[:COLUMNS] for row in rows[1 : ROWS + 1]],
            "cut": cut,
        }
    return {"form": "text", "text": readable(text), "cut": not whole}


async def _read(visitor: Visitor, output: OutputView, limit: int) -> bytes:
    found = await visitor.services.artefacts.output(visitor.caller, output.job, output.id, offset=0, length=limit)
    return await _collected(found.data, limit)


async def _collected(data: AsyncIterator[bytes], limit: int) -> bytes:
    parts = bytearray()
    async for part in data:
        parts += part
        if len(parts) >= limit:
            break
    return bytes(parts[:limit])


def _ending(output: OutputView) -> str:
    return output.path.rpartition(".")[2].lower()
