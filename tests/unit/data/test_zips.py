"""A folder's stream as a zip: what was in it is in it, read and written a piece at a time."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

from isthmus.data.zips import zipped
from isthmus.runner import canonical

PIECE = 64 * 1024


async def test_a_folder_as_a_zip(tmp_path: Path) -> None:
    top = tmp_path / "out"
    (top / "sub" / "none").mkdir(parents=True)
    (top / "empty").write_bytes(b"")
    (top / "sub" / ("n" * 130 + " שלום.txt")).write_text("long")
    (top / "link").symlink_to("sub/none")
    big = bytes(range(256)) * 4000
    (top / "big.bin").write_bytes(big)
    data = b"".join(canonical.stream(top))

    async def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    async def stream(offset: int, length: int) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            for begin in range(offset, offset + length, PIECE):
                yield data[begin : min(begin + PIECE, offset + length)]

        return pieces()

    parts = [part async for part in zipped(read, stream, len(data))]
    assert max(map(len, parts)) < PIECE + 4096  # never the whole file at once
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as found:
        assert found.testzip() is None
        assert found.namelist() == ["big.bin", "empty", "link", "sub/", "sub/none/", "sub/" + "n" * 130 + " שלום.txt"]
        assert found.read("big.bin") == big
        assert stat.S_ISLNK(found.getinfo("link").external_attr >> 16)
        assert found.read("link") == b"sub/none"
