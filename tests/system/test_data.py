"""Data and images on real sites: brought once, verified, gone on with after cuts, kept to their zones, run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.client import Client
from isthmus.data.digests import hex_of
from isthmus.data.requirements import Content, InputNeed, Requirements
from isthmus.data.staging import Staging
from isthmus.data.store import FolderStore
from isthmus.data.transfer import Place
from isthmus.db import sites as site_rows
from isthmus.db import users as user_rows
from isthmus.db.engine import Database
from isthmus.domain.artefacts import ReplicaState
from isthmus.domain.errors import Conflict, Forbidden, Invalid, Unreachable
from isthmus.domain.jobs import Input, JobRequest, Output, Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Hop, Inventory, Reach, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.users import Role
from isthmus.domain.views import JobView
from isthmus.runner import canonical
from isthmus.sites import open_site
from tests.system.relay import Relay
from tests.testbed import engines, scratch
from tests.testbed.control import ControlPlane
from tests.testbed.disk import SmallDisk
from tests.testbed.sites import reach, ssh_site
from tests.testbed.ssh import SshServer

ENDED_S = 90.0
DATA = random.Random(21).randbytes(30_000_000)
ONCE = Retry(attempts=1)


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    with plane.client() as client:
        yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for things that no other test has."""
    return f"{request.node.name[5:].split('[')[0].replace('_', '-')[:40]}-{os.urandom(2).hex()}"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with data."""
    folder = tmp_path / "data"
    (folder / "2024").mkdir(parents=True)
    (folder / "2024" / "prices.csv").write_bytes(DATA)
    (folder / "latest").symlink_to("2024")
    (folder / "unique").write_bytes(os.urandom(16))  # the same content would be there from another test
    (folder / "read.sh").write_text("#!/bin/sh\nwc -c < $(dirname $0)/latest/prices.csv\n")
    (folder / "read.sh").chmod(0o755)
    return folder


def run(client: Client, *command: str, site: str = "local", **more: Any) -> JobView:
    """Run a job to its end."""
    job = client.jobs.submit(JobRequest(command=command, sites=(site,), **{"retry": ONCE, **more}))
    view = client.jobs.wait(job.id, timeout_s=ENDED_S)
    assert view.state.ended, view
    return view


def log(client: Client, job: JobView) -> str:
    return client.jobs.log(job.id).data.decode()


def completed(client: Client, job: JobView) -> JobView:
    assert job.state is JobState.COMPLETED, (job.reason, job.message, log(client, job))
    return job


# ---- datasets


def test_a_job_reads_a_dataset_and_makes_another(client: Client, name: str, top: Path, tmp_path: Path) -> None:
    made = client.datasets.register(name, top)
    assert made.is_folder and made.digest == f"sha256:{canonical.digest(str(top))[0]}"
    job = run(
        client,
        "sh",
        "-c",
        "data/read.sh; sha256sum < data/latest/prices.csv; mkdir out; "
        "head -c 1000 data/2024/prices.csv > out/head; ln -s head out/l",
        inputs=(Input(path="data", dataset=name),),
        outputs=(Output(path="out", dataset=f"{name}-out"),),
    )
    completed(client, job)
    assert log(client, job).split()[:2] == [str(len(DATA)), hashlib.sha256(DATA).hexdigest()]
    assert {one.site for one in client.datasets.replicas(name)} == {"", "local"}
    derived = client.datasets.get(f"{name}-out")
    assert derived.labels["job"] == str(job.id)
    # The next job reads what the first left, by its number and by the dataset's name.
    second = run(
        client,
        "sh",
        "-c",
        "cmp a/head b/l && echo x >> b/head && cat b/head | wc -c",
        inputs=(Input(path="a", job=job.id, output="out"), Input(path="b", dataset=f"{name}-out", mode="copy")),
    )
    assert log(client, completed(client, second)).strip() == "1002"
    home = client.jobs.download(job.id, "out", tmp_path / "home")
    assert (home / "head").read_bytes() == DATA[:1000]
    assert (home / "l").readlink() == Path("head")


def test_many_jobs_at_once_get_one_copy(client: Client, name: str, ssh_server: SshServer, tmp_path: Path) -> None:
    client.sites.add(ssh_site(name, ssh_server))
    (tmp_path / "x").write_bytes(DATA)
    client.datasets.register(name, tmp_path / "x")
    request = JobRequest(
        command=("sh", "-c", "sha256sum < x"), sites=(name,), inputs=(Input(path="x", dataset=name),), retry=ONCE
    )
    jobs = client.jobs.submit_many([request] * 12)
    views = client.jobs.wait_many([job.id for job in jobs], timeout_s=ENDED_S)
    for view in views:
        assert log(client, completed(client, view)).split()[0] == hashlib.sha256(DATA).hexdigest()
    (replica,) = [one for one in client.datasets.replicas(name) if one.site == name]
    assert (replica.state, replica.bytes_done) == (ReplicaState.PRESENT, len(DATA))
    cache = ssh_server.user.home / f"isthmus-{name}" / "cache"
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == [
        hashlib.sha256(DATA).hexdigest()
    ]


def test_data_that_lies_at_a_site(client: Client, name: str, ssh_server: SshServer, top: Path) -> None:
    client.sites.add(ssh_site(name, ssh_server, zone="EU"))
    data = ssh_server.user.home / f"data-{name}"
    top.rename(data)
    data.chmod(0o755)
    made = client.datasets.register_reference(name, f"{name}:{data}", zones=("EU",))
    assert made.is_folder
    job = run(
        client,
        "sh",
        "-c",
        "data/read.sh; readlink data; head -c 10 data/2024/prices.csv > out",
        site=name,
        inputs=(Input(path="data", dataset=name),),
        outputs=(Output(path="out", dataset=f"{name}-out"),),
    )
    completed(client, job)
    assert log(client, job).split() == [str(len(DATA)), str(data)], "nothing was copied"
    # What was made of it is bound as it is: neither the store nor a person elsewhere may have it.
    (output,) = client.jobs.outputs(job.id)
    assert not output.collected
    assert client.datasets.get(f"{name}-out").zones == ("EU",)
    assert [one.site for one in client.datasets.replicas(f"{name}-out")] == [name]
    with pytest.raises(Forbidden, match="may only be in EU"):
        client.jobs.download(job.id, "out", data)
    follow = run(client, "cat", "in", site=name, inputs=(Input(path="in", dataset=f"{name}-out"),))
    assert client.jobs.log(completed(client, follow).id).data == DATA[:10]
    with pytest.raises(Invalid, match=r"its data may only be in EU"):
        client.jobs.submit(JobRequest(command=("true",), sites=("local",), inputs=(Input(path="x", dataset=name),)))
    (data / "2024" / "prices.csv").write_bytes(b"other")
    changed = run(client, "true", site=name, inputs=(Input(path="data", dataset=name),))
    assert (changed.state, changed.reason) == (JobState.FAILED, Reason.STAGE)
    assert "no longer what was registered" in changed.message


def test_data_of_one_site_is_forwarded_to_another(client: Client, name: str, ssh_server: SshServer, top: Path) -> None:
    first, second = f"{name}-1", f"{name}-2"
    client.sites.add(ssh_site(first, ssh_server))
    client.sites.add(ssh_site(second, ssh_server))
    data = ssh_server.user.home / f"data-{name}"
    top.rename(data)
    client.datasets.register_reference(name, f"{first}:{data}")
    job = run(client, "data/read.sh", site=second, inputs=(Input(path="data", dataset=name),))
    assert log(client, completed(client, job)).strip() == str(len(DATA))
    assert {one.site for one in client.datasets.replicas(name)} == {first, second}


def test_a_full_disk_fails_the_attempt_as_such(client: Client, name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    client.datasets.register(name, tmp_path / "x")
    with SmallDisk(size_mb=20) as disk:
        client.sites.add(SiteSpec(name=name, kind="local", workdir=str(disk.path / "w")))
        job = run(client, "true", site=name, inputs=(Input(path="x", dataset=name),))
        assert (job.state, job.reason) == (JobState.FAILED, Reason.DISK_FULL)
        assert not (disk.path / "w" / "cache" / hashlib.sha256(DATA).hexdigest()).exists()
        (failed,) = [one for one in client.datasets.replicas(name) if one.site == name]
        assert failed.state is ReplicaState.FAILED and failed.error
        # What fits still comes.
        (tmp_path / "y").write_bytes(DATA[:1_000_000])
        client.datasets.register(f"{name}-y", tmp_path / "y")
        small = run(client, "sha256sum", "y", site=name, inputs=(Input(path="y", dataset=f"{name}-y"),))
        assert log(client, completed(client, small)).split()[0] == hashlib.sha256(DATA[:1_000_000]).hexdigest()
        client.sites.remove(name)


def test_the_bytes_of_a_full_disk_are_made_room_for(client: Client, name: str, tmp_path: Path) -> None:
    """What nothing uses goes when something else needs its place."""
    with SmallDisk(size_mb=48) as disk:
        client.sites.add(SiteSpec(name=name, kind="local", workdir=str(disk.path / "w")))
        for number in range(2):
            data = random.Random(number).randbytes(28_000_000)
            (tmp_path / str(number)).write_bytes(data)
            client.datasets.register(f"{name}-{number}", tmp_path / str(number))
            job = run(client, "sha256sum", "x", site=name, inputs=(Input(path="x", dataset=f"{name}-{number}"),))
            assert log(client, completed(client, job)).split()[0] == hashlib.sha256(data).hexdigest()
            for path in (disk.path / "w" / "cache").iterdir():
                os.utime(path, (1.0, 1.0), follow_symlinks=False)  # last used long ago
        client.sites.remove(name)


def test_garbage_collection_leaves_what_a_running_job_reads(client: Client, name: str, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    for which in ("used", "unused"):
        (tmp_path / which).write_bytes(os.urandom(1000))
        client.datasets.register(f"{name}-{which}", tmp_path / which)
    completed(client, run(client, "true", inputs=(Input(path="x", dataset=f"{name}-unused"),)))
    go = tmp_path / "go"
    job = client.jobs.submit(
        JobRequest(
            command=("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; wc -c < x"),
            inputs=(Input(path="x", dataset=f"{name}-used"),),
            sites=("local",),
        )
    )
    from tests.testbed.waiting import wait_for

    wait_for(lambda: client.jobs.get(job.id).state is JobState.RUNNING, "the job to run")
    cache = Path(client.sites.get("local").inventory.workdir) / "cache"
    for path in cache.iterdir():
        os.utime(path, (1.0, 1.0), follow_symlinks=False)
    taken = client.datasets.collect_garbage(site="local", unused_since=datetime.now(UTC))
    digests = {which: client.datasets.get(f"{name}-{which}").digest for which in ("used", "unused")}
    assert digests["unused"] in taken.digests
    assert digests["used"] not in taken.digests
    go.touch()
    view = client.jobs.wait(job.id, timeout_s=ENDED_S)
    assert log(client, completed(client, view)).strip() == "1000"


# ---- cuts


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
async def test_a_cut_connection_is_gone_on_from(ssh_server: SshServer, folder: bool, top: Path, tmp_path: Path) -> None:
    """The network goes in the middle of a transfer; what arrived is kept, what comes then is the rest."""
    data = b"".join(canonical.stream(str(top))) if folder else DATA
    digits = hashlib.sha256(data).hexdigest()
    db = await Database.open(f"sqlite:///{tmp_path / 'i.db'}", durable=False)
    store = FolderStore(tmp_path / "store")
    store.prepare()
    async with store.spool.open("x") as incoming:
        await incoming.write(data)
        sealed, _, _ = await incoming.seal()
        await store.take(sealed, digits)
    chance = random.Random(len(data))
    async with Relay(ssh_server.host, ssh_server.port) as relay:
        hop = Hop(host=relay.host, port=relay.port, user=ssh_server.user.name, host_key=ssh_server.host_key)
        way = Reach(hops=(hop,), key_file=reach(ssh_server).key_file)
        workdir = ssh_server.user.home / f"cut-{digits[:8]}"
        spec = SiteSpec(name="far", kind="ssh", reach=way, workdir=str(workdir))
        site = open_site(spec, instance="0a1b2c3d", data_dir=tmp_path)
        user = await db.write(user_rows.create, "ada", Role.ADMIN, now=1.0)
        site_id = await db.write(site_rows.add, "far", "{}", now=1.0)
        place = Place(site_id=site_id, user_id=user.id, spec=spec, inventory=Inventory(), site=site)
        content = Content(label="dataset d", digest=f"sha256:{digits}", size=len(data), is_folder=folder)
        needs = Requirements(inputs=(InputNeed(path="x", content=content),))
        arrived: list[int] = []
        for _ in range(3):
            at = chance.randrange(len(data) // 4, len(data) * 3 // 4)
            done = asyncio.Event()

            def tell(so_far: int, total: int, at: int = at, done: asyncio.Event = done) -> None:
                arrived.append(so_far)
                if so_far >= at:
                    done.set()

            staging = Staging(db, store)  # as after a restart of the control plane
            ensuring = asyncio.create_task(staging.ensure(place, needs, progress=tell))
            waiting = asyncio.create_task(done.wait())
            await asyncio.wait({ensuring, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if ensuring.done():
                break  # it was quicker than the cut
            relay.cut()
            with pytest.raises(Unreachable):
                await ensuring
            assert not (workdir / "cache" / digits).exists()
            await site.hello(now=True)
        begun = len(arrived)
        await Staging(db, store).ensure(place, needs, progress=lambda so_far, total: arrived.append(so_far))
        assert arrived[begun] > 0, "it began anew"
        await site.close()
    found = workdir / "cache" / digits
    assert (canonical.digest(str(found))[0] if folder else hashlib.sha256(found.read_bytes()).hexdigest()) == digits
    assert [path.name for path in (workdir / "cache").iterdir() if not path.name.startswith(".")] == [digits]
    await db.close()


# ---- images

INSIDE = ("sh", "-c", "cat /etc/os-release; python3 -c 'print(6*7)'; cat in; echo made > out; echo $PATH")

CASES = [
    ("charliecloud", "oci"),
    ("charliecloud", "sqfs"),
    ("charliecloud", "folder"),
    ("charliecloud", "path"),
    ("charliecloud", "oci-archive:"),
    ("podman", "oci"),
    ("podman", "folder"),
    ("podman", "oci-archive:"),
    ("apptainer", "sif"),
    ("apptainer", "oci"),
    ("apptainer", "oci-archive:"),
]


@pytest.fixture(scope="module")
def image_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane whose jobs find the engines as this machine needs them."""
    engines.prepare_machine()
    folder = scratch.folder("image-plane")
    home = tmp_path_factory.mktemp("home")
    storage = home / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/graph"\nrunroot = "{home}/run"\n')
    env = {
        **os.environ,
        "CONTAINERS_CONF": str(engines.configure_podman(home, 0, 0)),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "USER": "root",
    }
    with ControlPlane(folder, env=env) as plane:
        yield plane


