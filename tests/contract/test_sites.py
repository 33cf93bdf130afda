"""One suite for every kind of site: what the control plane relies on, whatever stands behind it.

`local` needs no server and no root; the others run against the real ones of the test bed, as a normal user.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import secrets
import signal
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from isthmus.domain.errors import BadReply, Invalid, IsthmusError, NotFound, Refused, Unreachable
from isthmus.domain.jobs import JobSpec, Resources
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Hop, Inventory, Reach, SiteSpec
from isthmus.domain.units import Bytes, Seconds
from isthmus.sites import open_site
from isthmus.sites.base import Kill, Known, Seen, Site, Submission, Submitted
from isthmus.sites.kinds import Where, find_kind
from tests.testbed.gridengine import GridEngineCell
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer
from tests.testbed.users import User

system = pytest.mark.system
LONG_S = 120.0  # no wait here takes that long unless something is broken


@dataclass
class World:
    """A site to test, and what a test must know of where it lies."""

    spec: SiteSpec
    site: Site
    workdir: Path  # as seen from here: every site of the test bed is on this machine
    inventory: Inventory = field(default_factory=Inventory)
    number: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def submission(self, *command: str, script: str = "", **more: Any) -> Submission:
        """An attempt of a job, as the control plane would make it. `more` goes into its job.json."""
        kind = find_kind(self.spec.kind)
        number = next(self.number)
        key = f"{number}.1-{secrets.token_hex(2)}"
        time_s, grace_s = more.pop("time_s", 300), more.pop("grace_s", 5)
        job = JobSpec(
            command=command,
            script=script,
            resources=Resources(mem=Bytes(64 << 20), time=Seconds(time_s)),
            grace=Seconds(grace_s),
        )
        queue = next((queue.name for queue in self.inventory.queues if queue.default), "")
        batch, argv = kind.render(self.spec, self.inventory, job, Where(key=key, queue=queue))
        described = {
            "key": key, "job_id": number, "attempt": 1, "command": list(command), "script": script or None, "env": {},
            "container": None, "inputs": [], "outputs": [], "stdout": "", "stderr": "", "checkpoint": "",
            "time_s": time_s, "mem_bytes": 0, "grace_s": grace_s, "heartbeat_s": 10, "nodes": 1, "tasks_per_node": 1,
            "launcher": "auto", "cpus": 1, "gpus": 0, "api": None,
        }  # fmt: skip
        return Submission(key, {**described, **more}, {"": "the attempt's token"}, batch, argv)

    async def submit(self, *command: str, **more: Any) -> tuple[str, str]:
        """Hand one attempt over: its key and native id."""
        submission = self.submission(*command, **more)
        answer = (await self.site.submit([submission]))[submission.key]
        assert isinstance(answer, Submitted), answer
        assert answer.native_id
        return submission.key, answer.native_id

    async def follow(self, attempts: dict[str, str], until: Callable[[str, Follow], bool]) -> dict[str, Follow]:
        """Poll as the supervisor does until `until` holds for each attempt."""
        known = {key: Known(native_id) for key, native_id in attempts.items()}
        seen = {key: Follow() for key in attempts}
        async with asyncio.timeout(LONG_S):
            while any(not until(key, seen[key]) for key in attempts):
                polled = await self.site.poll(known, wait_s=5)
                assert polled.query_error == ""
                for key, news in polled.attempts.items():
                    seen[key].take(news, known[key].reports)
                    known[key] = Known(
                        attempts[key],
                        news.offset + len(news.reports) if news.reports else known[key].reports,
                        news.native_state or known[key].native_state,
                    )
        return seen

    async def finished(self, key: str, native_id: str) -> dict[str, Any]:
        """The final report."""
        seen = await self.follow({key: native_id}, lambda key, follow: follow.has("finished"))
        return seen[key].last("finished")


@dataclass
class Follow:
    """What polls have brought of one attempt."""

    reports: list[dict[str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    last_seen: Seen = field(default_factory=Seen)

    def take(self, seen: Seen, offset: int) -> None:
        if seen.reports:
            assert seen.offset == offset
            assert seen.reports.endswith(b"\n")
        self.reports += [json.loads(line) for line in seen.reports.splitlines()]
        if seen.state:
            self.states.append(seen.state)
        self.last_seen = seen

    def has(self, kind: str) -> bool:
        return any(report["kind"] == kind for report in self.reports)

    def last(self, kind: str) -> dict[str, Any]:
        return [report for report in self.reports if report["kind"] == kind][-1]


def reach(*servers: SshServer, user: User) -> Reach:
    hops = tuple(Hop(host=it.host, port=it.port, user=user.name, host_key=it.host_key) for it in servers)
    return Reach(hops=hops, key_file=str(servers[-1].key), connect_timeout=Seconds(10))


@pytest.fixture(
    params=[
        "local",
        pytest.param("ssh", marks=system),
        pytest.param("slurm", marks=system),
        pytest.param("slurm over ssh", marks=system),
        pytest.param("gridengine", marks=system),
    ],
    scope="module",
)
def spec(request: pytest.FixtureRequest) -> Any:
    """The site's spec, and where its work folder lies."""
    kind = request.param
    with contextlib.ExitStack() as stack:
        get = request.getfixturevalue
        if kind == "local":
            yield SiteSpec(name="here", kind="local"), None
        elif kind == "ssh":
            user: User = get("user")
            yield SiteSpec(name="box", kind="ssh", reach=reach(get("ssh_server"), user=user)), user
        elif kind == "slurm":
            cluster: SlurmCluster = get("slurm")
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("SLURM_CONF", str(cluster.conf))
            patch.setenv("PATH", f"{cluster.bin}:{os.environ['PATH']}")
            yield SiteSpec(name="cluster", kind="slurm", poll=Seconds(1)), None
        elif kind == "slurm over ssh":
            cluster, user = get("slurm_isolated"), get("user")
            login = get("slurm_isolated_login")
            # A bastion of its own before the login node.
            bastion = stack.enter_context(SshServer([user]))
            bastion.authorized_keys(user).write_text(login.key.with_suffix(".pub").read_text())
            yield SiteSpec(name="far", kind="slurm", reach=reach(bastion, login, user=user), poll=Seconds(1)), user
        else:
            user, login = get("user"), get("gridengine_login")
            assert isinstance(get("gridengine"), GridEngineCell)
            yield SiteSpec(name="cell", kind="gridengine", reach=reach(login, user=user), poll=Seconds(1)), user


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The control plane's data folder, where this machine's own sites lie. What runs there ends with the tests."""
    where = tmp_path_factory.mktemp("control")
    yield where
    # A keeper outlives who started it, for some minutes; the test bed's servers end those of their own users.
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(where).encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


RUN = secrets.token_hex(4)
_inventories: dict[str, Inventory] = {}


@pytest.fixture
async def world(spec: tuple[SiteSpec, User | None], folder: Path) -> AsyncIterator[World]:
    site_spec, _ = spec
    site = open_site(site_spec, instance=instance(site_spec), data_dir=folder)
    hello = await site.hello()
    if site_spec.name not in _inventories:
        _inventories[site_spec.name] = await site.probe()
    world = World(site_spec, site, Path(hello.workdir), _inventories[site_spec.name])
    world.number = itertools.count(random.randrange(10**6))
    yield world
    await site.close()


def instance(spec: SiteSpec) -> str:
    """Each kind has a work folder of its own: some share a user."""
    return hashlib.sha256(f"{RUN} {spec.name}".encode()).hexdigest()[:8]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


# ---- who is there


async def test_hello_and_probe(world: World, spec: tuple[SiteSpec, User | None]) -> None:
    hello = await world.site.hello()
    user = spec[1]
    assert hello.user == (user.name if user else os.environ.get("USER", hello.user))
    assert Path(hello.workdir).is_absolute() and hello.free_bytes > 0
    assert [int(part) for part in hello.python.split(".")[:2]] >= [3, 6]
    assert world.workdir.stat().st_mode & 0o077 == 0
    inventory = world.inventory
    assert inventory.queues and all(queue.nodes for queue in inventory.queues if queue.up)
    assert max(node.cpus for queue in inventory.queues for node in queue.nodes) >= 1
    assert world.site.contact.health is Health.UP


async def test_the_archive_is_sent_once(world: World) -> None:
    archives = list((world.workdir / "bin").glob("*.pyz"))
    assert len(archives) == 1
    before = archives[0].stat().st_mtime_ns
    await world.site.close()
    await world.site.hello()
    assert archives[0].stat().st_mtime_ns == before


# ---- a job from its submission to its end


async def test_a_job_runs_and_its_end_is_told_whole(world: World) -> None:
    key, native_id = await world.submit(
        "sh",
        "-c",
        "echo out; echo err >&2; echo 'isthmus: loss=0.5 step=3'; echo result > result.txt; exit 0",
        outputs=[{"path": "result.txt", "optional": False}],
    )
    follow = (await world.follow({key: native_id}, lambda key, it: it.has("finished")))[key]
    kinds = [report["kind"] for report in follow.reports]
    assert kinds[0] == "started" and kinds[-1] == "finished"
    assert follow.last("started")["native_id"] == native_id
    assert follow.last("metrics")["values"] == {"loss": 0.5}
    end = follow.last("finished")
    assert (end["exit_code"], end["signal"], end["reason"]) == (0, None, "")
    (output,) = end["outputs"]
    assert output["digest"] == hashlib.sha256(b"result\n").hexdigest()
    log = await world.site.logs(key)
    assert {b"out", b"err"} <= set(log.data.split(b"\n"))


@pytest.mark.parametrize(
    ("command", "exit_code", "signal", "reason"),
    [
        (["sh", "-c", "exit 7"], 7, None, Reason.EXIT_CODE),
        (["sh", "-c", "kill -SEGV $$"], None, 11, Reason.SIGNAL),
        (["isthmus-no-such-command"], None, None, Reason.COMMAND),
    ],
)
async def test_bad_ends_are_told_apart(
    world: World, command: list[str], exit_code: int | None, signal: int | None, reason: Reason
) -> None:
    end = await world.finished(*await world.submit(*command))
    assert end["reason"] == reason.value
    if reason is not Reason.COMMAND:
        assert (end["exit_code"], end["signal"]) == (exit_code, signal)
    else:
        assert "isthmus-no-such-command" in end["message"]


async def test_a_script_runs_with_its_secrets_which_nobody_else_sees(world: World) -> None:
    submission = world.submission(script='#!/bin/sh\necho "the secret: $PASSWORD" | tr a-z A-Z\ncat /proc/$$/cmdline\n')
    submission = Submission(submission.key, submission.job, {"PASSWORD": "hunter2"}, submission.batch, submission.argv)
    (answer,) = (await world.site.submit([submission])).values()
    assert isinstance(answer, Submitted), answer
    end = await world.finished(submission.key, answer.native_id)
    assert end["reason"] == "", end
    assert b"THE SECRET: HUNTER2" in (await world.site.logs(submission.key)).data
    folder = world.workdir / "jobs" / submission.key
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path


async def test_submitting_again_is_the_same_attempt(world: World, tmp_path: Path) -> None:
    """Many times, from several connections at once: it runs once."""
    submission = world.submission("sh", "-c", "echo ran >> $ISTHMUS_CHECKPOINT/count", checkpoint="checkpoints/once")
    other = open_site(world.spec, instance=instance(world.spec), data_dir=world.workdir.parents[1])
    answers = await asyncio.gather(*(site.submit([submission]) for site in (world.site, other) for _ in range(3)))
    natives = {answer[submission.key] for answer in answers}
    assert len(natives) == 1, natives
    (native,) = natives
    assert isinstance(native, Submitted)
    await world.finished(submission.key, native.native_id)
    assert (await world.site.submit([submission]))[submission.key] == native
    await other.close()
    counted = await world.finished(
        *await world.submit("sh", "-c", "test $(wc -l < $ISTHMUS_CHECKPOINT/count) = 1", checkpoint="checkpoints/once")
    )
    assert counted["exit_code"] == 0


async def test_one_bad_submission_spoils_no_other(world: World) -> None:
    good = world.submission("true")
    bad = Submission("../../escape", dict(good.job) | {"key": "../../escape"}, {}, good.batch, good.argv)
    answers = await world.site.submit([bad, good])
    assert isinstance(answers[bad.key], IsthmusError)
    assert not isinstance(answers[bad.key], BadReply | Unreachable)
    native = answers[good.key]
    assert isinstance(native, Submitted)
    assert (await world.finished(good.key, native.native_id))["exit_code"] == 0


async def test_many_jobs_at_once(world: World) -> None:
    jobs = [world.submission("sh", "-c", f"exit {number}") for number in range(12)]
    answers = await world.site.submit(jobs)
    natives = {key: answer.native_id for key, answer in answers.items() if isinstance(answer, Submitted)}
    assert len(natives) == 12, answers
    seen = await world.follow(natives, lambda key, it: it.has("finished"))
    assert [seen[job.key].last("finished")["exit_code"] for job in jobs] == list(range(12))


async def test_the_batch_system_s_own_end_is_seen(world: World) -> None:
    """Also where no report tells it: states come from the batch system, and `gone` only when it forgot."""
    key, native_id = await world.submit("sh", "-c", "exit 3")
    follow = (await world.follow({key: native_id}, lambda key, it: it.last_seen.state in ("ended", "gone")))[key]
    assert follow.has("finished")
    assert follow.states[-1] in ("ended", "gone")
    assert "gone" not in follow.states[:-1]


async def test_an_attempt_that_nobody_knows_is_gone(world: World) -> None:
    polled = await world.site.poll({"1.1-none": Known("999999999")})
    assert polled.queried, polled.query_error
    assert polled.attempts["1.1-none"].state == "gone"


async def test_without_news_a_poll_waits_and_the_next_one_ends_it(world: World) -> None:
    key, native_id = await world.submit("sleep", "600")
    follow = (await world.follow({key: native_id}, lambda key, it: it.has("started") and "running" in it.states))[key]
    offset = follow.last_seen.offset + len(follow.last_seen.reports)
    known = {key: Known(native_id, max(offset, 1 << 40), follow.last_seen.native_state)}
    loop = asyncio.get_running_loop()
    begin = loop.time()
    waiting = asyncio.create_task(world.site.poll(known, wait_s=60, query=False))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    await world.site.poll(known, query=False)
    await waiting
    assert loop.time() - begin < 30
    await world.site.kill({key: Kill(native_id, 1)})
    await world.finished(key, native_id)


# ---- logs


async def test_logs_by_offset_while_it_runs_and_after(world: World) -> None:
    lines = "".join(f"line {number}\n" for number in range(2000)).encode()
    key, native_id = await world.submit(
        "sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; touch done; sleep 600"
    )
    got = b""
    async with asyncio.timeout(LONG_S):
        while len(got) < len(lines):
            part = await world.site.logs(key, offset=len(got), limit=5000)
            assert part.offset == len(got) and len(part.data) <= 5000 and part.size >= len(got) + len(part.data)
            got += part.data
            await asyncio.sleep(0 if part.data else 0.05)
    assert got == lines
    tail = await world.site.logs(key, offset=-9)
    assert (tail.data, tail.offset, tail.size) == (b"line 1999"[-8:] + b"\n", len(lines) - 9, len(lines))
    await world.site.kill({key: Kill(native_id, 1)})
    await world.finished(key, native_id)
    assert (await world.site.logs(key, limit=10**6)).data.startswith(lines)
    assert (await world.site.logs("1.1-none")).size == 0
    with pytest.raises(Invalid):
        await world.site.logs(key, name="../../../../etc/passwd")


# ---- ends that are asked for


async def test_kill_gives_the_command_its_grace(world: World) -> None:
    key, native_id = await world.submit(
        "sh", "-c", "trap 'echo saved > $ISTHMUS_CHECKPOINT/state; exit' TERM; echo ready; while :; do sleep .1; done",
        checkpoint="checkpoints/grace",
        grace_s=60,
    )  # fmt: skip
    await until_log(world, key, b"ready")
    assert await world.site.kill({key: Kill(native_id, 60)}) == {key: None}
    end = await world.finished(key, native_id)
    assert end["reason"] == Reason.KILLED.value
    state = world.workdir / "checkpoints" / "grace" / "state"
    assert state.read_text() == "saved\n"


async def test_kill_without_mercy_for_who_does_not_listen(world: World) -> None:
    key, native_id = await world.submit(
        "sh", "-c", "trap '' TERM; (trap '' TERM; sleep 601) & echo ready; while :; do sleep 0.1; done", grace_s=1
    )
    await until_log(world, key, b"ready")
    assert await world.site.kill({key: Kill(native_id, 1)}) == {key: None}
    end = await world.finished(key, native_id)
    assert end["reason"] == Reason.KILLED.value
    await until(lambda: not runs(key))


async def test_kill_is_silent_about_what_is_gone(world: World) -> None:
    key, native_id = await world.submit("true")
    await world.finished(key, native_id)
    for _ in range(2):
        assert await world.site.kill({key: Kill(native_id, 1), "1.1-none": Kill("999999999", 1)}) == {
            key: None,
            "1.1-none": None,
        }


async def test_a_fenced_attempt_never_starts(world: World) -> None:
    """The control plane calls an attempt lost only after this: whatever comes later must not run."""
    submission = world.submission("true")
    assert (await world.site.kill({submission.key: Kill("", 0)}, fence=True)) == {submission.key: None}
    answer = (await world.site.submit([submission]))[submission.key]
    if isinstance(answer, Submitted):
        await world.follow({submission.key: answer.native_id}, lambda key, it: it.last_seen.state in ("ended", "gone"))
    else:
        assert isinstance(answer, Refused) and answer.code == "fenced"
    assert not list((world.workdir / "jobs" / submission.key).glob("reports"))


async def test_a_time_limit_is_told(world: World) -> None:
    key, native_id = await world.submit("sleep", "600", time_s=1, grace_s=1)
    end = await world.finished(key, native_id)
    assert end["reason"] == Reason.TIMEOUT.value


async def test_locate(world: World) -> None:
    key, native_id = await world.submit("sleep", "600")
    follow = (await world.follow({key: native_id}, lambda key, it: it.has("started")))[key]
    nodes = (await world.site.locate({key: native_id}))[key]
    assert nodes == (follow.last("started")["node"],)
    await world.site.kill({key: Kill(native_id, 1)})
    await world.finished(key, native_id)


# ---- a connection that comes and goes


async def test_what_runs_goes_on_while_nobody_looks(world: World) -> None:
    key, native_id = await world.submit("sh", "-c", "until [ -e go ]; do sleep 0.05; done; exit 4")
    await world.follow({key: native_id}, lambda key, it: it.has("started"))
    await world.site.close()
    (world.workdir / "jobs" / key / "work" / "go").touch()
    assert (await world.finished(key, native_id))["exit_code"] == 4


# ---- files


def content(size: int, seed: str) -> bytes:
    return random.Random(seed).randbytes(size)


async def test_put_stat_get_and_list(world: World, tmp_path: Path) -> None:
    data = content(3_000_000, "put")
    digest = hashlib.sha256(data).hexdigest()
    local, seen = tmp_path / "data", []
    local.write_bytes(data)
    await world.site.put(local, f"cache/{digest}", size=len(data), digest=digest, progress=seen.append)
    assert seen[-1] == len(data)
    found = await world.site.stat([f"cache/{digest}", f"cache/{digest}.part", "cache/none"])
    stat = found[f"cache/{digest}"]
    assert stat is not None and (stat.size, stat.kind) == (len(data), "file")
    assert found[f"cache/{digest}.part"] is None and found["cache/none"] is None
    got = b"".join([piece async for piece in world.site.get(f"cache/{digest}")])
    assert got == data
    rest = b"".join([piece async for piece in world.site.get(f"cache/{digest}", offset=len(data) - 5)])
    assert rest == data[-5:]
    entries = {entry.path: entry for entry in await world.site.list("cache")}
    assert entries[digest].size == len(data)
    with pytest.raises(NotFound):
        await anext(aiter(world.site.get("cache/none")))


async def test_put_of_other_bytes_is_refused_and_leaves_nothing(world: World) -> None:
    async def source(offset: int) -> AsyncIterator[bytes]:
        yield b"y" * (1000 - offset)

    digest = hashlib.sha256(b"x" * 1000).hexdigest()
    with pytest.raises(Refused) as caught:
        await world.site.put(source, f"cache/{digest}", size=1000, digest=digest)
    assert caught.value.code == "digest"
    found = await world.site.stat([f"cache/{digest}", f"cache/{digest}.part"])
    assert set(found.values()) == {None}


async def test_paths_stay_in_the_work_folder(world: World) -> None:
    for path in ("../../outside", "/etc/passwd", "jobs/../../outside"):
        with pytest.raises(Invalid):
            await world.site.stat([path])
        with pytest.raises(Invalid):
            await anext(aiter(world.site.get(path)))
    with pytest.raises(Invalid):
        await world.site.list("/")


async def test_a_folder_comes_as_a_canonical_tar_and_goes_there_as_one(world: World) -> None:
    key, native_id = await world.submit(
        "sh", "-c", "mkdir -p out/deep && echo a > out/a && echo b > out/deep/b && ln -s a out/link",
        outputs=[{"path": "out", "optional": False}],
    )  # fmt: skip
    end = await world.finished(key, native_id)
    (output,) = end["outputs"]
    assert output["kind"] == "folder"
    tar = b"".join([piece async for piece in world.site.get(f"jobs/{key}/work/out")])
    assert hashlib.sha256(tar).hexdigest() == output["digest"]
    with tarfile.open(fileobj=io.BytesIO(tar)) as bundle:
        assert [member.name for member in bundle] == ["a", "deep", "deep/b", "link"]
    rest = b"".join([piece async for piece in world.site.get(f"jobs/{key}/work/out", offset=700)])
    assert rest == tar[700:]

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield tar[offset:]

    path = f"cache/{output['digest']}"
    await world.site.put(source, path, size=len(tar), digest=output["digest"], unpack=True)
    assert b"".join([piece async for piece in world.site.get(path)]) == tar
    assert (world.workdir / path / "deep" / "b").read_text() == "b\n"


async def test_put_goes_on_where_it_was_cut(world: World, tmp_path: Path) -> None:
    """Cut at random bytes, by pulling the site's own connection, until it is there."""
    data = content(6_000_000, "resume")
    digest = hashlib.sha256(data).hexdigest()
    chance, begun, cuts = random.Random("cuts"), [], 0

    def source(offset: int) -> AsyncIterator[bytes]:
        begun.append(offset)
        return pieces(offset)

    async def pieces(offset: int) -> AsyncIterator[bytes]:
        cut_at = offset + chance.randrange(300_000, 1_200_000)
        for at in range(offset, len(data), 100_000):
            if at > cut_at and cuts < 4:
                await asyncio.shield(asyncio.create_task(world.site.close()))
            yield data[at : at + 100_000]

    async with asyncio.timeout(LONG_S):
        while True:
            try:
                await world.site.put(source, f"cache/{digest}", size=len(data), digest=digest)
                break
            except (Unreachable, BadReply):
                cuts += 1
                found = await world.site.stat([f"cache/{digest}"])
                assert found[f"cache/{digest}"] is None
    assert cuts == 4
    assert begun == sorted(begun) and begun[-1] > 0
    assert (world.workdir / "cache" / digest).read_bytes() == data


