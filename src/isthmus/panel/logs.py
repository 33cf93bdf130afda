"""The log of an attempt, by byte offsets: its end, what follows, what came before, where a word stands in it.

However long it is, no more than a piece is read, sent or shown at once.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response, StreamingResponse

from isthmus.domain.errors import Invalid, IsthmusError, SiteError
from isthmus.domain.views import LogSlice
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

PIECE = 64 * 1024
SEARCHED = 16 * 1024 * 1024  # bytes looked through for one answer; the browser asks on from where it ended
READ = 1024 * 1024
HITS = 200
LINE = 400  # characters of a line that are shown with a hit

# What terminals are told by: colours, cursor movements, titles.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_OTHER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Part of a log as text. ``begin`` and ``end`` are the byte offsets of it; ``size`` is the whole log's."""

    attempt: int
    begin: int
    end: int
    size: int
    ended: bool
    text: str
    trouble: str = ""  # why there is none

    @property
    def plain(self) -> dict[str, object]:
        return {
            "begin": self.begin,
            "end": self.end,
            "size": self.size,
            "ended": self.ended,
            "text": self.text,
            "trouble": self.trouble,
        }


def readable(text: str) -> str:
    """Text as a terminal would leave it: no escapes; of what a carriage return overwrote, the last."""
    text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _OTHER.sub("\ufffd", text)


def piece_of(part: LogSlice, *, from_line: bool = False, to_line: bool = False) -> Piece:
    """The slice as text: at whole characters, and where it is asked for at whole lines."""
    data, begin = part.data, part.offset
    if from_line and begin > 0:
        cut = data.find(b"\n") + 1
        data, begin = data[cut:], begin + cut
    while data and 0x80 <= data[0] < 0xC0 and begin > part.offset - 4:  # the rest of a character that began before
        data, begin = data[1:], begin + 1
    if to_line and b"\n" in data:
        data = data[: data.rfind(b"\n") + 1]
    elif not part.ended:
        data = _whole_characters(data)
    text = readable(data.decode("utf-8", "replace"))
    return Piece(attempt=part.attempt, begin=begin, end=begin + len(data), size=part.size, ended=part.ended, text=text)


def _whole_characters(data: bytes) -> bytes:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if back >= length else data[:-back]
    return data


async def tail_of(visitor: Visitor, job: int, attempt: int) -> Piece:
    """The end of a log, or what stands in the way of reading it."""
    if not attempt:
        return Piece(attempt=0, begin=0, end=0, size=0, ended=False, text="")
    try:
        part = await visitor.services.jobs.logs(visitor.caller, job, attempt=attempt, offset=-PIECE, limit=PIECE)
    except SiteError as error:
        return Piece(attempt=attempt, begin=0, end=0, size=0, ended=False, text="", trouble=str(error))
    return piece_of(part, from_line=True)


@pages.get("/jobs/{job:int}/log")
async def log(visitor: Visitor) -> Response:
    """A page of the log, for who has no JavaScript; for scripts a piece as JSON. `offset` below 0: from the end."""
    job, attempt = visitor.path["job"], visitor.number("attempt")
    offset = visitor.number("offset", -PIECE)
    limit = min(max(visitor.number("limit", PIECE), 1), READ)
    try:
        part = await visitor.services.jobs.logs(visitor.caller, job, attempt=attempt, offset=offset, limit=limit)
    except SiteError as error:
        piece = Piece(attempt=attempt, begin=0, end=0, size=0, ended=False, text="", trouble=str(error))
    else:
        piece = piece_of(part, from_line=bool(visitor.query.get("lines")) or offset < 0)
    if visitor.request.headers.get("accept", "").startswith("application/json"):
        return Response(json.dumps(piece.plain), media_type="application/json")
    found = await visitor.services.jobs.get(visitor.caller, job)
    return visitor.page("log.html", job=found, attempt=attempt, log=piece, piece=PIECE)


@pages.get("/jobs/{job:int}/log/download")
async def download(visitor: Visitor) -> Response:
    """The whole log as it was written, a piece at a time."""
    job, attempt = visitor.path["job"], visitor.number("attempt")
    first = await visitor.services.jobs.logs(visitor.caller, job, attempt=attempt, offset=0, limit=READ)

    async def parts() -> AsyncIterator[bytes]:
        part = first
        while part.data:
            yield part.data
            if part.ended:
                return
            offset = part.offset + len(part.data)
            try:
                part = await visitor.services.jobs.logs(
                    visitor.caller, job, attempt=first.attempt, offset=offset, limit=READ
                )
            except IsthmusError:
                return  # what was sent so far is all that there is now

    name = f"job-{job}-{first.attempt}.log"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(parts(), media_type="text/plain; charset=utf-8", headers=headers)


@pages.get("/jobs/{job:int}/log/search")
async def search(visitor: Visitor) -> Response:
    """Where a text stands in the log, from `offset` on: lines with their offsets, and where to go on."""
    wanted = visitor.query.get("q", "")
    if not wanted or len(wanted) > 500:
        raise Invalid("Give a text of up to 500 characters.", place="q")
    job, attempt = visitor.path["job"], visitor.number("attempt")
    offset = begin = max(0, visitor.number("offset"))
    pattern = re.compile(re.escape(wanted.encode()), re.IGNORECASE)
    hits: list[dict[str, object]] = []
    rest, size, done = b"", 0, False
    while offset - begin < SEARCHED and len(hits) < HITS:
        part = await visitor.services.jobs.logs(visitor.caller, job, attempt=attempt, offset=offset, limit=READ)
        size = part.size
        block = rest + part.data
        at = part.offset - len(rest)
        offset = part.offset + len(part.data)
        last = not part.data or part.ended  # not by the size: what is kept here may be less than what the site has
        cut = len(block) if last else block.rfind(b"\n") + 1 or len(block)
        for match in pattern.finditer(block, 0, cut):
            left = block.rfind(b"\n", 0, match.start()) + 1
            right = block.find(b"\n", match.end())
            line = block[left : right if right >= 0 else len(block)]
            if hits and hits[-1]["begin"] == at + left:
                continue
            hits.append({"begin": at + left, "line": readable(line.decode("utf-8", "replace"))[:LINE]})
            if len(hits) >= HITS:
                offset = at + (right + 1 if right >= 0 else len(block))
                break
        rest = block[cut:]
        if last:
            done = True
            break
    answer = {"hits": hits, "next": offset - (0 if done else len(rest)), "size": size, "done": done}
    return Response(json.dumps(answer), media_type="application/json")