@pytest.mark.parametrize(("engine", "form"), CASES, ids=["-".join(case).rstrip(":") for case in CASES])
def test_images_run(
    engine: str, form: str, image_plane: ControlPlane, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = {"sqfs": "sqfs", "sif": "sif", "folder": "rootfs", "path": "rootfs"}.get(form, "oci_archive")
    if engine == "apptainer":
        request.getfixturevalue("sif")  # skips where there is no apptainer
    path: Path = request.getfixturevalue(made)
    (tmp_path / "in").write_text("read inside\n")
    name = f"{engine}-{form.rstrip(':')}"
    with image_plane.client() as client:
        client.sites.add(SiteSpec(name=name, kind="local", engine=engine))  # type: ignore[arg-type]
        client.datasets.register("in", tmp_path / "in")
        image = {"path": str(path), "oci-archive:": f"oci-archive:{path}"}.get(form, "")
        if not image:
            image = client.images.register(name, path).name
        jobs = [
            client.jobs.submit(
                JobRequest(
                    command=INSIDE,
                    image=image,
                    sites=(name,),
                    inputs=(Input(path="in", dataset="in"),),
                    outputs=(Output(path="out"),),
                    retry=ONCE,
                )
            )
            for _ in range(3)
        ]
        for view in client.jobs.wait_many([job.id for job in jobs], timeout_s=240):
            said = log(client, completed(client, view))
            assert "ID=isthmus-testbed" in said
            assert "42\nread inside\n" in said
            assert said.splitlines()[-1].startswith("/usr/bin:/bin") or engine != "charliecloud" or "oci" not in form
        assert client.jobs.download(jobs[0].id, "out", tmp_path / "out").read_text() == "made\n"


def test_an_image_that_no_engine_there_runs(client: Client, name: str, sqfs: Path) -> None:
    client.sites.add(SiteSpec(name=name, kind="local", engine="podman"))
    client.images.register(name, sqfs)
    with pytest.raises(Invalid, match=r"its image runs with apptainer, singularity, charliecloud; the site has podman"):
        client.jobs.submit(JobRequest(command=("true",), image=name, sites=(name,)))


def test_a_name_that_is_no_image(client: Client, name: str) -> None:
    with pytest.raises(Conflict) as failure:
        client.images.register_reference(name, "docker://python:3.12")
        client.images.register_reference(name, "docker://python:3.13", version="1")
    assert failure.value.code == "version-exists"
    assert hex_of("sha256:" + "a" * 64) == "a" * 64
