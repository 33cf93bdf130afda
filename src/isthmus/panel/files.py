"""What jobs left: files and folders, what is in the folders, each to be looked at and downloaded."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response

from isthmus.api import content
from isthmus.control.artefacts import Download
from isthmus.data.members import Member, member, members
from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.domain.views import OutputView
from isthmus.panel import previews
from isthmus.panel.rendering import url
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """A file that a job left: an output, or (with ``inside``) one in a folder that is an output."""

    visitor: Visitor
    output: OutputView
    inside: Member | None = None

    @property
    def path(self) -> str:
        return f"{self.output.path.rstrip('/')}/{self.inside.name}" if self.inside else self.output.path

    @property
    def size(self) -> int:
        return self.inside.size if self.inside else self.output.size

    async def open(self, offset: int, length: int | None) -> Download:
        """Its bytes from there on."""
        if self.inside is None:
            return await _opened(self.visitor, self.output, offset, length)
        most = max(0, self.inside.size - offset)
        length = most if length is None else min(length, most)
        found = await _opened(self.visitor, self.output, self.inside.begin + offset, length)
        name = self.inside.name.rpartition("/")[2]
        digest = f"{found.digest}:{self.inside.at}"
        return dataclasses.replace(
            found, name=name, size=self.inside.size, offset=offset, digest=digest, is_folder=False
        )

    async def beginning(self, limit: int) -> bytes:
        return await _collected((await self.open(0, limit)).data, limit)

    def link(self, what: str = "") -> str:
        """The address of its page, or of its content or picture."""
        base = f"/jobs/{self.output.job}/files/{self.output.id}"
        return url(base + (f"/{what}" if what else ""), at=str(self.inside.at) if self.inside else "")


@pages.get("/jobs/{job:int}/files/{output:int}")
async def show(visitor: Visitor) -> Response:
    """A preview of a file; of a folder what is in it, and with `at` one file of it."""
    job = await visitor.services.jobs.get(visitor.caller, visitor.path["job"])
    file = await _file(visitor)
    if file.output.kind != "file" and file.inside is None:
        return visitor.page("file.html", job=job, file=file, output=file.output, **await _listing(visitor, file.output))
    shown = await previews.preview(file.path, file.size, file.beginning)
    return visitor.page("file.html", job=job, file=file, output=file.output, **shown)


@pages.get("/jobs/{job:int}/files/{output:int}/content")
async def download(visitor: Visitor) -> Response:
    """Its bytes; a folder comes as a tar."""
    file = await _file(visitor)
    return await content.serve(visitor.request.headers.get("range", ""), file.open)


@pages.get("/jobs/{job:int}/files/{output:int}/picture")
async def picture(visitor: Visitor) -> Response:
    """A picture as one, for an <img>."""
    file = await _file(visitor)
    return await previews.picture(file.path, file.size, file.beginning)


async def _listing(visitor: Visitor, output: OutputView) -> dict[str, Any]:
    """A page of what is in a folder, from the member at `from` on."""

    async def read(offset: int, length: int) -> bytes:
        return await _read(visitor, output, offset, length)

    try:
        page = await members(read, output.size, at=visitor.number("from"))
    except IsthmusError as error:
        return {"form": "none", "why": str(error)}
    return {
        "form": "folder",
        "members": [_File(visitor, output, one) for one in page.members],
        "begin": visitor.number("from"),
        "next": page.next,
    }


async def _file(visitor: Visitor) -> _File:
    output = await _output(visitor)
    at = visitor.query.get("at", "")
    if not at:
        return _File(visitor, output)
    if output.kind == "file":
        raise NotFound(f"{output.path} is no folder.", place="at")

    async def read(offset: int, length: int) -> bytes:
        return await _read(visitor, output, offset, length)

    found = await member(read, output.size, visitor.number("at"))
    if found.kind != "file":
        raise NotFound(f"{found.name} is a {found.kind}, no file.", place="at")
    return _File(visitor, output, found)


async def _output(visitor: Visitor) -> OutputView:
    job, wanted = visitor.path["job"], visitor.path["output"]
    for output in await visitor.services.jobs.outputs(visitor.caller, job):
        if output.id == wanted:
            return output
    raise NotFound(f"Job {job} left no file {wanted}.", place="output")


async def _opened(visitor: Visitor, output: OutputView, offset: int, length: int | None) -> Download:
    return await visitor.services.artefacts.output(visitor.caller, output.job, output.id, offset=offset, length=length)


async def _read(visitor: Visitor, output: OutputView, offset: int, length: int) -> bytes:
    return await _collected((await _opened(visitor, output, offset, length)).data, length)


async def _collected(data: AsyncIterator[bytes], limit: int) -> bytes:
    parts = bytearray()
    async for part in data:
        parts += part
        if len(parts) >= limit:
            break
    return bytes(parts[:limit])
