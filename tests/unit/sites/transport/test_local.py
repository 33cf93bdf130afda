"""Programs on this machine: bytes, back-pressure, exit statuses, and nothing left behind."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.domain.errors import Unreachable
from isthmus.sites.transport import base
from isthmus.sites.transport.base import Transport
from isthmus.sites.transport.local import LocalTransport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    local = LocalTransport()
    yield local
    await local.close()


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def whole(channel) -> bytes:  # type: ignore[no-untyped-def]
    parts = []
    while data := await channel.read():
        parts.append(data)
    return b"".join(parts)


async def test_stdin_stdout_stderr_status_and_environment(transport: Transport) -> None:
    channel = await transport.open(["sh", "-c", 'cat; echo "$X $0 $1" >&2; exit 3', "a b", "c'd"], env={"X": "é"})
    await channel.write(b"one ")
    await channel.write(b"\x00\xfftwo")
    await channel.write_eof()
    assert await whole(channel) == b"one \x00\xfftwo"
    assert await channel.wait() == 3
    assert channel.stderr == "é a b c'd"
    await channel.close()


async def test_a_signal_is_a_negative_status(transport: Transport) -> None:
    channel = await transport.open(["sh", "-c", "kill -9 $$"])
    assert await channel.wait() == -9
    await channel.close()


async def test_the_end_of_stderr_is_kept(transport: Transport) -> None:
    channel = await transport.open(["sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done"])
    await channel.wait()
    assert channel.stderr.endswith("line 4999")
    assert len(channel.stderr) <= 4096
    await channel.close()


async def test_writing_waits_for_a_reader_that_is_slow(transport: Transport, tmp_path: Path) -> None:
    go = tmp_path / "go"
    channel = await transport.open(["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done; cat > /dev/null"])
    writing = asyncio.create_task(channel.write(b"x" * 10_000_000))
    done, _ = await asyncio.wait([writing], timeout=0.05)
    assert not done
    go.touch()
    await writing
    await channel.write_eof()
    assert await channel.wait() == 0
    await channel.close()


async def test_megabytes_pass_whole(transport: Transport) -> None:
    sent = os.urandom(1 << 20) * 8
    channel = await transport.open(["cat"])

    async def feed() -> None:
        await channel.write(sent)
        await channel.write_eof()

    feeding = asyncio.create_task(feed())
    assert await whole(channel) == sent
    await feeding
    await channel.close()


async def test_writing_to_a_program_that_ended(transport: Transport) -> None:
    channel = await transport.open(["true"])
    await channel.wait()
    with pytest.raises(Unreachable, match="ended"):
        for _ in range(3):
            await channel.write(b"x" * 1_000_000)
    await channel.close()


async def test_a_program_that_is_not_there(transport: Transport) -> None:
    with pytest.raises(Unreachable, match=r"isthmus-none could not be started.*No such file"):
        await transport.open(["isthmus-none"])


@pytest.mark.parametrize("how", ["channel", "transport"])
async def test_closing_kills_the_program_and_its_children(transport: Transport, how: str) -> None:
    channel = await transport.open(["sh", "-c", "sleep 1000 & echo $$ $!; wait"])
    pids = [int(word) for word in (await channel.read()).split()]
    await (channel if how == "channel" else transport).close()
    await until(lambda: all(gone(pid) for pid in pids))
    await channel.close()


async def test_a_child_that_holds_the_pipes_open_holds_nobody_up(transport: Transport) -> None:
    channel = await transport.open(["sh", "-c", "setsid sleep 1000 & echo $!; exit 5"])
    pid = int(await channel.read())
    begin = time.monotonic()
    assert await channel.wait() == 5
    await channel.close()
    assert time.monotonic() - begin < 5
    assert not gone(pid)
    os.kill(pid, 9)


async def test_a_start_that_is_cancelled_leaves_nothing_running(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    started = 0
    for turns in range(12):
        file.unlink(missing_ok=True)
        opening = asyncio.create_task(
            transport.open(["sh", "-c", f"echo $$ > {file}.new; mv {file}.new {file}; sleep 1000"])
        )
        for _ in range(turns):
            await asyncio.sleep(0.001)
        opening.cancel()
        try:
            channel = await opening
        except asyncio.CancelledError:
            pass
        else:
            started += 1
            await channel.close()
        await until(lambda: not base._running)
        if file.exists():
            assert gone(int(file.read_text()))
    assert started < 12
