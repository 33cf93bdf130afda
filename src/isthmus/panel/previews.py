"""Previews: how the beginning of a file is shown: as a picture, a table, text, or not at all."""

import csv
import io
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.panel.logs import readable

Read = Callable[[int], Awaitable[bytes]]  # so many bytes from its beginning, or all where there are fewer

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


async def preview(path: str, size: int, read: Read) -> dict[str, Any]:
    """How to show it: ``form`` is picture, table, text or none, with what that needs."""
    ending = _ending(path)
    if ending in PICTURES:
        if size > PICTURE:
            return {"form": "none", "why": "It is too large a picture to be shown here."}
        return {"form": "picture"}
    try:
        data = await read(TEXT)
    except IsthmusError as error:
        return {"form": "none", "why": str(error)}
    if b"\0" in data[:4096]:
        return {"form": "none", "why": "It is not text."}
    whole = size <= len(data)
    text = data.decode("utf-8", "replace")
    if ending in ("csv", "tsv"):
        return _table(text, "\t" if ending == "tsv" else ",", whole)
    return {"form": "text", "text": readable(text), "cut": not whole}


def _table(text: str, delimiter: str, whole: bool) -> dict[str, Any]:
    lines = text if whole else text.rpartition("\n")[0]
    rows = list(csv.reader(io.StringIO(lines), delimiter=delimiter))
    cut = len(rows) > ROWS + 1 or not whole
    return {
        "form": "table",
        "head": rows[0][:COLUMNS] if rows else [],
        "rows": [row[:COLUMNS] for row in rows[1 : ROWS + 1]],
        "cut": cut,
    }


async def picture(path: str, size: int, read: Read) -> Response:
    """A picture as one, for an <img>. Opened by itself, nothing in it can run or load. Raises NotFound."""
    kind = PICTURES.get(_ending(path))
    if kind is None or size > PICTURE:
        raise NotFound("That is no picture that can be shown.", hint="Download it.")
    headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(await read(PICTURE), media_type=kind, headers=headers)


def _ending(path: str) -> str:
    return path.rpartition(".")[2].lower()
