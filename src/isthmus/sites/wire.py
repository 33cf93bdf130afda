"""What is said to a proxy and what it answers: JSON, one request a line, replies between tokens.

    {"id": 1, "verb": "poll", ...}  ──►
    Welcome to the cluster!         ◄──  noise
    T{"id": 1, "ok": {...}}T        ◄──

Large texts are written and read in small steps, so that the event loop goes on meanwhile: the JSON module itself
never lets go, not even in a thread.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from isthmus.domain.errors import BadReply

SLICE_S = 0.002  # the longest that anything here holds the event loop
STEP = 200  # entries encoded at once
SMALL = 64 * 1024  # bytes that are read at once
DEEP = 3  # levels that are walked in steps: {"ok": {"attempts": {key: ...}}}
MAX_FRAME = 512 * 1024 * 1024

_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder().raw_decode
_dump = json.JSONEncoder(separators=(",", ":")).encode


class Pace:
    """Lets the event loop go on now and then in a long piece of work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def step(self) -> None:
        if time.perf_counter() - self._since > SLICE_S:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


class Frames:
    """Finds what stands between two tokens of one line; everything else is noise."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._buffer = bytearray()
        self._scanned = 0
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came; the frames that are whole by now. Raises BadReply when one has no end."""
        self._buffer += data
        frames = []
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            frame = self._between(bytes(self._buffer[:end]))
            if frame is not None:
                frames.append(frame)
            del self._buffer[: end + 1]
            self._scanned, self._begun = 0, False
        self._forget_noise()
        return frames

    def first(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The first frame and the bytes that follow its line, once it has come. For raw bytes after a header."""
        self._buffer += data
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            frame = self._between(bytes(self._buffer[:end]))
            del self._buffer[: end + 1]
            self._scanned, self._begun = 0, False
            if frame is not None:
                return frame, bytes(self._buffer)
        self._forget_noise()
        return None

    def last(self) -> bytes | None:
        """At the end of the stream: a frame whose line has no end, or None. Raises BadReply when it was cut."""
        frame = self._between(bytes(self._buffer))
        if frame is None and self._token in self._buffer:
            raise BadReply(f"The reply was cut after {len(self._buffer)} bytes.", code="cut")
        return frame

    def _between(self, line: bytes) -> bytes | None:
        begin = line.find(self._token)
        end = line.rfind(self._token)
        if begin < 0 or end <= begin:
            return None
        return line[begin + len(self._token) : end]

    def _forget_noise(self) -> None:
        if not self._begun:
            begin = self._buffer.find(self._token)
            self._begun = begin >= 0
            # A piece of a token may stand at the end.
            del self._buffer[: begin if self._begun else max(0, len(self._buffer) - len(self._token) + 1)]
        self._scanned = len(self._buffer)
        if self._scanned > MAX_FRAME:
            raise BadReply(f"The reply is larger than {MAX_FRAME} bytes.")


class Each:
    """A JSON object that is made entry by entry while it is written: `shape` of each value."""

    def __init__(self, values: Mapping[str, Any], shape: Callable[[Any], Any]) -> None:
        self.values, self.shape = values, shape

    def pieces(self) -> Iterator[str]:
        items = list(self.values.items())  # whoever made it may change it meanwhile
        yield "{"
        for begin in range(0, len(items), STEP):
            part = {key: self.shape(value) for key, value in items[begin : begin + STEP]}
            yield ("," if begin else "") + _dump(part)[1:-1]
        yield "}"


async def encode(request: dict[str, Any]) -> bytes:
    """A request as its line."""
    pace = Pace()
    parts = ["{"]
    for number, (name, value) in enumerate(request.items()):
        parts.append(f"{',' if number else ''}{_dump(name)}:")
        for part in _pieces(value):
            parts.append(part)
            await pace.step()
    parts.append("}\n")
    return "".join(parts).encode()


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Each):
        yield from value.pieces()
    elif isinstance(value, dict) and len(value) > STEP:
        yield from Each(value, lambda it: it).pieces()
    elif isinstance(value, list) and len(value) > STEP // 10:  # items of lists, such as submissions, are larger
        yield "["
        for number, item in enumerate(value):
            yield ("," if number else "") + _dump(item)
        yield "]"
    else:
        yield _dump(value)


async def decode(body: bytes) -> Any:
    """The JSON value of a frame. Raises BadReply when it is none."""
    try:
        if len(body) < SMALL:
            return json.loads(body)
        return await _Walk(body.decode()).whole()
    except (ValueError, IndexError, RecursionError) as error:
        raise BadReply(f"The reply is garbled: {error}.", code="garbled") from error


class _Walk:
    """Reads the upper levels of a JSON text entry by entry, what is below them at once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pace = Pace()

    async def whole(self) -> Any:
        value, end = await self.value(0, DEEP)
        if self._skip(end) != len(self._text):
            raise ValueError(f"more than one value: the first ends at {end}")
        return value

    async def value(self, at: int, deep: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends."""
        at = self._skip(at)
        if deep and self._text[at] == "{":
            return await self._object(at + 1, deep)
        if deep and self._text[at] == "[":
            return await self._array(at + 1, deep)
        return _scan(self._text, at)

    async def _object(self, at: int, deep: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self._skip(at)
        if self._text[at] == "}":
            return found, at + 1
        while True:
            name, at = _scan(self._text, self._skip(at))
            if not isinstance(name, str):
                raise ValueError(f"the name at {at} is no text")
            at = self._expect(at, ":")
            if deep > 1:
                found[name], at = await self.value(at, deep - 1)
            else:
                found[name], at = _scan(self._text, self._skip(at))
                await self._pace.step()
            at, over = self._next(at, "}")
            if over:
                return found, at

    async def _array(self, at: int, deep: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self._skip(at)
        if self._text[at] == "]":
            return found, at + 1
        while True:
            item, at = await self.value(at, deep - 1)
            found.append(item)
            await self._pace.step()
            at, over = self._next(at, "]")
            if over:
                return found, at

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at

    def _expect(self, at: int, mark: str) -> int:
        at = self._skip(at)
        if self._text[at] != mark:
            raise ValueError(f"{mark!r} is missing at {at}")
        return at + 1

    def _next(self, at: int, close: str) -> tuple[int, bool]:
        at = self._skip(at)
        mark = self._text[at]
        if mark not in (",", close):
            raise ValueError(f"',' is missing at {at}")
        return at + 1, mark == close
