"""Bytes out: content served whole or from an offset (RFC 9110, ranges of one part)."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header
from starlette.responses import JSONResponse, Response, StreamingResponse

from isthmus.api import problems
from isthmus.control.artefacts import Download

Range = Annotated[str, Header(alias="Range", max_length=100, description="bytes=FIRST-LAST or bytes=FIRST-")]

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All of the bytes; a folder as its canonical tar.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "Isthmus-Digest": {"description": "Of the whole content.", "schema": {"type": "string"}},
            "Isthmus-Folder": {"description": "It is a folder's.", "schema": {"enum": ["true", "false"]}},
        },
    },
    206: {
        "description": "The bytes of the range asked for.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    416: {
        "description": "The range begins after the end.",
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
}

_RANGE = re.compile(r"^bytes=(\d{1,15})-(\d{0,15})$")


def asked(header: str) -> tuple[int, int | None] | None:
    """Offset and length of the range; None where there is none, or one that need not be heeded."""
    match = _RANGE.match(header.replace(" ", ""))
    if not match:
        return None
    first = int(match[1])
    if not match[2]:
        return first, None
    last = int(match[2])
    return (first, last - first + 1) if last >= first else None


async def serve(header: str, open_at: Callable[[int, int | None], Awaitable[Download]]) -> Response:
    """The content, or the range of it that was asked for. `open_at` opens it at an offset for a length."""
    wanted = asked(header)
    offset, length = wanted or (0, None)
    download = await open_at(offset, length)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{download.digest}"',
        "Isthmus-Digest": download.digest,
        "Isthmus-Folder": "true" if download.is_folder else "false",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(download.name, safe='')}",
    }
    if wanted is None or download.size == 0:
        headers["Content-Length"] = str(download.size)
        return StreamingResponse(download.data, headers=headers, media_type="application/octet-stream")
    if offset >= download.size:
        await _close(download)
        return _beyond(offset, download.size)
    count = download.size - offset if length is None else min(length, download.size - offset)
    headers["Content-Length"] = str(count)
    headers["Content-Range"] = f"bytes {offset}-{offset + count - 1}/{download.size}"
    return StreamingResponse(download.data, status_code=206, headers=headers, media_type="application/octet-stream")


async def _close(download: Download) -> None:
    close = getattr(download.data, "aclose", None)
    if close is not None:
        await close()


def _beyond(offset: int, size: int) -> Response:
    detail = f"The range begins at byte {offset}, but there are {size}."
    body = {"type": "about:blank", "title": detail, "status": 416, "detail": detail, "code": "http-416"}
    return JSONResponse(
        body, status_code=416, headers={"Content-Range": f"bytes */{size}"}, media_type=problems.MEDIA_TYPE
    )
