"""A folder that is kept as its canonical tar, given out as a zip: for those whose computer opens that by itself.

Written as it is read, whatever its size: nothing of it is kept. What files hold is not compressed again.
"""

import io
import stat
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable

from isthmus.data.members import Member, Read, members

Open = Callable[[int, int], Awaitable[AsyncIterator[bytes]]]  # the bytes of the stream from an offset, so many
DATE = (1980, 1, 1, 0, 0, 0)  # canonical folders know no times; this is the earliest that a zip can say


async def zipped(read: Read, stream: Open, size: int) -> AsyncIterator[bytes]:
    """The zip, in pieces. ``read`` gives headers, ``stream`` what files hold. Raises Invalid as `members` does."""
    out = _Pieces()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        at = 0
        while True:
            page = await members(read, size, at=at)
            for member in page.members:
                if member.kind == "file" and member.size:
                    with archive.open(_entry(member), "w", force_zip64=True) as entry:
                        async for piece in await stream(member.begin, member.size):
                            entry.write(piece)
                            yield out.taken()
                else:
                    archive.writestr(_entry(member), member.target)
                    yield out.taken()
            at = page.next
            if not at:
                break
    yield out.taken()


def _entry(member: Member) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(member.name + ("/" if member.kind == "folder" else ""), DATE)
    kind, mode = {"folder": (stat.S_IFDIR, 0o755), "link": (stat.S_IFLNK, 0o777)}.get(
        member.kind, (stat.S_IFREG, 0o644)
    )
    entry.create_system = 3  # unix: what follows is a mode
    entry.external_attr = (kind | mode) << 16 | (0x10 if member.kind == "folder" else 0)
    return entry


class _Pieces(io.RawIOBase):
    """What was written since it was taken last. It can't be sought in, so the zip says sizes after each file."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._held += piece
        return len(piece)

    def taken(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held