async def test_cache_tells_what_it_holds_and_removes(world: World) -> None:
    data = content(1000, secrets.token_hex(4))
    digest = hashlib.sha256(data).hexdigest()

    async def source(offset: int) -> AsyncIterator[bytes]:
        yield data[offset:]

    await world.site.put(source, f"cache/{digest}", size=len(data), digest=digest)
    held = await world.site.cache(have=[digest, "0" * 64])
    assert {name: entry.size for name, entry in held.entries.items()} == {digest: 1000}
    assert held.free_bytes > 0
    everything = await world.site.cache(everything=True)
    assert digest in everything.entries
    await world.site.cache(remove=[digest])
    assert (await world.site.cache(have=[digest])).entries == {}
    await world.site.cache(remove=[digest])


async def test_clean_removes_folders_and_is_silent_about_others(world: World) -> None:
    key, native_id = await world.submit(
        "sh", "-c", "mkdir -p d; echo x > d/f; chmod 000 d", checkpoint="checkpoints/77"
    )
    await world.finished(key, native_id)
    kept, kept_native = await world.submit("true")
    await world.finished(kept, kept_native)
    for _ in range(2):
        await world.site.clean([key, "1.1-none"], checkpoints=[77, 78])
        assert not (world.workdir / "jobs" / key).exists()
        assert not (world.workdir / "checkpoints" / "77").exists()
    assert (world.workdir / "jobs" / kept).exists()


# ---- helpers


async def until_log(world: World, key: str, text: bytes) -> None:
    async with asyncio.timeout(LONG_S):
        while text not in (await world.site.logs(key)).data:
            await asyncio.sleep(0.05)


def runs(key: str) -> bool:
    """Whether any process of the attempt is left: all have its key in their environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if key.encode() in path.read_bytes():
                return True
    return False
