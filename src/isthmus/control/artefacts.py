"""The use cases of datasets and images: what the API's calls about them do. SKELETON: the bodies follow."""

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from isthmus.domain.artefacts import Artefact, ArtefactKind, Registration, Replica
from isthmus.domain.users import Caller
from isthmus.domain.views import ArtefactPage, Collected, UploadView


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactFilter:
    """Which artefacts to list. An empty field does not filter."""

    name: str = ""  # a part of it
    label: tuple[tuple[str, str], ...] = ()
    removed: bool = False  # the removed ones too
    before: int = 0  # ids smaller than this: the key of the next page; the newest come first
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way to a person: ``size`` in all (those of the whole thing), ``offset`` of the first one here."""

    name: str  # a file name to keep them under; a folder comes as NAME.tar
    size: int
    offset: int
    digest: str
    is_folder: bool
    data: AsyncIterator[bytes]


class Artefacts:
    """Datasets, images and job outputs as people ask about them. Every method checks what the caller may do.

    ``name`` in `get`, `replicas` and `remove` is ``NAME`` (its newest version) or ``NAME@VERSION``.
    """

    # ---- registering

    async def begin_upload(self, caller: Caller, kind: ArtefactKind, what: Registration) -> UploadView:
        """Begin an upload. Asked again for the same name, version and digest, it gives the one that was begun.

        Raises Conflict when that version exists with another digest, and Invalid for what can't be registered here
        (the name, or zones that this control plane's store is not in).
        """
        raise NotImplementedError

    async def upload(self, caller: Caller, upload: str) -> UploadView:
        """How far an upload is: its ``offset`` is the next byte wanted. Raises NotFound."""
        raise NotImplementedError

    async def append(
        self, caller: Caller, upload: str, offset: int, chunks: AsyncIterable[bytes], *, limit: int | None = None
    ) -> UploadView:
        """Add bytes that begin at ``offset``; each is kept as it comes, so a cut call can be gone on from.

        Raises Conflict (code ``offset``) unless they begin where the upload is, TooLarge beyond ``limit`` bytes in
        one call or the announced size, Unavailable (code ``disk-full``).
        """
        raise NotImplementedError

    async def finish_upload(self, caller: Caller, upload: str, digest: str = "") -> Artefact:
        """Check the digest (``sha256:<hex>``; of the registration if it named one) and register. May be called again.

        Raises Invalid (code ``digest``) when it is another; the upload's bytes are then gone.
        """
        raise NotImplementedError

    async def cancel_upload(self, caller: Caller, upload: str) -> None:
        """Forget an upload and its bytes. Silent if gone."""

    async def register(self, caller: Caller, kind: ArtefactKind, what: Registration) -> Artefact:
        """Register from ``what.path`` (admins: the server reads it) or ``what.reference``. May take long."""
        raise NotImplementedError

    # ---- asking

    async def list(self, caller: Caller, kind: ArtefactKind, which: ArtefactFilter) -> ArtefactPage:
        """A page of them, the newest first."""
        raise NotImplementedError

    async def get(self, caller: Caller, kind: ArtefactKind, name: str) -> Artefact:
        """One of them. Raises NotFound with the nearest name."""
        raise NotImplementedError

    async def versions(self, caller: Caller, kind: ArtefactKind, name: str) -> builtins.list[Artefact]:
        """All versions of that name, the newest first."""
        raise NotImplementedError

    async def replicas(self, caller: Caller, kind: ArtefactKind, name: str) -> builtins.list[Replica]:
        """Its copies: in the store of the control plane (site "") and at sites."""
        raise NotImplementedError

    async def download(
        self, caller: Caller, kind: ArtefactKind, name: str, *, offset: int = 0, length: int | None = None
    ) -> Download:
        """Its bytes from the store. Raises Conflict when the store has no copy."""
        raise NotImplementedError

    async def output(
        self, caller: Caller, job_id: int, output: int, *, offset: int = 0, length: int | None = None
    ) -> Download:
        """The bytes of a job's output (``output`` is OutputView.id): from the store or, where it was not collected,
        from the site. Raises Forbidden where residency does not let them come here, and what the site raises."""
        raise NotImplementedError

    # ---- removing

    async def remove(self, caller: Caller, kind: ArtefactKind, name: str, *, force: bool = False) -> Artefact:
        """Take a version out: new jobs can't name it. Its bytes go with the next gc.

        Raises Conflict while jobs that have not ended name it, unless forced; Forbidden unless it is the caller's own
        or the caller an admin.
        """
        raise NotImplementedError

    async def gc(
        self,
        caller: Caller,
        kinds: Sequence[ArtefactKind] = (),
        *,
        site: str | None = None,
        unused_since: datetime | None = None,
        dry_run: bool = False,
    ) -> Collected:
        """Take away copies that nothing needs: at one site, in the store (``site=""``), or everywhere (None).

        At a site: what was not used since ``unused_since`` or is over the site's cache bound, the longest unused
        first; never what a live job uses, nor the last copy of what is registered. In the store: bytes that nothing
        registered, kept or live names. Admins only. No kinds: all.
        """
        raise NotImplementedError
