"""Uploads: content on its way from a person into the store, in as many calls as it takes.

An upload is a part file in the store's spool and beside it a note of what it will be. Both outlive the process. Owns
the notes; the bytes are `incoming`'s, what an artefact is the use cases'.
"""

import asyncio
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from isthmus import codec
from isthmus.domain.artefacts import ArtefactKind, Registration
from isthmus.domain.errors import NotFound

KEEP_S = 7 * 86400.0  # an upload without a byte for so long is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What is being uploaded, by whom; ``artefact`` is the id of what it became."""

    id: str
    user_id: int
    kind: ArtefactKind
    what: Registration
    begun_at: float
    artefact: int = 0


class Uploads:
    """The notes of uploads, one file each, in a folder that all API processes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def begin(self, user_id: int, kind: ArtefactKind, what: Registration, now: float) -> Upload:
        """A new upload, or the one that this user began for the same version of the same content."""
        return await asyncio.to_thread(self._begin, user_id, kind, what, now)

    async def get(self, upload: str, user_id: int) -> Upload:
        """One of the user's. Raises NotFound."""
        found = await asyncio.to_thread(self._read, self._path(upload))
        if found is None or found.user_id != user_id:
            raise NotFound(f"There is no upload {upload!r}.", hint="Begin it again.", place="upload")
        return found

    async def keep(self, upload: Upload) -> None:
        """Write a note anew."""
        await asyncio.to_thread(self._write, upload)

    async def drop(self, upload: str) -> None:
        """Forget it. Silent if gone."""
        self._path(upload).unlink(missing_ok=True)

    async def all(self) -> list[Upload]:
        """Every upload that there is."""
        return await asyncio.to_thread(self._all)

    def _begin(self, user_id: int, kind: ArtefactKind, what: Registration, now: float) -> Upload:
        if what.digest:
            for old in self._all():
                same = (old.user_id, old.kind, old.what.name, old.what.version, old.what.digest)
                if same == (user_id, kind, what.name, what.version, what.digest) and not old.artefact:
                    # What it will be is as it was said last; its bytes are the same.
                    again = Upload(id=old.id, user_id=user_id, kind=kind, what=what, begun_at=old.begun_at)
                    self._write(again)
                    return again
        upload = Upload(id=secrets.token_hex(16), user_id=user_id, kind=kind, what=what, begun_at=now)
        self._write(upload)
        return upload

    def _all(self) -> list[Upload]:
        found = (self._read(path) for path in self._folder.glob("*.upload"))
        return [upload for upload in found if upload is not None]

    def _read(self, path: Path) -> Upload | None:
        try:
            return codec.read(Upload, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None

    def _write(self, upload: Upload) -> None:
        path = self._path(upload.id)
        part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with part.open("wb") as file:
            file.write(codec.write_json(upload))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def _path(self, upload: str) -> Path:
        return self._folder / f"{upload}.upload"
