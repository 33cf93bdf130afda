"""A whole site over SSH, broken on purpose: noise, half replies, cut cables, few channels. Jobs run once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isthmus.domain.errors import BadReply, IsthmusError, Refused, SiteError, Unreachable
from isthmus.domain.sites import Health, Hop, Reach
from isthmus.domain.units import Seconds
from isthmus.sites import keys
from isthmus.sites.archive import archive
from isthmus.sites.backoff import Backoff
from isthmus.sites.base import Identity, Kill, Known, Submission, Submitted
from isthmus.sites.launch import Launch
from isthmus.sites.session import SiteSession
from isthmus.sites.transport.ssh import SSHTransport
from tests.system.relay import Relay
from tests.testbed.delay import DelayLink
from tests.testbed.disk import SmallDisk
from tests.testbed.network import Network
from tests.testbed.ssh import BANNER, NOISE, SshServer
from tests.testbed.users import User

LONG_S = 60.0
numbers = itertools.count(1)


def reach(server: SshServer, **changes: Any) -> Reach:
    hop = Hop(host=server.host, port=server.port, user=server.user.name, host_key=server.host_key)
    return Reach(hops=(replace(hop, **changes),), key_file=str(server.key), connect_timeout=Seconds(5))


def session_of(way: Reach, workdir: str, *, keepalive_s: float = 10.0, identity: Identity | None = None) -> SiteSession:
    """A site that is tried again soon, so that tests need not wait."""
    transport = SSHTransport(way, identity or Identity(), keepalive_s=keepalive_s)
    backoff = Backoff(first_s=0.05, longest_s=0.05)
    return SiteSession("box", transport, Launch(archive(), workdir), options={"poll": 1}, backoff=backoff)


@pytest.fixture
def workdir() -> str:
    return f"~/.isthmus/{secrets.token_hex(4)}"


@pytest.fixture
async def site(ssh_server: SshServer, workdir: str) -> AsyncIterator[SiteSession]:
    session = session_of(reach(ssh_server), workdir)
    yield session
    await session.close()


def submission(*command: str, **more: Any) -> Submission:
    key = f"{next(numbers)}.1-{secrets.token_hex(2)}"
    job = {"key": key, "job_id": 1, "attempt": 1, "command": list(command), "env": {}, "time_s": 300, "grace_s": 5}
    return Submission(key, {**job, **more})


async def end_of(site: SiteSession, key: str) -> dict[str, Any]:
    """The attempt's final report, however often the connection breaks until then."""
    offset, state, reports = 0, "", b""
    async with asyncio.timeout(LONG_S):
        while b'"finished"' not in reports:
            try:
                polled = await site.poll({key: Known(key, offset, state)}, wait_s=2)
            except (Unreachable, BadReply):
                await asyncio.sleep(0.02)
                continue
            for seen in polled.attempts.values():
                assert seen.state != "gone"
                assert not seen.reports or seen.offset == offset
                reports += seen.reports
                offset, state = offset + len(seen.reports), seen.native_state or state
    lines = [json.loads(line) for line in reports.splitlines()]
    assert [line["kind"] for line in lines].count("finished") == 1
    return lines[-1]


async def persist(call: Callable[[], Any]) -> Any:
    """What the supervisor does: again, until it works."""
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                return await call()
            except (
                SiteError
            ) as error:  # also what the site itself calls passing, as while another transfer's end is due
                if not error.transient:
                    raise
                await asyncio.sleep(0.02)


