"""Files and folders to be looked at: what jobs left, registered data; of folders what is in them, each by itself."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from isthmus.api import content
from isthmus.control.artefacts import Download
from isthmus.data.members import Member, member, members
from isthmus.data.zips import zipped
from isthmus.domain.artefacts import Artefact, ArtefactKind
from isthmus.domain.errors import IsthmusError, NotFound
from isthmus.domain.views import OutputView
from isthmus.panel import previews
from isthmus.panel.rendering import url
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A file or a folder, or (with ``inside``) a file within a folder. ``base``: the address of its page."""

    opened: Callable[[int, int | None], Awaitable[Download]]
    name: str
    whole: int  # bytes, of a folder those of its tar
    is_folder: bool
    base: str
    inside: Member | None = None

    @property
    def path(self) -> str:
        return f"{self.name.rstrip('/')}/{self.inside.name}" if self.inside else self.name

    @property
    def size(self) -> int:
        return self.inside.size if self.inside else self.whole

    async def open(self, offset: int, length: int | None) -> Download:
        """Its bytes from there on."""
        if self.inside is None:
            return await self.opened(offset, length)
        most = max(0, self.inside.size - offset)
        length = most if length is None else min(length, most)
        found = await self.opened(self.inside.begin + offset, length)
        name = self.inside.name.rpartition("/")[2]
        digest = f"{found.digest}:{self.inside.at}"
        return dataclasses.replace(
            found, name=name, size=self.inside.size, offset=offset, digest=digest, is_folder=False
        )

    async def beginning(self, limit: int) -> bytes:
        return await _collected((await self.open(0, limit)).data, limit)

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes of the whole stream."""
        return await _collected((await self.opened(offset, length)).data, length)

    async def stream(self, offset: int, length: int) -> AsyncIterator[bytes]:
        return (await self.opened(offset, length)).data

    def link(self, what: str = "") -> str:
        """The address of its page, or of its content or picture."""
        return url(self.base + (f"/{what}" if what else ""), at=str(self.inside.at) if self.inside else "")

    async def within(self, at: int) -> "Shown":
        """The file in this folder whose header is at this place. Raises NotFound, Invalid."""
        if not self.is_folder:
            raise NotFound(f"{self.name} is no folder.", place="at")
        found = await member(self.read, self.whole, at)
        if found.kind != "file":
            raise NotFound(f"{found.name} is a {found.kind}, no file.", place="at")
        return dataclasses.replace(self, inside=found)

    async def listing(self, begin: int) -> dict[str, Any]:
        """A page of what is in this folder, from the member at ``begin`` on."""
        try:
            page = await members(self.read, self.whole, at=begin)
        except IsthmusError as error:
            return {"form": "none", "why": str(error)}
        return {
            "form": "folder",
            "members": [dataclasses.replace(self, inside=one) for one in page.members],
            "begin": begin,
            "next": page.next,
        }

    async def zip(self) -> Response:
        """The folder as a zip. Raises NotFound for a file; whether it is there at all is seen before a byte is sent."""
        if not self.is_folder or self.inside:
            raise NotFound(f"{self.path} is no folder.", hint="Download it as it is.")
        await self.read(0, 1)
        name = quote(self.name.rstrip("/").rpartition("/")[2] + ".zip", safe="")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
        return StreamingResponse(
            zipped(self.read, self.stream, self.whole), media_type="application/zip", headers=headers
        )


async def shown(visitor: Visitor, file: Shown, template: str = "file.html", **context: Any) -> Response:
    """Its page: a preview of a file, of a folder what is in it."""
    if file.is_folder and file.inside is None:
        return visitor.page(template, file=file, **context, **await file.listing(visitor.number("from")))
    found = await previews.preview(file.path, file.size, file.beginning)
    return visitor.page(template, file=file, **context, **found)


async def download(visitor: Visitor, file: Shown) -> Response:
    """Its bytes; a folder comes as a tar."""
    return await content.serve(visitor.request.headers.get("range", ""), file.open)


# ---- what jobs left


@pages.get("/jobs/{job:int}/files/{output:int}")
async def show_output(visitor: Visitor) -> Response:
    """A preview of a file; of a folder what is in it, and with `at` one file of it."""
    job = await visitor.services.jobs.get(visitor.caller, visitor.path["job"])
    output, file = await _output(visitor)
    up = [(f"/jobs/{job.id}", f"{job.id} {job.name}")]
    place = "home" if output.collected else f"at {output.site}"
    return await shown(visitor, file, up=up, facts=f"attempt {output.attempt} · {place}", digest=output.digest)


@pages.get("/jobs/{job:int}/files/{output:int}/content")
async def output_content(visitor: Visitor) -> Response:
    return await download(visitor, (await _output(visitor))[1])


@pages.get("/jobs/{job:int}/files/{output:int}/zip")
async def output_zip(visitor: Visitor) -> Response:
    return await (await _output(visitor))[1].zip()


@pages.get("/jobs/{job:int}/files/{output:int}/picture")
async def output_picture(visitor: Visitor) -> Response:
    """A picture as one, for an <img>."""
    _, file = await _output(visitor)
    return await previews.picture(file.path, file.size, file.beginning)


async def _output(visitor: Visitor) -> tuple[OutputView, Shown]:
    job, wanted = visitor.path["job"], visitor.path["output"]
    for output in await visitor.services.jobs.outputs(visitor.caller, job):
        if output.id == wanted:

            async def opened(offset: int, length: int | None) -> Download:
                return await visitor.services.artefacts.output(
                    visitor.caller, job, wanted, offset=offset, length=length
                )

            base = f"/jobs/{job}/files/{wanted}"
            return output, await _chosen(visitor, Shown(opened, output.path, output.size, output.kind != "file", base))
    raise NotFound(f"Job {job} left no file {wanted}.", place="output")


# ---- registered data


def of_artefact(visitor: Visitor, kind: ArtefactKind, one: Artefact) -> Shown:
    """The content of a registered version."""
    name = f"{one.name}@{one.version}"

    async def opened(offset: int, length: int | None) -> Download:
        return await visitor.services.artefacts.download(visitor.caller, kind, name, offset=offset, length=length)

    return Shown(opened, name, one.size, one.is_folder, f"/{kind.value}s/{quote(name, safe='')}/file")


@pages.get("/datasets/{name}/file")
async def show_data(visitor: Visitor) -> Response:
    """A file of registered data."""
    one, file = await _data(visitor)
    name = f"{one.name}@{one.version}"
    up = [("/datasets", "Data"), (f"/datasets/{quote(name, safe='')}", name)]
    return await shown(visitor, file, up=up, facts=f"by {one.owner}", digest=one.digest)


@pages.get("/datasets/{name}/file/content")
async def data_content(visitor: Visitor) -> Response:
    return await download(visitor, (await _data(visitor))[1])


@pages.get("/datasets/{name}/file/zip")
async def data_zip(visitor: Visitor) -> Response:
    return await (await _data(visitor))[1].zip()


@pages.get("/datasets/{name}/file/picture")
async def data_picture(visitor: Visitor) -> Response:
    _, file = await _data(visitor)
    return await previews.picture(file.path, file.size, file.beginning)


async def _data(visitor: Visitor) -> tuple[Artefact, Shown]:
    kind = ArtefactKind.DATASET
    one = await visitor.services.artefacts.get(visitor.caller, kind, visitor.path["name"])
    return one, await _chosen(visitor, of_artefact(visitor, kind, one))


async def _chosen(visitor: Visitor, file: Shown) -> Shown:
    """The file, or the one in it that `at` names."""
    return await file.within(visitor.number("at")) if visitor.query.get("at") else file


async def _collected(data: AsyncIterator[bytes], limit: int) -> bytes:
    parts = bytearray()
    async for part in data:
        parts += part
        if len(parts) >= limit:
            break
    return bytes(parts[:limit])
