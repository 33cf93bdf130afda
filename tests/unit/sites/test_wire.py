"""Frames among noise, and JSON in steps."""

import asyncio
import itertools
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.domain.errors import BadReply
from isthmus.sites import wire

TOKEN = "0123456789abcdef" * 2
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=50,
)


def framed(body: bytes) -> bytes:
    return TOKEN.encode() + body + TOKEN.encode()


def frames_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    frames, found = wire.Frames(TOKEN), []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(edges):
        found += frames.feed(stream[begin:end])
    last = frames.last()
    return found if last is None else [*found, last]


@settings(deadline=None)
@given(cuts=st.lists(st.integers(min_value=0), max_size=20))
def test_frames_are_found_however_the_bytes_come_in_pieces(cuts: list[int]) -> None:
    stream = (
        b"Welcome!\n\xff\xfe\x00 no text\n" + framed(b'{"id":1}') + b"\nmodule loaded"
        b" without an end of line " + framed(b'{"id":2}') + b" trailing\r\n\n" + framed(b"") + b"\n" + framed(b"3")
    )
    assert frames_of(stream, cuts) == [b'{"id":1}', b'{"id":2}', b"", b"3"]


def test_a_token_that_stands_alone_is_noise() -> None:
    echoed = f"+ python3 isthmus.pyz proxy --token {TOKEN} --workdir w\n".encode()
    assert frames_of(echoed + framed(b"1") + b"\n", []) == [b"1"]


def test_a_frame_that_is_cut_is_never_taken_for_a_whole_one() -> None:
    whole = framed(b'{"id": 1, "ok": {"results": {}}}')
    for cut in range(len(TOKEN), len(whole) - 1):
        frames = wire.Frames(TOKEN)
        assert frames.feed(b"noise\n" + whole[:cut]) == []
        with pytest.raises(BadReply, match="cut"):
            frames.last()


def test_noise_without_end_is_not_kept() -> None:
    frames = wire.Frames(TOKEN)
    for _ in range(100):
        assert frames.feed(b"x" * 100_000) == []
    assert len(frames._buffer) < len(TOKEN)
    assert frames.feed(framed(b"1") + b"\n") == [b"1"]


def test_a_header_and_the_raw_bytes_that_follow_it() -> None:
    raw = b"\n" + framed(b"not this") + b"\n\x00\xff"
    stream = b"noise\n" + framed(b"{}") + b"\n" + raw
    for cut in range(len(stream)):
        frames, rest = wire.Frames(TOKEN), bytearray()
        header = None
        for data in (stream[:cut], stream[cut:]):
            if header is not None:
                rest += data
                continue
            first = frames.first(data)
            if first is not None:
                header = first[0]
                rest += first[1]
        assert (header, bytes(rest)) == (b"{}", raw)


@settings(deadline=None)
@given(JSON)
async def test_walking_reads_what_json_reads(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False)):
        assert await wire._Walk(text).whole() == value


@settings(max_examples=30, deadline=None)
@given(JSON, st.lists(JSON, max_size=3), st.sampled_from([0, 1, wire.STEP, wire.STEP + 1, 3 * wire.STEP]))
async def test_encoding_in_pieces_is_one_line_of_json(value: object, few: list[object], count: int) -> None:
    request = {"id": 1, "many": {f"{number}": value for number in range(count)}, "items": few * count, "value": value}
    line = await wire.encode(request)
    assert line.count(b"\n") == 1
    assert json.loads(line) == request


@pytest.mark.parametrize("count", [0, 1, wire.STEP, 3 * wire.STEP + 1])
async def test_entries_are_made_while_they_are_written(count: int) -> None:
    line = await wire.encode(
        {"id": 1, "each": wire.Each({str(n): n for n in range(count)}, lambda n: {"twice": 2 * n})}
    )
    assert json.loads(line) == {"id": 1, "each": {str(n): {"twice": 2 * n} for n in range(count)}}


def large() -> dict[str, object]:
    seen = {
        "native_state": "RUNNING",
        "state": "running",
        "nodes": ["n1"],
        "from": 0,
        "reports": json.dumps({"kind": "usage", "text": 'ä"\\'}) * 4,
    }
    return {"id": 7, "ok": {"attempts": {f"{number}.1-abcd": seen for number in range(10_000)}, "queried": True}}


@pytest.mark.parametrize("fault", ["cut", "extra", "changed"])
async def test_large_garbage_is_a_bad_reply(fault: str) -> None:
    chance = random.Random(fault)
    text = json.dumps(large())
    for _ in range(10):
        at = chance.randrange(len(text))
        broken = {"cut": text[:at], "extra": text + "}", "changed": text[:at] + "\0" + text[at + 1 :]}[fault]
        with pytest.raises(BadReply):
            await wire.decode(broken.encode())


async def test_ten_thousand_entries_leave_the_event_loop_free() -> None:
    """The longest hold is to be far from what one piece would take: compared, since machines differ."""
    value = large()
    body = json.dumps(value).encode()
    begin = time.perf_counter()
    assert json.loads(body) == value
    at_once = time.perf_counter() - begin
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    holds = []
    for _ in range(5):  # the best of some: the machine may be busy with others
        longest = 0.0
        await wire.decode(body)
        await wire.encode({"id": 1, "attempts": value["ok"]["attempts"]})  # type: ignore[index]
        holds.append(longest)
    watching.cancel()
    assert min(holds) < max(at_once / 2, 4 * wire.SLICE_S)
