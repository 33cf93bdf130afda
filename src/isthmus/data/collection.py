"""Collection: what a job left is checked, brought home where it may be, and registered. SKELETON."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from isthmus.data.staging import Place
from isthmus.domain.jobs import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedOutput:
    """An output that was checked."""

    path: str
    kind: str  # file, folder
    size: int
    digest: str  # sha256:<hex>
    collected: bool  # the store has it
    dataset: str = ""  # to be registered as a new version of this


class Collection:
    """Brings outputs home. Safe to be called again after a crash: what the store has is not brought twice."""

    async def collect(
        self,
        place: Place,
        key: str,
        spec: JobSpec,
        outputs: Sequence[Mapping[str, Any]],
        zones: Sequence[str] = (),
    ) -> list[CollectedOutput]:
        """Check the outputs of attempt ``key`` and bring home those that ask for it.

        ``outputs`` are those of the runner's last report (or rows of `outputs`); ``zones`` the job's, if it is bound:
        an output that the store may not have stays at the site. Raises SiteError with ``transient`` to be called again;
        any other IsthmusError means Reason.OUTPUT, its message says which output and why.
        """
        raise NotImplementedError

    def record(
        self, conn: Connection, attempt: Any, collected: Sequence[CollectedOutput], zones: Sequence[str], now: float
    ) -> None:
        """Write down what was collected, in the transaction that ends the attempt: rows of `outputs`, new versions of
        datasets, replicas. ``attempt`` is a row of `isthmus.db.attempts`."""
        raise NotImplementedError

    async def open(
        self, output: Any, place: Place | None, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Bytes of an output: from the store, or from its site. ``output`` is a row of `attempts.outputs_of`."""
        raise NotImplementedError
