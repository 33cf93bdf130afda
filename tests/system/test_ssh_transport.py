"""The SSH transport against real sshds: keys, jump hosts, channels, and connections that break."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.domain.errors import Unreachable
from isthmus.domain.sites import Hop, Reach
from isthmus.domain.units import Seconds
from isthmus.sites import keys
from isthmus.sites.base import Identity
from isthmus.sites.transport.base import Channel, ChannelsFull
from isthmus.sites.transport.hops import host_keys
from isthmus.sites.transport.ssh import SSHTransport
from tests.system.relay import Relay
from tests.testbed import scratch
from tests.testbed.network import Network
from tests.testbed.ssh import BANNER, NOISE, SshServer
from tests.testbed.users import User


def hop(server: SshServer, *, pinned: bool = True) -> Hop:
    key = server.host_key if pinned else ""
    return Hop(host=server.host, port=server.port, user=server.user.name, host_key=key)


def reach(*servers: SshServer, pinned: bool = True) -> Reach:
    return Reach(
        hops=tuple(hop(server, pinned=pinned) for server in servers),
        key_file=str(servers[-1].key),
        connect_timeout=Seconds(10),
    )


@pytest.fixture
async def transport(ssh_server: SshServer) -> AsyncIterator[SSHTransport]:
    ssh = SSHTransport(reach(ssh_server), Identity())
    yield ssh
    await ssh.close()


async def whole(channel: Channel) -> bytes:
    parts = []
    while data := await channel.read():
        parts.append(data)
    return b"".join(parts)


async def output(transport: SSHTransport, *argv: str) -> str:
    channel = await transport.open(argv)
    try:
        return (await whole(channel)).decode().strip()
    finally:
        await channel.close()


async def failure(way: Reach, identity: Identity | None = None) -> Unreachable:
    transport = SSHTransport(way, identity or Identity())
    with pytest.raises(Unreachable) as caught:
        await transport.open(["true"])
    await transport.close()
    return caught.value


async def until(condition, timeout_s: float = 20) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def connections(server: SshServer) -> int:
    """How many clients are connected, as the kernel sees it."""
    table = subprocess.run(
        ["ss", "-Htn", "state", "established", f"( sport = :{server.port} )"],
        capture_output=True,
        text=True,
        check=True,
    )
    return len(table.stdout.splitlines())


# ---- programs and bytes


async def test_bytes_status_stderr_and_environment(transport: SSHTransport) -> None:
    channel = await transport.open(["sh", "-c", 'cat; echo "$X|$1|" >&2; exit 3', "-", "a 'b' $HOME;*"], env={"X": "é"})
    await channel.write(b"\x00\xff\r\n\x03\x04")
    await channel.write_eof()
    assert await whole(channel) == b"\x00\xff\r\n\x03\x04"
    assert await channel.wait() == 3
    assert channel.stderr == "é|a 'b' $HOME;*|"
    await channel.close()


async def test_a_signal_is_a_negative_status(transport: SSHTransport) -> None:
    channel = await transport.open(["sh", "-c", "kill -9 $$"])
    assert await channel.wait() in (-9, 137)  # the user's shell may have replaced itself by the command, or not
    await channel.close()


async def test_megabytes_pass_whole_both_ways(transport: SSHTransport) -> None:
    sent = os.urandom(1 << 20) * 16
    channel = await transport.open(["cat"])

    async def feed() -> None:
        await channel.write(sent)
        await channel.write_eof()

    feeding = asyncio.create_task(feed())
    assert await whole(channel) == sent
    await feeding
    assert await channel.wait() == 0
    await channel.close()


async def test_writing_waits_for_a_reader_that_is_slow(transport: SSHTransport) -> None:
    go = scratch.folder("writing") / "go"  # where the user who logs in sees it
    channel = await transport.open(["sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done; cat > /dev/null"])
    writing = asyncio.create_task(channel.write(b"x" * 20_000_000))
    done, _ = await asyncio.wait([writing], timeout=0.3)
    assert not done
    go.touch()
    await writing
    await channel.write_eof()
    assert await channel.wait() == 0
    await channel.close()


async def test_closing_kills_the_program(transport: SSHTransport) -> None:
    channel = await transport.open(["sh", "-c", "echo $$; exec sleep 1000"])
    pid = int(await channel.read())
    await channel.close()
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_programs_share_one_connection(ssh_server: SshServer) -> None:
    before = connections(ssh_server)
    transport = SSHTransport(reach(ssh_server), Identity())
    names = await asyncio.gather(*(output(transport, "echo", str(number)) for number in range(6)))
    assert names == [str(number) for number in range(6)]
    assert connections(ssh_server) == before + 1
    await transport.close()
    await until(lambda: connections(ssh_server) == before)
    assert await output(transport, "echo", "again") == "again"
    await transport.close()


async def test_channels_are_few_and_come_back(transport: SSHTransport) -> None:
    open_ones = [await transport.open(["sleep", "1000"]) for _ in range(6)]
    with pytest.raises(ChannelsFull) as full:
        await transport.open(["true"])
    freed = asyncio.create_task(full.value.freed())
    done, _ = await asyncio.wait([freed], timeout=0.05)
    assert not done
    await open_ones.pop().close()
    await freed
    assert await output(transport, "echo", "free") == "free"
    for channel in open_ones:
        await channel.close()


async def test_a_start_that_is_cancelled_leaves_nothing(transport: SSHTransport, tmp_path: Path) -> None:
    await output(transport, "true")
    tmp_path.chmod(0o777)
    tmp_path.parent.chmod(0o755)
    for turns in range(0, 40, 4):
        opening = asyncio.create_task(transport.open(["sleep", f"1000.{turns:03d}"]))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).close()
    link = transport._link
    assert link is not None
    await until(lambda: link.slots.used == 0)
    await until(lambda: not running("sleep 1000.0"))


def running(text: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text in path.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                return True
        except OSError:
            continue
    return False


# ---- the server's bound on channels


async def test_a_server_that_bears_two_channels(users: list[User]) -> None:
    with SshServer(users, max_sessions=2) as server:
        transport = SSHTransport(reach(server), Identity())
        first, second = await transport.open(["sleep", "1000"]), await transport.open(["sleep", "1000"])
        with pytest.raises(ChannelsFull) as full:
            await transport.open(["true"])
        assert full.value.limit == 2
        await first.close()
        await full.value.freed()
        assert await output(transport, "echo", "here") == "here"
        await second.close()
        await transport.close()


# ---- keys and host keys


async def test_an_unknown_host_key_is_shown_and_then_pinned(ssh_server: SshServer) -> None:
    unknown = reach(ssh_server, pinned=False)
    error = await failure(unknown)
    assert error.code == "host-key-unknown"
    (shown,) = await host_keys(unknown, Identity())
    assert shown.key == ssh_server.host_key
    assert shown.fingerprint in error.message
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=ssh_server.host_key, capture_output=True, text=True, check=True
    ).stdout
    assert shown.fingerprint in printed
    pinned = SSHTransport(unknown, Identity(host_keys={shown.place: shown.key}))
    assert await output(pinned, "echo", "in") == "in"
    await pinned.close()


async def test_a_changed_host_key_stops_everything_and_names_both(users: list[User]) -> None:
    with SshServer(users) as server:
        way = reach(server)
        old = keys.fingerprint(server.host_key)
        server.new_host_key()
        new = keys.fingerprint(server.host_key)
        error = await failure(way)
        assert error.code == "host-key-changed"
        assert old in error.message and new in error.message and new in error.hint
        with pytest.raises(Unreachable, match="has changed"):
            await host_keys(way, Identity())


async def test_a_server_with_several_keys_shows_the_one_that_is_pinned(users: list[User]) -> None:
    with SshServer(users) as server:
        other = server._folder / "host_rsa"
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(other)], check=True)
        with (server._folder / "sshd_config").open("a") as config:
            config.write(f"HostKey {other}\n")
        server.restart()
        rsa = " ".join(other.with_suffix(".pub").read_text().split()[:2])
        for key in (server.host_key, rsa):
            way = reach(server)
            transport = SSHTransport(replace(way, hops=(replace(way.hops[0], host_key=key),)), Identity())
            assert await output(transport, "echo", "in") == "in"
            await transport.close()


async def test_a_pair_made_here_is_shown_until_it_is_authorised(users: list[User]) -> None:
    with SshServer(users) as server:
        pair = keys.generate()
        way = replace(reach(server), key_file="")
        identity = Identity(user=users[1].name, private_key=pair.private)
        error = await failure(way, identity)
        assert error.code == "key-not-authorised"
        assert keys.normal(pair.public) in error.hint
        assert repr(users[1].name) in error.message
        with server.authorized_keys(users[1]).open("a") as file:
            file.write(pair.public + "\n")
        transport = SSHTransport(way, identity)
        assert await output(transport, "id", "-un") == users[1].name
        await transport.close()


async def test_keys_that_can_not_be_used(
    ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = reach(ssh_server)
    locked, noise = tmp_path / "locked", tmp_path / "noise"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    noise.write_text("no key")
    for file, text in ((locked, "passphrase"), (noise, "can't be used"), (tmp_path / "none", "No such file")):
        error = await failure(replace(way, key_file=str(file)))
        assert (error.code, text in str(error)) == ("no-key", True), error
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "SSH_AUTH_SOCK" in str(await failure(replace(way, key_file="", agent=True)))
    assert (await failure(replace(way, key_file=""))).code == "no-key"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    where = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", where], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not Path(where).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield where
    process.terminate()
    process.wait()


async def test_the_keys_of_an_agent(ssh_server: SshServer, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    way = replace(reach(ssh_server), key_file="", agent=True)
    assert (await failure(way)).code == "key-not-authorised"
    subprocess.run(["ssh-add", "-q", str(ssh_server.key)], check=True, capture_output=True)
    transport = SSHTransport(way, Identity())
    assert await output(transport, "echo", "in") == "in"
    await transport.close()


async def test_banners_and_noisy_shells_do_not_disturb(users: list[User]) -> None:
    with SshServer(users, banner=BANNER, noise=NOISE) as server:
        transport = SSHTransport(reach(server), Identity())
        assert (await output(transport, "echo", "here")).endswith("here")
        await transport.close()


# ---- machines that are not there


async def test_what_is_wrong_with_the_address_is_said(ssh_server: SshServer) -> None:
    way = reach(ssh_server)

    def at(**changes: object) -> Reach:
        return replace(way, hops=(replace(way.hops[0], **changes),))

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        error = await failure(at(port=closed.getsockname()[1]))
    assert (error.code, "refuses connections" in error.message) == ("refused", True)
    assert (await failure(at(host="no-such-host.invalid"))).code == "name-unknown"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = await failure(replace(at(port=silent.getsockname()[1]), connect_timeout=Seconds(1)))
    assert (error.code, "within 1 s" in error.message) == ("timeout", True)


async def test_many_wait_for_one_connection_and_one_who_leaves_does_not_break_it(ssh_server: SshServer) -> None:
    transport = SSHTransport(reach(ssh_server), Identity())
    asked = [asyncio.create_task(output(transport, "echo", str(number))) for number in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == ["1", "2", "3", "4"]
    await transport.close()


# ---- jump hosts


@pytest.fixture(scope="module")
def inner_network(users: list[User]) -> Iterator[Network]:
    with Network(hosts=2, gate=True) as network:
        yield network


@pytest.fixture(scope="module")
def jump(inner_network: Network, users: list[User]) -> Iterator[SshServer]:
    with SshServer(users, host=inner_network.gate) as server:
        yield server


@pytest.fixture(scope="module")
def inner(inner_network: Network, jump: SshServer, users: list[User]) -> Iterator[SshServer]:
    with SshServer(users, host=inner_network.hosts[0]) as server:
        # One key opens both: that of the inner one.
        for user in users:
            with jump.authorized_keys(user).open("a") as file:
                file.write(server.key.with_suffix(".pub").read_text())
        yield server


@pytest.fixture(scope="module")
def innermost(inner_network: Network, inner: SshServer, users: list[User]) -> Iterator[SshServer]:
    with SshServer(users, host=inner_network.hosts[1]) as server:
        for user in users:
            server.authorized_keys(user).write_text(inner.key.with_suffix(".pub").read_text())
        yield server


async def test_through_one_jump_host_and_two(
    jump: SshServer, inner: SshServer, innermost: SshServer, inner_network: Network
) -> None:
    assert (await failure(replace(reach(inner), connect_timeout=Seconds(1)))).code in ("connect-failed", "timeout")
    for servers in ((jump, inner), (jump, inner, innermost)):
        transport = SSHTransport(replace(reach(*servers), key_file=str(inner.key)), Identity())
        addresses = await output(transport, "sh", "-c", "/sbin/ip -br addr")
        assert f"{servers[-1].host}/" in addresses and f"{jump.host}/" not in addresses
        assert await output(transport, "sh", "-c", "echo $SSH_CONNECTION | cut -d' ' -f3") == servers[-1].host
        await transport.close()


async def test_host_keys_of_all_hops_are_shown_at_first_contact(jump: SshServer, inner: SshServer) -> None:
    way = reach(jump, inner, pinned=False)
    assert "jump host" in (await failure(way)).message
    shown = await host_keys(way, Identity())
    assert [key.key for key in shown] == [jump.host_key, inner.host_key]
    transport = SSHTransport(way, Identity(host_keys={key.place: key.key for key in shown}))
    assert await output(transport, "echo", "in") == "in"
    await transport.close()


async def test_faults_name_the_hop(jump: SshServer, inner: SshServer) -> None:
    way = reach(jump, inner)
    stranger = replace(way, hops=(replace(way.hops[0], user="nobody-here"), way.hops[1]))
    error = await failure(stranger)
    assert (error.code, error.message.startswith(f"the jump host {jump.host}:{jump.port}")) == (
        "key-not-authorised",
        True,
    )
    nowhere = replace(way, hops=(way.hops[0], replace(way.hops[1], port=1)))
    error = await failure(nowhere)
    assert (error.code, f"{inner.host}:1" in error.message) == ("tunnel-refused", True)
    wrong = replace(way, hops=(way.hops[0], replace(way.hops[1], host_key=jump.host_key)))
    error = await failure(wrong)
    assert (error.code, f"{inner.host}:{inner.port}" in error.message) == ("host-key-changed", True)


# ---- connections that break


async def test_a_dropped_connection_fails_its_programs_and_the_next_one_connects_anew(users: list[User]) -> None:
    with SshServer(users) as server:
        transport = SSHTransport(reach(server), Identity())
        channel = await transport.open(["cat"])
        await channel.write(b"x")
        assert await channel.read() == b"x"
        server.drop_connections()
        with pytest.raises(Unreachable, match=r"connection to .* was lost"):
            await channel.read()
        assert await channel.wait() is None
        with pytest.raises(Unreachable):
            await channel.write(b"x")
        await channel.close()
        assert await output(transport, "echo", "again") == "again"
        await transport.close()


async def test_a_cable_that_is_pulled_is_noticed_and_a_mended_one_is_used(users: list[User]) -> None:
    with Network(hosts=1) as network, SshServer(users, host=network.hosts[0]) as server:
        way = replace(reach(server), connect_timeout=Seconds(1))
        transport = SSHTransport(way, Identity(), keepalive_s=0.2)
        channel = await transport.open(["cat"])
        network.cut(network.hosts[0])
        with pytest.raises(Unreachable, match="keepalive") as caught:
            async with asyncio.timeout(20):
                await channel.read()
        assert caught.value.code == "connection-lost"
        await channel.close()
        with pytest.raises(Unreachable) as caught:
            await transport.open(["true"])
        assert caught.value.code in ("timeout", "connect-failed")
        network.mend(network.hosts[0])
        assert await output(transport, "echo", "again") == "again"
        await transport.close()


async def test_keepalives_do_not_end_a_connection_that_is_only_quiet(ssh_server: SshServer) -> None:
    transport = SSHTransport(reach(ssh_server), Identity(), keepalive_s=0.02)
    channel = await transport.open(["sh", "-c", "sleep 1; echo done"])
    assert await channel.read() == b"done\n"
    await channel.close()
    await transport.close()


async def test_a_relay_that_cuts_anywhere(ssh_server: SshServer) -> None:
    """However far it came: an error in time or the whole answer, and the next try works."""
    way = reach(ssh_server)
    async with Relay(ssh_server.host, ssh_server.port) as relay:
        through = replace(way, hops=(replace(way.hops[0], host=relay.host, port=relay.port),))

        async def answer() -> str:
            transport = SSHTransport(through, Identity())
            try:
                return await output(transport, "sh", "-c", "head -c 3000 /dev/zero | tr '\\0' x")
            finally:
                await transport.close()

        assert await answer() == "x" * 3000
        total, failed = relay.came_back, 0
        for after in range(0, total, total // 20):
            relay.cut_after = after
            try:
                assert await answer() == "x" * 3000
            except Unreachable as error:
                failed += 1
                assert re.search(r"can't be reached|was lost|did not answer", error.message), (after, error)
        assert failed > 15
        relay.cut_after = None
        assert await answer() == "x" * 3000


async def test_closing_while_it_connects(ssh_server: SshServer) -> None:
    before = connections(ssh_server)
    for turns in range(0, 100, 10):
        transport = SSHTransport(reach(ssh_server), Identity())
        opening = asyncio.create_task(transport.open(["sleep", "1000"]))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        await transport.close()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
        await transport.close()
    await until(lambda: connections(ssh_server) == before)