def proxies(workdir: str, program: str = "proxy") -> list[int]:
    """The process ids of the archive's programs there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            ours = program.encode() in words and any(word.endswith(workdir[2:].encode()) for word in words)
            if ours and words[0].rpartition(b"/")[2].startswith(b"python"):
                found.append(int(path.parent.name))
    return found


def home(user: User, workdir: str) -> Path:
    return Path(workdir.replace("~", str(user.home), 1))


# ---- noise


async def test_banners_and_noisy_shells_spoil_neither_replies_nor_bytes(users: list[User], workdir: str) -> None:
    with SshServer(users, banner=BANNER, noise=NOISE) as server:
        site = session_of(reach(server), workdir)
        job = submission("sh", "-c", "echo here")
        assert (await site.submit([job]))[job.key] == Submitted(job.key)
        assert (await end_of(site, job.key))["exit_code"] == 0
        assert b"here" in (await site.logs(job.key)).data
        data = random.Random("noise").randbytes(300_000)
        digest = hashlib.sha256(data).hexdigest()

        async def source(offset: int) -> AsyncIterator[bytes]:
            yield data[offset:]

        await site.put(source, f"cache/{digest}", size=len(data), digest=digest)
        assert b"".join([piece async for piece in site.get(f"cache/{digest}")]) == data
        await site.close()


# ---- replies that do not come whole


async def test_a_proxy_that_is_killed_is_replaced(site: SiteSession, workdir: str) -> None:
    job = submission("sleep", "600")
    await site.submit([job])
    waiting = asyncio.create_task(site.poll({job.key: Known(job.key, 1 << 40, "running")}, wait_s=60, query=False))
    async with asyncio.timeout(LONG_S):
        while "poll" not in site._lines._conversations or not site._lines._conversations["poll"].busy:
            await asyncio.sleep(0.01)
    assert len(proxies(workdir)) == 2
    for pid in proxies(workdir):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises((BadReply, Unreachable)):
        await waiting
    assert site.contact.health is Health.UNREACHABLE
    assert await persist(lambda: site.kill({job.key: Kill(job.key, 1)})) == {job.key: None}
    assert (await end_of(site, job.key))["reason"] == "KILLED"
    assert site.contact.health is Health.UP


async def test_a_proxy_that_is_killed_in_the_middle_of_its_reply(ssh_server: SshServer, workdir: str) -> None:
    """The link stalls with more asked for than it holds, and the proxy is killed: half a reply is no reply."""
    async with Relay(ssh_server.host, ssh_server.port) as relay:
        site = session_of(reach(ssh_server, host=relay.host, port=relay.port), workdir)
        job = submission("sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' x")
        await site.submit([job])
        await end_of(site, job.key)
        for turn in range(4):
            await persist(lambda: site.stat(["x"]))
            conversation = site._lines._conversations["files"]
            asked = [asyncio.create_task(site.logs(job.key, limit=4_000_000)) for _ in range(5)]
            async with asyncio.timeout(LONG_S):
                while len(conversation._frames._buffer) < turn * 1_000_000 + 1:
                    await asyncio.sleep(0)
            relay.hold()
            for pid in proxies(workdir):
                os.kill(pid, signal.SIGKILL)
            relay.release()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            whole = [answer for answer in answers if not isinstance(answer, BaseException)]
            assert all(answer.data == b"x" * 4_000_000 for answer in whole)
            # Of 27 MB, the window of the connection lets 8 on their way.
            assert len(whole) < 3
            assert all(isinstance(answer, BadReply | Unreachable) for answer in answers[len(whole) :])
        assert (await persist(lambda: site.logs(job.key, limit=4_000_000))).data == b"x" * 4_000_000
        await site.close()


async def test_jobs_run_once_however_often_the_connection_is_cut(
    ssh_server: SshServer, users: list[User], workdir: str
) -> None:
    """Through a relay that cuts each connection after a random number of bytes: submit, follow and fetch 30 jobs."""
    chance = random.Random("cuts")
    async with Relay(ssh_server.host, ssh_server.port) as relay:
        site = session_of(reach(ssh_server, host=relay.host, port=relay.port), workdir)
        await site.hello()
        count = home(users[0], workdir) / "count"
        cuts = 0

        async def cutting() -> None:
            nonlocal cuts
            while True:
                before = relay.came_back
                wanted = chance.randrange(100, 5_000)
                while relay.came_back - before < wanted:
                    await asyncio.sleep(0.001)
                relay.cut()
                cuts += 1

        cutter = asyncio.create_task(cutting())
        jobs = [submission("sh", "-c", f"echo {number} >> {count}; exit {number}") for number in range(30)]
        ends: list[int] = []
        for begin in range(0, 30, 3):
            part = jobs[begin : begin + 3]

            async def submit(part: list[Submission] = part) -> None:
                answers = await site.submit(part)
                assert all(isinstance(answer, Submitted) for answer in answers.values()), answers

            await persist(submit)
            for job in part:
                end = await end_of(site, job.key)
                ends.append(end["exit_code"])
        cutter.cancel()
        assert ends == list(range(30))
        assert sorted(count.read_text().split(), key=int) == [str(number) for number in range(30)]
        assert cuts > 10
        await site.close()


async def test_a_link_that_stalls_is_noticed_and_given_up(ssh_server: SshServer, workdir: str) -> None:
    async with Relay(ssh_server.host, ssh_server.port) as relay:
        site = session_of(reach(ssh_server, host=relay.host, port=relay.port), workdir, keepalive_s=0.2)
        await site.hello()
        relay.hold()
        with pytest.raises(Unreachable, match="keepalive"):
            async with asyncio.timeout(LONG_S):
                await site.stat(["x"])
        relay.release()
        assert await persist(lambda: site.stat(["x"])) == {"x": None}
        await site.close()


# ---- cables


async def test_what_runs_goes_on_while_the_cable_is_out(users: list[User], workdir: str) -> None:
    with Network(hosts=1) as network, SshServer(users, host=network.hosts[0]) as server:
        way = replace(reach(server), connect_timeout=Seconds(1))
        site = session_of(way, workdir, keepalive_s=0.2)
        job = submission("sh", "-c", "until [ -e go ]; do sleep 0.02; done; echo went on; exit 6")
        await site.submit([job])
        watching = asyncio.create_task(end_of(site, job.key))
        folder = home(users[0], workdir) / "jobs" / job.key
        async with asyncio.timeout(LONG_S):
            while not (folder / "reports").exists():
                await asyncio.sleep(0.01)
        network.cut(network.hosts[0])
        async with asyncio.timeout(LONG_S):
            while site.contact.health is not Health.UNREACHABLE or site.contact.failures < 2:
                await asyncio.sleep(0.01)
        contact = site.contact
        assert contact.since is not None
        assert server.host in contact.reason, contact
        (folder / "work" / "go").touch()
        async with asyncio.timeout(LONG_S):
            while b'"finished"' not in (folder / "reports").read_bytes():
                await asyncio.sleep(0.01)
        assert not watching.done()
        network.mend(network.hosts[0])
        assert (await watching)["exit_code"] == 6
        assert site.contact.health is Health.UP and site.contact.reason == ""
        await site.close()


async def test_bytes_that_were_cut_off_come_after_the_cable_is_mended(users: list[User], workdir: str) -> None:
    with Network(hosts=1) as network, SshServer(users, host=network.hosts[0]) as server:
        site = session_of(replace(reach(server), connect_timeout=Seconds(1)), workdir, keepalive_s=0.2)
        data = random.Random("cable").randbytes(20_000_000)
        digest = hashlib.sha256(data).hexdigest()
        begun: list[int] = []

        async def source(offset: int) -> AsyncIterator[bytes]:
            begun.append(offset)
            for at in range(offset, len(data), 500_000):
                if len(begun) == 1 and at >= 10_000_000:
                    network.cut(network.hosts[0])
                yield data[at : at + 500_000]

        await site.hello()
        with pytest.raises(Unreachable):
            await site.put(source, f"cache/{digest}", size=len(data), digest=digest)
        network.mend(network.hosts[0])
        await persist(lambda: site.put(source, f"cache/{digest}", size=len(data), digest=digest))
        assert begun[0] == 0 and begun[-1] > 1_000_000
        got = b"".join([piece async for piece in site.get(f"cache/{digest}")])
        assert got == data
        await site.close()


# ---- who is on the other side


async def test_a_host_key_that_changes_stops_a_site_that_was_up(users: list[User], workdir: str) -> None:
    with SshServer(users) as server:
        site = session_of(reach(server), workdir)
        await site.hello()
        old = keys.fingerprint(server.host_key)
        server.new_host_key()
        with pytest.raises(IsthmusError):
            async with asyncio.timeout(LONG_S):
                while True:
                    await site.hello(now=True)
        with pytest.raises(Unreachable) as caught:
            await site.hello(now=True)
        assert caught.value.code == "host-key-changed"
        assert old in site.contact.reason and keys.fingerprint(server.host_key) in site.contact.reason
        await site.close()


async def test_a_key_that_is_not_authorised_is_said_until_it_is(users: list[User], workdir: str) -> None:
    with SshServer(users) as server:
        pair = keys.generate()
        identity = Identity(user=users[0].name, private_key=pair.private)
        site = session_of(replace(reach(server), key_file=""), workdir, identity=identity)
        with pytest.raises(Unreachable) as caught:
            await site.hello()
        assert caught.value.code == "key-not-authorised"
        assert pair.public in caught.value.hint
        server.authorized_keys(users[0]).write_text(pair.public + "\n")
        assert (await site.hello(now=True)).user == users[0].name
        await site.close()


# ---- few channels


@pytest.mark.parametrize("max_sessions", [1, 2])
async def test_a_server_that_bears_few_channels(users: list[User], workdir: str, max_sessions: int) -> None:
    """Waiting polls, submissions and transfers share what there is, and all of them come to their end."""
    with SshServer(users, max_sessions=max_sessions) as server:
        site = session_of(reach(server), workdir)
        data = random.Random("few").randbytes(200_000)

        async def source(offset: int) -> AsyncIterator[bytes]:
            yield data[offset:]

        async def put_and_get(name: str) -> bytes:
            digest = hashlib.sha256(data).hexdigest()
            await site.put(source, f"cache/{name}", size=len(data), digest=digest)
            return b"".join([piece async for piece in site.get(f"cache/{name}")])

        async def run(number: int) -> int:
            job = submission("sh", "-c", f"exit {number}")
            assert (await site.submit([job]))[job.key] == Submitted(job.key)
            return int((await end_of(site, job.key))["exit_code"])

        async with asyncio.timeout(LONG_S):
            results = await asyncio.gather(
                *(run(number) for number in range(4)), *(put_and_get(f"name{n}") for n in range(3))
            )
        assert results == [0, 1, 2, 3, data, data, data]
        assert site.contact.health is Health.UP
        await site.close()


# ---- the work folder


async def test_an_archive_that_somebody_removed_is_sent_again(
    site: SiteSession, users: list[User], workdir: str
) -> None:
    await site.hello()
    for path in (home(users[0], workdir) / "bin").glob("*.pyz"):
        path.unlink()
    await site.close()
    job = submission("true")
    await site.submit([job])
    assert (await end_of(site, job.key))["exit_code"] == 0


async def test_a_full_disk_at_first_contact_is_said(ssh_server: SshServer) -> None:
    with SmallDisk() as disk:
        disk.fill()
        site = session_of(reach(ssh_server), f"{disk.path}/w")
        with pytest.raises(Refused) as caught:
            await site.hello()
        assert caught.value.code == "disk-full"
        disk.make_room()
        assert (await site.hello(now=True)).workdir == f"{disk.path}/w"
        await site.close()


async def test_idle_sites_leave_nothing_running_there(ssh_server: SshServer, workdir: str) -> None:
    transport = SSHTransport(reach(ssh_server), Identity())
    site = SiteSession("box", transport, Launch(archive(), workdir), idle_s=0.3)
    await site.hello()
    assert len(proxies(workdir)) == 1
    async with asyncio.timeout(LONG_S):
        while proxies(workdir) or transport._link is not None:
            await asyncio.sleep(0.01)
    assert (await site.hello()).user == ssh_server.user.name
    await site.close()


# ---- distance


async def test_a_request_is_one_round_trip_and_news_come_by_themselves(users: list[User], workdir: str) -> None:
    """Over a link with a round trip of 100 ms: what is measured is counted in round trips."""
    round_trip_s = 0.1
    with (
        Network(hosts=1) as network,
        SshServer(users, host=network.hosts[0]) as server,
        DelayLink(network.hosts[0], round_trip_s * 1000 / 2) as link,
    ):
        site = session_of(reach(server, host=link.address), workdir)
        loop = asyncio.get_running_loop()
        await site.hello()
        requests = []
        for _ in range(5):
            begin = loop.time()
            await site.submit([submission("true")])
            requests.append((loop.time() - begin) / round_trip_s)
        assert min(requests) < 1.5, requests
        job = submission("sh", "-c", "until [ -e go ]; do sleep 0.01; done")
        await site.submit([job])
        work = home(users[0], workdir) / "jobs" / job.key / "work"
        offset = 0
        async with asyncio.timeout(LONG_S):
            while not offset:
                seen = (await site.poll({job.key: Known(job.key, 0, "")}, wait_s=5)).attempts.get(job.key)
                offset = len(seen.reports) if seen else 0
        waiting = asyncio.create_task(site.poll({job.key: Known(job.key, offset, "running")}, wait_s=30, query=False))
        await asyncio.wait([waiting], timeout=3 * round_trip_s)
        assert not waiting.done()
        begin = loop.time()
        (work / "go").touch()
        seen = (await waiting).attempts[job.key]
        assert b'"finished"' in seen.reports
        assert (loop.time() - begin) / round_trip_s < 1.5
        await site.close()
