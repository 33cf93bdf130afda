"""The client, alike over HTTP, over pinned HTTPS and to a control plane in this process: real jobs on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import isthmus
from isthmus.client import AsyncClient
from isthmus.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from isthmus.domain.jobs import After, Array, Input, JobRequest, Output, Resources, Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from isthmus.domain.users import Role, Scope
from isthmus.domain.views import JobView
from isthmus.embedded import AsyncEmbeddedClient, EmbeddedClient
from tests.testbed.control import ControlPlane

ENDED_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plane")


@pytest.fixture(scope="module", params=["http", "https", "embedded"])
def opened(request: pytest.FixtureRequest, folder: Path) -> object:
    """How to open a client: of a server's process over HTTP or HTTPS, or with the control plane in this process."""
    if request.param == "embedded":
        yield lambda **more: AsyncEmbeddedClient.open(folder / "embedded", **more)
        return
    more = {"tls": "self-signed"} if request.param == "https" else {}
    with ControlPlane(folder / request.param, **more) as plane:
        pem = plane.data / "tls" / "server.crt"

        async def client(token: str = plane.token) -> AsyncClient:
            if request.param == "http":
                return AsyncClient(plane.url, token)
            from isthmus.client import pinning

            return AsyncClient(plane.url, token, fingerprint=pinning.fingerprint(pem.read_text()))

        yield client


@pytest.fixture
async def client(opened: Callable[..., object]) -> AsyncIterator[AsyncClient]:
    async with await opened() as found:  # type: ignore[misc]
        yield found


async def done(client: AsyncClient, *words: str, **more: object) -> JobView:
    """A job of this command, ended."""
    job = await client.jobs.submit(JobRequest(command=words, **more))  # type: ignore[arg-type]
    ended = await client.jobs.wait(job.id, timeout_s=ENDED_S)
    assert ended.state.ended, ended
    return ended


async def log_of(client: AsyncClient, job: int) -> str:
    return b"".join([data async for data in client.jobs.follow(job)]).decode()


async def test_a_job_runs_and_its_output_comes_home(client: AsyncClient, tmp_path: Path) -> None:
    job = await done(client, "sh", "-c", "echo hello; echo made > out.txt", outputs=(Output(path="out.txt"),))
    assert (job.state, job.exit_code, job.site) == (JobState.COMPLETED, 0, "local")
    assert await log_of(client, job.id) == "hello\n"
    (output,) = await client.jobs.outputs(job.id)
    assert (output.path, output.kind, output.size, output.collected) == ("out.txt", "file", 5, True)
    assert output.digest == "sha256:" + hashlib.sha256(b"made\n").hexdigest()
    told: list[tuple[int, int]] = []
    path = await client.jobs.download(job.id, "out.txt", tmp_path, progress=lambda *each: told.append(each))
    assert path.read_bytes() == b"made\n"
    assert told[-1] == (5, 5)
    assert await client.jobs.download(job.id, "out.txt", tmp_path) == path
    path.write_bytes(b"other")
    with pytest.raises(Conflict, match="is there already, with another content"):
        await client.jobs.download(job.id, "out.txt", tmp_path)
    with pytest.raises(NotFound, match=r"left no output 'out\.tx'") as caught:
        await client.jobs.download(job.id, "out.tx", tmp_path)
    assert caught.value.hint == "Did you mean 'out.txt'?"


async def test_a_folder_comes_home_as_a_folder(client: AsyncClient, tmp_path: Path) -> None:
    job = await done(client, "sh", "-c", "mkdir -p d/e; echo 1 > d/e/f; ln -s e/f d/l", outputs=(Output(path="d"),))
    assert job.state is JobState.COMPLETED, job.message
    path = await client.jobs.download(job.id, "d", tmp_path / "here")
    assert (path / "e/f").read_text() == "1\n"
    assert os.readlink(path / "l") == "e/f"


