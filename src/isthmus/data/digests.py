"""Digests: how content is named. ``sha256:<64 hex digits>``, of a file's bytes or of a folder's canonical stream.

At sites and in the store content lies under the hex digits alone. A folder's stream is defined in
`isthmus.runner.canonical`, which also travels to the sites.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from isthmus.domain.errors import Invalid
from isthmus.runner import canonical

ALGORITHM = "sha256"
_DIGEST = re.compile(r"^(?:sha256:)?([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Measured:
    """A file or folder, read whole. ``size`` is that of its bytes, of a folder those of its stream."""

    digest: str
    size: int
    is_folder: bool


def hex_of(digest: str, place: str = "digest") -> str:
    """The 64 hex digits of ``sha256:…`` (or of the digits alone). Raises Invalid."""
    match = _DIGEST.match(digest.strip().lower())
    if not match:
        shown = digest if len(digest) <= 80 else digest[:77] + "..."
        hint = "Write it as sha256: and 64 hex digits, as `sha256sum` prints them."
        raise Invalid(f"{shown!r} is not a digest.", place=place, hint=hint, code="digest")
    return match[1]


def name_of(hex_digits: str) -> str:
    """The digest's whole name: ``sha256:…``."""
    return f"{ALGORITHM}:{hex_digits}"


def of_text(text: str) -> str:
    """64 hex digits for a text, such as a reference: a name for what has no digest of its own."""
    return hashlib.sha256(text.encode()).hexdigest()


async def measure(path: Path) -> Measured:
    """Read a file or folder whole, in a thread. Raises Invalid for what is neither, and OSError."""
    return await asyncio.to_thread(measure_now, path)


def measure_now(path: Path) -> Measured:
    """As `measure`, in the caller's thread."""
    if path.is_dir():
        try:
            digits, size = canonical.digest(str(path))
        except canonical.NotCanonical as error:
            raise Invalid(error.message, place="path", code="folder") from None
        return Measured(name_of(digits), size, True)
    if not path.is_file():
        raise Invalid(f"{path} is neither a file nor a folder.", place="path")
    with path.open("rb") as file:
        digits = hashlib.file_digest(file, ALGORITHM).hexdigest()
        return Measured(name_of(digits), file.tell(), False)
