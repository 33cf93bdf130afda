"""A secret reaches the command that was given it, and is seen nowhere else: all of /proc and each file is looked at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets as random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.client import Client
from isthmus.control.tokens import AttemptTokens
from isthmus.control.vault import Vault
from isthmus.domain.jobs import JobRequest, Resources, Retry
from isthmus.domain.sites import SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.views import JobView
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.sites import slurm_site, ssh_site
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer
from tests.testbed.users import User
from tests.testbed.waiting import wait_for

KEY = "isthmus-test-" + random.token_hex(12)


class Watch:
    """Reads the arguments of every process of this machine, over and over, and remembers which held one of `words`."""

    def __init__(self, *words: str) -> None:
        self.words = [word.encode() for word in words]
        self.seen: set[str] = set()
        self.rounds = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    with contextlib.suppress(OSError):
                        line = Path(f"/proc/{entry}/cmdline").read_bytes()
                        if any(word in line for word in self.words):
                            self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))
            self.rounds += 1


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own: every file of it is searched."""
    with ControlPlane(scratch.folder("secrets") / "plane") as plane:
        yield plane


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Iterator[Client]:
    with plane.client() as client:
        client.secrets.set("hub", KEY)
        yield client


CASES = ["local", "ssh", "slurm", "slurm-ranks", "charliecloud", "podman"]


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, client: Client, ssh_server: SshServer, slurm_login: SshServer, users: list[User]
) -> tuple[str, JobRequest]:
    """A site's name, and a job for it that compares its secret and then waits."""
    kind: str = request.param
    site = f"{kind}-{random.token_hex(2)}"  # a test that is run again begins with a new one
    image, nodes, more = "", 1, {}
    spec: SiteSpec | None = None
    if kind in ("charliecloud", "podman"):
        image = "secret-box"
        spec = ssh_site(site, ssh_server, engine=kind)
        if not any(each.name == image for each in client.images.list(name=image).artefacts):
            client.images.register(image, request.getfixturevalue("oci_archive"))
    elif kind == "ssh":
        spec = ssh_site(site, ssh_server)
    elif kind.startswith("slurm"):
        spec = slurm_site(site, slurm_login)
        nodes = 2 if kind == "slurm-ranks" else 1
    name = "local"
    if spec is not None:
        name = spec.name
        client.sites.add(spec)
        more = {"resources": Resources(nodes=nodes)}
    # The job knows the digest of the right value alone; where its secret is another, it fails.
    script = (
        'test "$(printf %s "$API_KEY" | sha256sum)" = "$WANTED  -" || exit 9\n'
        "echo right; while [ ! -e $ISTHMUS_CHECKPOINT/go ]; do sleep 0.1; done"
    )
    wanted = {"WANTED": hashlib.sha256(KEY.encode()).hexdigest()}
    return name, JobRequest(
        script=script, image=image, env=wanted, secrets={"API_KEY": "hub"}, sites=(name,), checkpoint=True,
        retry=Retry(attempts=1), **more,
    )  # fmt: skip


