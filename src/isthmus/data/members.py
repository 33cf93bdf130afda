"""What is in a folder that is kept as its canonical tar: its members, read without reading what is in its files.

    page = await members(read, digest, size)     # read(offset, length) gives the bytes of the stream there
    page.members[3].begin                        # where the bytes of that file begin in the stream

`isthmus.runner.canonical` is the form's definition. Headers are read in pieces; what files hold is jumped over.
"""

import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from isthmus.domain.errors import Invalid

Read = Callable[[int, int], Awaitable[bytes]]

PIECE = 256 * 1024  # of the stream that is looked through at once
BLOCK = tarfile.BLOCKSIZE
LONGEST_NAME = 1 << 16
KINDS = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file, folder or link in a folder. ``at`` is where its header begins in the stream, ``begin`` its content."""

    name: str
    kind: str  # file, folder, link
    size: int
    at: int
    begin: int
    target: str = ""  # of a link

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.begin + -(-self.size // BLOCK) * BLOCK


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Some members in their order. ``next`` is the ``at`` of the first that is left out; 0: none is."""

    members: tuple[Member, ...]
    next: int = 0


async def members(read: Read, size: int, *, at: int = 0, limit: int = 500) -> MemberPage:
    """The members from the one whose header is at ``at`` on. ``size``: of the whole stream. Raises Invalid."""
    window = _Window(read, size)
    found: list[Member] = []
    while len(found) < limit:
        member = await _member_at(window, at)
        if member is None:
            return MemberPage(tuple(found))
        found.append(member)
        at = member.end
    more = await _member_at(window, at)
    return MemberPage(tuple(found), more.at if more else 0)


async def member(read: Read, size: int, at: int) -> Member:
    """The member whose header is at ``at``. Raises Invalid where there is none."""
    found = await _member_at(_Window(read, size), at) if 0 <= at < size else None
    if found is None:
        raise Invalid("There is no file of the folder at this place.", place="at", code="no-member")
    return found


class _Window:
    """A piece of the stream, moved to where it is looked at."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._begin = 0
        self._data = b""

    async def at(self, offset: int, length: int) -> bytes:
        inside = offset - self._begin
        if inside < 0 or inside + length > len(self._data):
            wanted = min(max(PIECE, length), self._size - offset)
            self._begin, inside = offset, 0
            self._data = await self._read(offset, wanted) if wanted > 0 else b""
        return self._data[inside : inside + length]


async def _member_at(window: _Window, at: int) -> Member | None:
    """None at the end of the stream."""
    place, name, target = at, "", ""
    while True:
        block = await window.at(place, BLOCK)
        if not block.strip(b"\0"):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise Invalid(f"That is no folder's content: {error}.", place="at", code="no-member") from None
        place += BLOCK
        if header.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK) or header.size > LONGEST_NAME:
            break
        # A name (or a link's target) that does not fit into a header stands before it, as content of its own.
        text = (await window.at(place, header.size))[: header.size].rstrip(b"\0").decode("utf-8", "surrogateescape")
        name, target = (text, target) if header.type == tarfile.GNUTYPE_LONGNAME else (name, text)
        place += -(-header.size // BLOCK) * BLOCK
    kind = KINDS.get(header.type)
    if kind is None:
        raise Invalid(f"That is no folder's content: a member of type {header.type!r}.", place="at", code="no-member")
    size = header.size if kind == "file" else 0
    shown = (name or header.name).rstrip("/").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    aim = (target or header.linkname).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return Member(shown, kind, size, at, place, aim if kind == "link" else "")