async def test_a_download_goes_on_where_it_was_cut(client: AsyncClient, tmp_path: Path) -> None:
    make = "import random; open('big', 'wb').write(random.Random(1).randbytes(3_000_000))"
    job = await done(client, "python3", "-c", make, outputs=(Output(path="big"),))
    (output,) = await client.jobs.outputs(job.id)
    whole = await client.jobs.download(job.id, "big", tmp_path / "whole")
    (tmp_path / "cut.part").write_bytes(whole.read_bytes()[:1_234_567])
    told: list[tuple[int, int]] = []
    cut = await client.jobs.download(job.id, "big", tmp_path / "cut", progress=lambda *each: told.append(each))
    assert told[0] == (1_234_567, 3_000_000)
    assert "sha256:" + hashlib.sha256(cut.read_bytes()).hexdigest() == output.digest
    (tmp_path / "bad.part").write_bytes(b"something else")
    with pytest.raises(isthmus.IsthmusError, match="is not what was recorded"):
        await client.jobs.download(job.id, "big", tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    assert not (tmp_path / "bad.part").exists()


async def test_a_failed_job_says_why(client: AsyncClient) -> None:
    job = await done(client, "sh", "-c", "echo no >&2; exit 7")
    assert (job.state, job.reason, job.exit_code) == (JobState.FAILED, Reason.EXIT_CODE, 7)
    (attempt,) = await client.jobs.attempts(job.id)
    assert (attempt.number, attempt.exit_code, attempt.live) == (1, 7, False)
    history = await client.jobs.history(job.id)
    assert [event.after for event in history if event.noun == "job"][-1] == "FAILED"
    again = await client.jobs.retry(job.id)
    assert again[0].state is JobState.QUEUED
    assert (await client.jobs.wait(job.id, timeout_s=ENDED_S)).attempts == 2


async def test_the_log_is_followed_while_it_is_written(client: AsyncClient) -> None:
    job = await client.jobs.submit(JobRequest(command=("sh", "-c", "mkfifo go; echo one; read line < go; echo $line")))
    got = b""
    async with asyncio.timeout(ENDED_S):
        async for data in client.jobs.follow(job.id):
            got += data
            if got == b"one\n":
                await client.jobs.kill(job.id)
    assert got == b"one\n"
    assert (await client.jobs.get(job.id)).state is JobState.KILLED


async def test_kill(client: AsyncClient) -> None:
    job = await client.jobs.submit(JobRequest(command=("sleep", "600")))
    (told,) = await client.jobs.kill(job.id)
    assert told.id == job.id
    ended = await client.jobs.wait(job.id, timeout_s=ENDED_S)
    assert (ended.state, ended.kill_by) == (JobState.KILLED, "admin")
    (still,) = await client.jobs.kill(job.id)
    assert still.state is JobState.KILLED
    with pytest.raises(NotFound, match="There is no job 999999"):
        await client.jobs.kill(999_999)


async def test_run_submits_and_waits_for_the_end(client: AsyncClient) -> None:
    job = await client.jobs.run({"command": ["sh", "-c", "exit 3"]}, key="run-it-once")
    assert (job.state, job.exit_code) == (JobState.FAILED, 3)
    assert (await client.jobs.run({"command": ["sh", "-c", "exit 3"]}, key="run-it-once")).id == job.id
    both = await client.jobs.run_many([{"command": ["true"], "array": {"size": 2}}], timeout_s=ENDED_S)
    assert [each.state for each in both] == [JobState.COMPLETED] * 2
    with pytest.raises(Invalid, match="array"):
        await client.jobs.run({"command": ["true"], "array": {"size": 2}})


async def test_run_returns_when_the_time_is_over(client: AsyncClient) -> None:
    job = await client.jobs.run({"command": ["sleep", "600"]}, timeout_s=0.3)
    assert not job.state.ended
    await client.jobs.kill(job.id)
    await client.jobs.wait(job.id, timeout_s=ENDED_S)


async def test_wait_returns_when_the_time_is_over(client: AsyncClient) -> None:
    job = await client.jobs.submit(JobRequest(command=("sleep", "600")))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not (await client.jobs.wait(job.id, timeout_s=0.3)).state.ended
    assert 0.25 < loop.time() - began < 10
    await client.jobs.kill(job.id)
    await client.jobs.wait(job.id, timeout_s=ENDED_S)


async def test_arrays_and_dependencies(client: AsyncClient) -> None:
    request = JobRequest(
        name="sweep",
        command=("sh", "-c", 'echo "$ISTHMUS_ARRAY_INDEX $lr {index}"'),
        array=Array(parameters=({"lr": 0.1}, {"lr": 0.2})),
    )
    jobs = await client.jobs.submit_many([request])
    assert [(job.name, job.index, job.array) for job in jobs] == [
        ("sweep[0]", 0, jobs[0].id),
        ("sweep[1]", 1, jobs[0].id),
    ]
    last = await client.jobs.submit(JobRequest(command=("true",), after=tuple(After(job=job.id) for job in jobs)))
    ended = await client.jobs.wait_many([*(job.id for job in jobs), last.id], timeout_s=ENDED_S)
    assert {job.state for job in ended} == {JobState.COMPLETED}
    assert [await log_of(client, job.id) for job in jobs] == ["0 0.1 0\n", "1 0.2 1\n"]
    assert {job.id for job in (await client.jobs.list(array=jobs[0].id)).jobs} == {job.id for job in jobs}
    with pytest.raises(Invalid, match="This is an array"):
        await client.jobs.submit(request)


async def test_the_end_of_any_of_several(client: AsyncClient) -> None:
    quick, slow = await client.jobs.submit_many(
        [JobRequest(command=("true",)), JobRequest(command=("sleep", "100"))],
    )
    assert [job.id for job in await client.jobs.wait_any([slow.id, quick.id], timeout_s=ENDED_S)] == [quick.id]
    assert await client.jobs.wait_any([slow.id], timeout_s=0.1) == []
    await client.jobs.kill(slow.id)
    assert [job.id for job in await client.jobs.wait_any([slow.id], timeout_s=ENDED_S)] == [slow.id]


async def test_the_same_key_is_the_same_job(client: AsyncClient) -> None:
    key = os.urandom(8).hex()
    first = await client.jobs.submit(JobRequest(command=("true",)), key=key)
    second = await client.jobs.submit(JobRequest(command=("true",)), key=key)
    assert first.id == second.id


async def test_all_or_none(client: AsyncClient) -> None:
    before = [job.id async for job in client.jobs.all()]
    with pytest.raises(Invalid) as caught:
        await client.jobs.submit_many([{"command": ["true"]}, {"command": ["true"], "sites": ["lokal"]}])
    assert "Did you mean 'local'?" in str(caught.value)
    with pytest.raises(Invalid) as caught:
        await client.jobs.submit({"command": ["true"], "resources": {"cpus": 100_000}})
    assert str(caught.value).startswith("resources.cpus: No site can run it. local: it needs 100000 cores on a node, ")
    assert [job.id async for job in client.jobs.all()] == before


async def test_list_in_pages_with_filters(client: AsyncClient) -> None:
    name = f"page-{os.urandom(4).hex()}"
    jobs = await client.jobs.submit_many(
        [JobRequest(name=f"{name}-{n}", command=("true",), labels={"n": str(n)}) for n in range(5)]
    )
    await client.jobs.wait_many([job.id for job in jobs], timeout_s=ENDED_S)
    page = await client.jobs.list(name=name, limit=3)
    assert [job.id for job in page.jobs] == [job.id for job in reversed(jobs)][:3]
    assert page.next is not None
    rest = await client.jobs.list(name=name, limit=3, before=page.next)
    assert [job.id for job in rest.jobs] == [job.id for job in reversed(jobs)][3:]
    assert rest.next is None
    assert [job.id async for job in client.jobs.all(name=name, label={"n": "2"})] == [jobs[2].id]
    assert (await client.jobs.list(name=name, state=["failed"])).jobs == ()
    assert len((await client.jobs.list(name=name, state="ended", user="admin", site="local")).jobs) == 5
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert (await client.jobs.list(name=name, since=soon)).jobs == ()


async def test_explain_and_preview(client: AsyncClient) -> None:
    big = JobRequest(command=("true",), resources=Resources(cpus=100_000), wait_for_site=True)
    found = await client.jobs.preview(big)
    assert [(each.site, each.fits) for each in found.sites] == [("local", False)]
    assert found.sites[0].reasons[0].startswith("it needs 100000 cores on a node, there are ")
    job = await client.jobs.submit(big)
    explained = await client.jobs.explain(job.id)
    assert explained.job == job.id
    assert not explained.sites[0].fits
    (more,) = await client.jobs.set_priority([job.id], 5)
    assert more.priority == 5
    await client.jobs.kill(job.id)


async def test_metrics(client: AsyncClient) -> None:
    job = await done(client, "sh", "-c", "for n in 1 2 3; do echo isthmus: loss=0.$n step=$n; done")
    (series,) = await client.jobs.metrics(job.id, names=["loss"])
    assert [(point.value, point.step) for point in series.points] == [(0.1, 1), (0.2, 2), (0.3, 3)]
    assert [len(each.points) for each in await client.jobs.metrics(job.id, names=["nothing"])] == [0]


async def test_secrets_reach_the_job_and_nothing_else(client: AsyncClient) -> None:
    value = "s3cr3t-" + os.urandom(4).hex()
    await client.secrets.set("api-key", value)
    assert "api-key" in [secret.name for secret in await client.secrets.list()]
    job = await done(client, "sh", "-c", 'printf %s "$KEY" | sha256sum', secrets={"KEY": "api-key"})
    assert (await log_of(client, job.id)).split()[0] == hashlib.sha256(value.encode()).hexdigest()
    page = await client.events.list(newest=True, limit=1000)
    assert value not in str(page)
    await client.secrets.remove("api-key")
    with pytest.raises(isthmus.IsthmusError, match="api-key"):
        await client.jobs.submit(JobRequest(command=("true",), secrets={"KEY": "api-key"}))


async def test_datasets_are_uploaded_and_read_by_jobs(client: AsyncClient, tmp_path: Path) -> None:
    name = f"prices-{os.urandom(4).hex()}"
    folder = tmp_path / "prices"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.csv").write_text("1,2\n")
    made = await client.datasets.register(name, folder, labels={"team": "x"}, description="Prices.")
    assert (made.name, made.version, made.is_folder, made.owner) == (name, "1", True, "admin")
    same = await client.datasets.register(name, folder, version="1")
    assert same.id == made.id
    job = await done(client, "cat", "data/sub/a.csv", inputs=(Input(path="data", dataset=name),))
    assert job.state is JobState.COMPLETED, job.message
    assert await log_of(client, job.id) == "1,2\n"
    assert {replica.site for replica in await client.datasets.replicas(name)} >= {"", "local"}
    back = await client.datasets.download(f"{name}@1", tmp_path / "back")
    assert (back / "sub" / "a.csv").read_text() == "1,2\n"
    (folder / "sub" / "a.csv").write_text("3,4\n")
    second = await client.datasets.register(name, folder)
    assert [each.version for each in await client.datasets.versions(name)] == [second.version, "1"]
    assert [each.id for each in (await client.datasets.list(name=name, label={"team": "x"})).artefacts] == [made.id]
    await client.datasets.remove(f"{name}@{second.version}")
    assert (await client.datasets.get(name)).version == "1"
    with pytest.raises(NotFound) as caught:
        await client.datasets.get(name[:-1])
    assert caught.value.hint == f"Did you mean {name!r}?"
    with pytest.raises(Invalid, match="There is no"):
        await client.datasets.register("x", tmp_path / "nothing")


async def test_users_tokens_and_rights(client: AsyncClient) -> None:
    name = f"user-{os.urandom(4).hex()}"
    added = await client.users.add(name, Role.VIEWER)
    assert (added.name, added.role) == (name, Role.VIEWER)
    with pytest.raises(Conflict):
        await client.users.add(name)
    made = await client.tokens.create("laptop", user=name, scopes=[Scope.READ])
    assert made.token.startswith("ist_")
    assert [token.name for token in await client.tokens.list(user=name)] == ["laptop"]
    assert made.token not in str(await client.tokens.list(user="*"))
    theirs = client.with_token(made.token)
    assert (await theirs.users.me()).user == name
    with pytest.raises(Forbidden):
        await theirs.jobs.submit(JobRequest(command=("true",)))
    await client.tokens.revoke(made.id)
    with pytest.raises(Unauthenticated):
        await theirs.users.me()
    await theirs.connection.close()
    assert (await client.users.change(name, role=Role.MEMBER)).role is Role.MEMBER
    with pytest.raises(Conflict):
        await client.users.change("admin", disabled=True)


async def test_events_are_listed_and_followed(client: AsyncClient) -> None:
    page = await client.events.list(newest=True, limit=1)
    last = page.events[-1].id

    async def first() -> str:
        async for event in client.events.follow(after=last, noun="job"):
            return event.verb
        return ""

    following = asyncio.create_task(first())
    await client.jobs.submit(JobRequest(command=("true",)))
    assert await asyncio.wait_for(following, ENDED_S)
    assert (await client.events.list(after=last, noun="job", actor="admin")).events


async def test_sites(client: AsyncClient) -> None:
    (site,) = [site for site in await client.sites.list() if site.name == "local"]
    assert site.inventory.queues
    assert (await client.sites.test("local")).probed_at is not None
    assert site.spec is not None
    changed = await client.sites.update(dataclasses.replace(site.spec, labels={"location": "DE"}))
    assert changed.spec is not None and changed.spec.labels == {"location": "DE"}
    assert (await client.sites.drain("local")).state.value == "DRAINING"
    job = await client.jobs.submit(JobRequest(command=("true",), wait_for_site=True))
    assert not (await client.jobs.wait(job.id, timeout_s=0.5)).state.ended
    assert (await client.sites.resume("local")).state.value == "ENABLED"
    assert (await client.jobs.wait(job.id, timeout_s=ENDED_S)).state is JobState.COMPLETED
    with pytest.raises(NotFound) as caught:
        await client.sites.get("lokal")
    assert caught.value.hint == "Did you mean 'local'?"


async def test_retries_by_reason(client: AsyncClient) -> None:
    count = "n=$(cat $ISTHMUS_CHECKPOINT/n 2>/dev/null || echo 0); echo $((n+1)) > $ISTHMUS_CHECKPOINT/n; [ $n = 2 ]"
    job = await done(
        client, "sh", "-c", count, checkpoint=True, retry=Retry(attempts=3, on=(Reason.EXIT_CODE,))
    )  # fmt: skip
    assert (job.state, job.attempts) == (JobState.COMPLETED, 3)


def test_the_blocking_client_does_the_same(folder: Path, tmp_path: Path) -> None:
    with EmbeddedClient(folder / "blocking") as client:
        job = client.jobs.submit({"command": ["sh", "-c", "echo hi; echo x > f"], "outputs": [{"path": "f"}]})
        assert client.jobs.wait(job.id, timeout_s=ENDED_S).state is JobState.COMPLETED
        assert b"".join(client.jobs.follow(job.id)) == b"hi\n"
        assert client.jobs.download(job.id, "f", tmp_path).read_text() == "x\n"
        assert [each.id for each in client.jobs.all()] == [job.id]
        assert client.users.me().user == "admin"
        assert client.server().database == "sqlite"
        with pytest.raises(Conflict, match=r"runs on .* already"):
            EmbeddedClient(folder / "blocking")
        with pytest.raises(NotFound):
            client.jobs.get(77)
