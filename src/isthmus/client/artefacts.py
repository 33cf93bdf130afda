"""`client.datasets` and `client.images`: register content once, by name and version; see where its copies lie."""

import asyncio
import builtins
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from isthmus import codec
from isthmus.client import downloads
from isthmus.client.connection import Connection
from isthmus.data import digests
from isthmus.data.digests import Measured
from isthmus.documents import nearest_file
from isthmus.domain.artefacts import Artefact, ArtefactKind, ImageFormat, Registration, Replica
from isthmus.domain.errors import Conflict, Invalid
from isthmus.domain.units import Bytes
from isthmus.domain.views import ArtefactPage, Collected, UploadView
from isthmus.runner import canonical

Progress = Callable[[int, int], None]

PIECE = 16 << 20


@dataclass(frozen=True, slots=True)
class _Content:
    """A file or folder here, measured."""

    path: Path
    measured: Measured

    def pieces(self, offset: int) -> Iterator[bytes]:
        """Its bytes from the offset on, in pieces for one request each."""
        held = bytearray()
        for part in self._read(offset):
            held += part
            while len(held) >= PIECE:
                yield bytes(held[:PIECE])
                del held[:PIECE]
        if held:
            yield bytes(held)

    def _read(self, offset: int) -> Iterator[bytes]:
        if self.measured.is_folder:
            yield from canonical.stream(os.fspath(self.path), offset)
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            while part := file.read(PIECE):
                yield part


class Artefacts:
    """Datasets or images. `name` is NAME (its newest version) or NAME@VERSION, unless a method says otherwise."""

    kind: ArtefactKind

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._path = f"/v1/{self.kind.value}s"

    async def register(
        self,
        name: str,
        path: str | Path,
        *,
        version: str = "",
        zones: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        description: str = "",
        format: ImageFormat | str | None = None,
        progress: Progress | None = None,
    ) -> Artefact:
        """Upload a file or folder of this machine and register it; goes on where an earlier call was cut.

        The digest is measured here, first: the server refuses bytes that became others on the way. `progress` is told
        the bytes so far and of all.
        """
        content = await asyncio.to_thread(_measure, Path(path))
        what = Registration(
            name=name,
            version=version,
            digest=content.measured.digest,
            size=Bytes(content.measured.size),
            is_folder=content.measured.is_folder,
            format=ImageFormat(format) if format else None,
            zones=tuple(zones),
            labels=dict(labels or {}),
            description=description,
        )
        begun = await self._connection.ask(
            UploadView, "POST", "/v1/uploads", query={"kind": self.kind.value}, body=what
        )
        await self._send(content, begun, progress)
        return await self._connection.ask(
            Artefact, "POST", f"/v1/uploads/{begun.id}/finish", body={"digest": what.digest}, wait_s=600.0
        )

    async def _send(self, content: _Content, begun: UploadView, progress: Progress | None) -> None:
        """Bring the bytes from where the upload is; where a piece was cut, ask and go on."""
        offset = begun.offset
        path = f"/v1/uploads/{begun.id}"
        size = content.measured.size
        misses = 0
        while offset < size:
            pieces = content.pieces(offset)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                if progress:
                    progress(offset, size)
                try:
                    view = await self._append(path, offset, piece)
                except Conflict as error:
                    misses += 1
                    if error.code != "offset" or misses > 10:
                        raise
                    view = await self._connection.ask(UploadView, "GET", path)
                moved, offset = view.offset == offset + len(piece), view.offset
                if not moved:
                    break
        if progress:
            progress(size, size)

    async def _append(self, path: str, offset: int, piece: bytes) -> UploadView:
        # A piece sent twice is refused by its offset, and then the server is asked where it is: so `again` is safe.
        answer = await self._connection.send(
            "PATCH",
            path,
            content=piece,
            headers={"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"},
            wait_s=120.0,
        )
        return codec.read_json(UploadView, answer.content)

    async def register_path(self, /, name: str, path: str, **more: Any) -> Artefact:
        """Register a file or folder of the server's own machine (admins). `more`: fields of `Registration`."""
        return await self._register(Registration(name=name, path=path, **more))

    async def register_reference(self, /, name: str, reference: str, **more: Any) -> Artefact:
        """Register what sites pull themselves, or what lies at a site already. `more`: fields of `Registration`."""
        return await self._register(Registration(name=name, reference=reference, **more))

    async def _register(self, what: Registration) -> Artefact:
        return await self._connection.ask(Artefact, "POST", self._path, body=what, wait_s=600.0, again=False)

    async def list(
        self,
        *,
        name: str = "",
        label: Mapping[str, str] | None = None,
        removed: bool = False,
        before: int = 0,
        limit: int = 50,
    ) -> ArtefactPage:
        """A page of them, the newest first. `name` is a part of the name."""
        query = {
            "name": name,
            "label": [f"{key}={value}" for key, value in (label or {}).items()],
            "removed": removed or None,
            "before": before or None,
            "limit": limit,
        }
        return await self._connection.ask(ArtefactPage, "GET", self._path, query=query)

    async def get(self, name: str) -> Artefact:
        """One of them."""
        return await self._connection.ask(Artefact, "GET", self._one(name))

    async def versions(self, name: str) -> builtins.list[Artefact]:
        """All versions of the name, the newest first."""
        return await self._connection.ask(list[Artefact], "GET", f"{self._one(name)}/versions")

    async def replicas(self, name: str) -> builtins.list[Replica]:
        """Its copies: in the control plane's store (site "") and at sites."""
        return await self._connection.ask(list[Replica], "GET", f"{self._one(name)}/replicas")

    async def download(self, name: str, to: str | Path, *, progress: Progress | None = None) -> Path:
        """Bring it here, verified; goes on where an earlier call was cut. `to`: as in `jobs.download`."""
        found = await self.get(name)
        to = Path(to)
        return await downloads.fetch(
            self._connection,
            f"{self._one(name)}/content",
            to=to / found.name if to.is_dir() else to,
            digest=found.digest,
            size=found.size,
            folder=found.is_folder,
            progress=progress,
        )

    async def remove(self, name: str, *, force: bool = False) -> Artefact:
        """Take a version out: new jobs can't name it."""
        return await self._connection.ask(
            Artefact, "DELETE", self._one(name), query={"force": force or None}, again=False
        )

    async def collect_garbage(
        self, *, site: str | None = None, unused_since: datetime | None = None, dry_run: bool = False
    ) -> Collected:
        """Take away copies that nothing needs: at one site, in the store (""), or everywhere (None). Admins only."""
        body = {
            "kinds": [self.kind.value],
            "site": site,
            "unused_since": unused_since.isoformat() if unused_since else None,
            "dry_run": dry_run,
        }
        return await self._connection.ask(Collected, "POST", "/v1/gc", body=body, wait_s=600.0)

    def _one(self, name: str) -> str:
        if not name or "/" in name:
            raise Invalid(f"{name!r} is not a name.", place="name", hint="Write NAME or NAME@VERSION.")
        return f"{self._path}/{quote(name, safe='@')}"


class Datasets(Artefacts):
    """`client.datasets`."""

    kind = ArtefactKind.DATASET


class Images(Artefacts):
    """`client.images`."""

    kind = ArtefactKind.IMAGE


def _measure(path: Path) -> _Content:
    """Read a file or folder whole. Raises Invalid."""
    if not path.exists():
        raise Invalid(f"There is no {path} here.", place="path", hint=nearest_file(path))
    try:
        return _Content(path, digests.measure_now(path))
    except OSError as error:
        raise Invalid(f"{error.filename or path} can't be read: {error.strerror}.", place="path") from None