def test_a_secret_is_seen_by_its_job_alone(
    plane: ControlPlane, client: Client, case: tuple[str, JobRequest], slurm: SlurmCluster, users: list[User]
) -> None:
    name, request = case
    with Watch(KEY) as watch:
        job = client.jobs.submit(request).id
        view = wait_for(lambda: _up(client, job), "it to run", deadline_s=60, every_s=0.1)
        assert view.state is JobState.RUNNING, f"{view}\n{client.jobs.log(job).data!r}"
        attempt = client.jobs.attempts(job)[-1]
        workdir = Path(client.sites.get(name).inventory.workdir)
        # While it runs: it is in the environment of the job's own processes, and in no file, here or there.
        holders = {pid for pid in _with_environment(KEY) if attempt.key.encode() not in _environment(pid)}
        assert not holders, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in holders]
        assert _files_with(KEY, plane.folder, workdir, slurm.conf.parents[1]) == []
        folder = workdir / "jobs" / attempt.key
        assert not (folder / "secrets.json").exists()
        # Nor may others look at what else lies there.
        for other in users[1:2]:
            done = subprocess.run(
                other.command("/bin/ls", "-R", str(workdir)), capture_output=True, text=True, check=False
            )
            assert "Permission denied" in done.stderr
            assert done.stdout == ""
        (workdir / "checkpoints" / str(job)).mkdir(exist_ok=True)
        (workdir / "checkpoints" / str(job) / "go").touch()
        (view,) = client.jobs.wait_many([job], timeout_s=60)
    assert view.state is JobState.COMPLETED, f"{view}\n{client.jobs.log(job).data!r}"
    assert watch.rounds > 20
    assert not watch.seen
    # What is told of it names it, and no more.
    told = [repr(client.jobs.get(job)), repr(client.jobs.history(job)), repr(client.jobs.attempts(job)), repr(attempt)]
    told += [repr(client.secrets.list()), repr(client.events.list(limit=1000)), plane.log.read_text()]
    assert "hub" in told[0]
    assert not [text for text in told if KEY in text]
    assert _files_with(KEY, plane.folder, workdir, slurm.conf.parents[1]) == []


def test_a_secret_that_waits_in_a_queue_is_for_its_owner_alone(
    plane: ControlPlane, client: Client, slurm_login: SshServer, slurm: SlurmCluster, users: list[User]
) -> None:
    """Until the job starts, its secrets and its attempt's token lie in one file of its folder."""
    name = f"queue-{random.token_hex(2)}"
    client.sites.add(slurm_site(name, slurm_login))
    held = slurm_login.run("sbatch --parsable --output=/dev/null -N2 --exclusive --wrap 'sleep 600'").strip()
    wait_for(lambda: slurm_login.run(f"squeue -h -j {held} -o %T").strip() == "RUNNING", "the cluster to be full")
    try:
        job = client.jobs.submit(
            JobRequest(command=("true",), secrets={"API_KEY": "hub"}, sites=(name,))
        ).id  # fmt: skip
        wait_for(lambda: client.jobs.get(job).state is JobState.PENDING, "PENDING", deadline_s=30, every_s=0.1)
        key = client.jobs.attempts(job)[-1].key
        token = AttemptTokens(Vault.open(plane.data).derived("attempt tokens")).token(key)
        workdir = Path(client.sites.get(name).inventory.workdir)
        (path,) = _files_with(KEY, plane.folder, workdir, slurm.conf.parents[1])
        assert path == workdir / "jobs" / key / "secrets.json"
        assert _files_with(token, plane.folder, workdir, slurm.conf.parents[1]) == [path]
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == slurm_login.user.uid
        assert [folder.stat().st_mode & 0o777 for folder in (path.parent, workdir)] == [0o700, 0o700]
        done = subprocess.run(users[1].command("/bin/cat", str(path)), capture_output=True, text=True, check=False)
        assert "Permission denied" in done.stderr
        # One that is killed before it starts leaves nothing behind.
        client.jobs.kill(job)
        (view,) = client.jobs.wait_many([job], timeout_s=60)
        assert view.state is JobState.KILLED
        assert _files_with(KEY, plane.folder, workdir, slurm.conf.parents[1]) == []
    finally:
        slurm_login.run(f"scancel {held}")


def _up(client: Client, job: int) -> JobView | None:
    """The job, once it has compared its secret and is known to run; or has ended."""
    view = client.jobs.get(job)
    said = b"right" in client.jobs.log(job).data
    return view if view.state.ended or (said and view.state is JobState.RUNNING) else None


def _with_environment(word: str) -> Iterator[int]:
    """Processes of this machine, without this one's, that have the word in their environment."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and word.encode() in _environment(int(entry)):
            yield int(entry)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _files_with(word: str, *folders: Path) -> list[Path]:
    """Files below the folders that hold the word, whoever may read them."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and word.encode() in path.read_bytes():
                    found.append(path)
    return found
