"""What must hold, whatever fails: the control plane killed, sites cut off, schedulers that lie, disks that are full.

Each job here leaves a witness of its own (a file that it writes to), so that no part of ours is asked whether it ran.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

from isthmus.client import Client
from isthmus.control.tokens import AttemptTokens
from isthmus.control.vault import Vault
from isthmus.domain.jobs import JobRequest, Resources, Retry
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, Limits
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.units import Bytes, Seconds
from isthmus.domain.views import AttemptView, JobView, SiteView
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.disk import SmallDisk
from tests.testbed.network import Network
from tests.testbed.postgres import PostgresServer
from tests.testbed.sites import slurm_site, ssh_site
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import BANNER, NOISE, SshServer
from tests.testbed.users import User
from tests.testbed.waiting import wait_for

KILLS = 200
JOBS = 500
ONCE = Retry(attempts=1)
PATIENCE_S = 150.0  # two cores, and other tests beside


@pytest.fixture
def folder() -> Path:
    """A fresh folder that every user may write to."""
    path = scratch.folder("faults")
    path.chmod(0o777)
    return path


@pytest.fixture
def client(plane: ControlPlane) -> Iterator[Client]:
    with plane.client() as client:
        yield client


def script(text: str, site: str, **more: Any) -> JobRequest:
    return JobRequest(script=text, sites=(site,), **more)


def until(
    client: Client, job: int, condition: Callable[[JobView], bool], what: str, deadline_s: float = PATIENCE_S
) -> JobView:
    """Wait until the job is as the condition wants it."""

    def look() -> JobView | None:
        view = client.jobs.get(job)
        return view if condition(view) else None

    found = wait_for(look, f"job {job}: {what}", deadline_s=deadline_s, every_s=0.1, story=lambda: story(client, job))
    assert found is not None
    return found


def running(client: Client, job: int) -> JobView:
    return until(client, job, lambda view: view.state is JobState.RUNNING, "RUNNING")


def ended(client: Client, *jobs: int, timeout_s: float = PATIENCE_S) -> list[JobView]:
    views = client.jobs.wait_many(jobs, timeout_s=timeout_s)
    late = [view.id for view in views if not view.state.ended]
    assert not late, "\n".join(story(client, job) for job in late)
    return views


def last(client: Client, job: int) -> AttemptView:
    return client.jobs.attempts(job)[-1]


def log(client: Client, job: int) -> str:
    """All that the last attempt of a job that has ended wrote."""
    return b"".join(client.jobs.follow(job)).decode()


def story(client: Client, job: int) -> str:
    """What happened to a job, for whoever reads why a test failed."""
    view = client.jobs.get(job)
    site = client.sites.get(view.site) if view.site else None
    lines = [f"job {job}: {view.state.value} {view.reason.value} {view.message}"]
    lines += [
        f"  {event.noun} {event.verb} {event.after} {event.reason} {event.message}"
        for event in client.jobs.history(job)
    ]
    lines += [f"  {attempt}" for attempt in client.jobs.attempts(job)]
    return "\n".join([*lines, f"  site: {site.health.value} {site.health_message}" if site else ""])


def site_says(
    client: Client, name: str, condition: Callable[[SiteView], bool], deadline_s: float = PATIENCE_S
) -> SiteView:
    def look() -> SiteView | None:
        view = client.sites.get(name)
        return view if condition(view) else None

    found = wait_for(
        look, f"site {name}", deadline_s=deadline_s, every_s=0.1, story=lambda: str(client.sites.get(name))
    )
    assert found is not None
    return found


# ---- the control plane


@pytest.mark.timeout(600)
def test_the_control_plane_is_killed_two_hundred_times(folder: Path, slurm: SlurmCluster) -> None:
    """500 jobs on this machine and on SLURM; each writes a line with its attempt. The file is the judge."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    judge = folder / "judge"
    judge.touch()
    line = f'echo "$ISTHMUS_JOB_ID $ISTHMUS_ATTEMPT" >> {shlex.quote(str(judge))}'
    with ControlPlane(folder / "plane", env=slurm.env()) as plane:
        with plane.client() as client:
            workdir = str(folder / "slurm")
            client.sites.add(slurm_site("cluster", workdir=workdir, limits=Limits(jobs=60)))
            jobs = client.jobs.submit_many(
                [
                    JobRequest(
                        name=f"job {number}",
                        command=("sh", "-c", f"{line}; sleep 0.0{number % 10}"),
                        sites=("local",) if number % 2 else ("cluster",),
                    )
                    for number in range(JOBS)
                ]
            )
        ids = [job.id for job in jobs]
        assert len(ids) == JOBS
        kills = 0
        while kills < KILLS:
            # Half of the kills come while it runs, a quarter while it starts, the rest in its first moments.
            kind = dice.random()
            if kind < 0.25:
                plane.kill()
                plane.begin()
                _sleep(dice.uniform(0, 0.2))
                plane.kill_unready()
                kills += 2
                plane.start()
            else:
                _sleep(dice.uniform(0, 0.5 if kind < 0.75 else 0.02))
                plane.kill()
                kills += 1
                plane.start()
        with plane.client() as client:
            done = ended(client, *ids, timeout_s=240)
        lines = collections.Counter(line.split()[0] for line in judge.read_text().splitlines())
        print(f"{kills} kills, {plane.starts} starts")
        states = collections.Counter((job.state, job.reason) for job in done)
        assert states == {(JobState.COMPLETED, Reason.NONE): JOBS}
        assert set(lines) == {str(job_id) for job_id in ids}, "a job is lost"
        assert set(lines.values()) == {1}, "a job ran twice"
        assert {job.attempts for job in done} == {1}


def _sleep(seconds: float) -> None:
    """Let the control plane get somewhere: what is killed where is the dice's to say, there is nothing to wait for."""
    threading.Event().wait(seconds)


def test_two_control_planes_share_one_database(
    folder: Path, postgres: PostgresServer, slurm_login: SshServer, ssh_server: SshServer
) -> None:
    """The leader is killed, and the next one frozen past its lease: another goes on, and nothing happens twice."""
    judge = folder / "judge"
    judge.touch()
    judge.chmod(0o666)
    line = f"echo $ISTHMUS_JOB_ID >> {judge}"
    shared = {"database": postgres.url, "local_site": False}
    env = {**os.environ, "ISTHMUS_SECRET_KEY": "q" * 43 + "="}
    with (
        ControlPlane(folder / "one", env=env, **shared) as one,
        ControlPlane(folder / "two", env=env, **shared) as two,
        one.client() as of_one,
        two.client() as of_two,
    ):
        of_two.sites.add(ssh_site("pair-box", ssh_server))
        of_one.sites.add(slurm_site("pair-cluster", slurm_login))

        def submit(client: Client, count: int) -> list[int]:
            sites = ("pair-box", "pair-cluster")
            return [job.id for job in client.jobs.submit_many([script(line, sites[n % 2]) for n in range(count)])]

        jobs = submit(of_two, 80)
        wait_for(lambda: judge.stat().st_size, "the first job to have run", deadline_s=60)
        assert _reigns(one) == 1
        assert _reigns(two) == 0
        one.kill()
        jobs += submit(of_two, 20)
        ended(of_two, *jobs)
        assert _reigns(two) == 1

        one.start()
        later = submit(of_two, 40)
        os.kill(two.pid, signal.SIGSTOP)
        try:
            later += submit(of_one, 20)
            ended(of_one, *later, timeout_s=90)
            assert _reigns(one) == 2
        finally:
            os.kill(two.pid, signal.SIGCONT)
        wait_for(lambda: "leads no more" in two.log.read_text(), "the one that slept to notice", deadline_s=60)
        jobs += [*later, *submit(of_two, 20)]
        done = ended(of_two, *jobs)
        assert _reigns(one) == 2
        assert {(job.state, job.attempts) for job in done} == {(JobState.COMPLETED, 1)}
        assert collections.Counter(judge.read_text().split()) == collections.Counter(map(str, jobs))
        assert [event.after for event in of_two.jobs.history(jobs[0]) if event.noun == "job"].count("COMPLETED") == 1


def _reigns(plane: ControlPlane) -> int:
    return plane.log.read_text().count(" leads\n")


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("TESTBED_CLOCK"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, at);
    if (!code && id == CLOCK_REALTIME) at->tv_sec += offset();
    return code;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return code;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def test_the_clock_jumps(folder: Path) -> None:
    """A day forwards and two days back, for the control plane alone: the site's clock says another time all along."""
    offset = folder / "offset"
    offset.write_text("0")
    (folder / "shim.c").write_text(SHIM)
    shim = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, folder / "shim.c", "-ldl"], check=True)
    go, judge = folder / "go", folder / "judge"
    env = {**os.environ, "LD_PRELOAD": str(shim), "TESTBED_CLOCK": str(offset)}
    with ControlPlane(folder / "plane", env=env) as plane, plane.client() as client:
        runs = client.jobs.submit(script(beats(go, judge), "local")).id
        running(client, runs)
        again = Retry(attempts=2, on=(Reason.EXIT_CODE,), delay=Seconds(2))
        for number, seconds in enumerate((86_400, -86_400)):
            fails_once = f"[ -e {folder}/mark{number} ] || {{ touch {folder}/mark{number}; exit 1; }}"
            waits = client.jobs.submit(script(fails_once, "local", retry=again)).id
            until(client, waits, lambda view: view.reason is Reason.BACKOFF, "waiting to be tried again")
            offset.write_text(f"{seconds}")
            quick = client.jobs.submit(script("true", "local")).id
            assert [(job.state, job.attempts) for job in ended(client, quick, waits)] == [
                (JobState.COMPLETED, 1),
                (JobState.COMPLETED, 2),
            ]
            assert client.jobs.get(runs).state is JobState.RUNNING
            plane.kill()
            plane.start()
            assert client.jobs.get(runs).state is JobState.RUNNING
        go.touch()
        (done,) = ended(client, runs)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
        assert heard(client, runs) == list(range(1, int(judge.read_text()) + 1))


def test_reports_that_come_twice_late_or_in_pieces(plane: ControlPlane, client: Client, folder: Path) -> None:
    """The runner pushes, the proxy brings, and here everything is sent again many times from any offset."""
    go, judge = folder / "go", folder / "judge"
    job = client.jobs.submit(script(beats(go, judge, pause_s=0.01), "local")).id
    running(client, job)
    attempt = last(client, job)
    inventory = client.sites.get("local").inventory
    reports = Path(inventory.workdir) / "jobs" / attempt.key / "reports"
    token = AttemptTokens(Vault.open(plane.data).derived("attempt tokens")).token(attempt.key)
    dice = random.Random("reports")

    def push(_: int) -> int:
        text = reports.read_bytes()
        begin = dice.choice([0, 0, dice.randrange(len(text)), len(text), len(text) + 100])
        end = dice.randrange(begin, len(text) + 1) if begin < len(text) else len(text)
        body = {"from": begin, "reports": text[begin:end].decode()}
        return _post(f"{plane.url}/v1/attempts/{attempt.key}/reports", token, body)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(400))) == {200}
    go.touch()
    (done,) = ended(client, job)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
    said = list(range(1, int(judge.read_text()) + 1))
    assert heard(client, job) == said
    # Late ones: the token is no longer good, and nothing changes.
    history = client.jobs.history(job)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(20))) == {401}
    assert client.jobs.history(job) == history
    assert heard(client, job) == said
    assert client.jobs.get(job) == done or client.jobs.get(job).state is JobState.COMPLETED


def _post(url: str, token: str, body: dict[str, Any]) -> int:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def beats(go: Path, judge: Path, *, pause_s: float = 0.2) -> str:
    """A script that reports 1, 2, 3, … until `go` is there, and then writes how far it came."""
    return (
        f'i=0; while [ ! -e {go} ]; do i=$((i+1)); echo "isthmus: beat=$i step=$i"; sleep {pause_s}; done; '
        f"echo $i > {judge}"
    )


def heard(client: Client, job: int) -> list[float | None]:
    """The beats that arrived, in order."""
    (series,) = client.jobs.metrics(job, names=["beat"], points=100_000)
    assert series.count == len(series.points)
    assert [point.step for point in series.points] == [point.value for point in series.points]
    return [point.value for point in series.points]


# ---- sites


def test_what_runs_at_a_site_that_is_cut_off_goes_on(
    client: Client, users: list[User], folder: Path, slurm_isolated: SlurmCluster, slurm_isolated_login: SshServer
) -> None:
    far = slurm_isolated.network
    assert far is not None
    assert slurm_isolated.head is not None
    with Network(hosts=1) as near, SshServer(users, host=near.hosts[0]) as box:
        client.sites.add(ssh_site("cut-box", box))
        client.sites.add(slurm_site("cut-cluster", slurm_isolated_login))
        go = folder / "go"
        jobs = {
            name: client.jobs.submit(script(beats(go, folder / name), name)).id for name in ("cut-box", "cut-cluster")
        }
        for job in jobs.values():
            running(client, job)
        near.cut(near.hosts[0])
        far.cut(slurm_isolated.head)
        try:
            for name, job in jobs.items():
                said = site_says(client, name, lambda view: view.health is Health.UNREACHABLE).health_message
                assert "did not answer" in said or "connection" in said.lower(), said
                assert running(client, job).attempts == 1
            go.touch()
            for name in jobs:
                wait_for((folder / name).exists, f"the job at {name} to go on")
            assert {client.jobs.get(job).state for job in jobs.values()} == {JobState.RUNNING}
        finally:
            near.mend(near.hosts[0])
            far.mend(slurm_isolated.head)
        for name, job in jobs.items():
            (done,) = ended(client, job)
            assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
            assert heard(client, job) == list(range(1, int((folder / name).read_text()) + 1))
            assert site_says(client, name, lambda view: view.health is Health.UP).health_message == ""


def test_connections_break_in_the_middle_of_what_is_said(client: Client, users: list[User], folder: Path) -> None:
    """Between banners and a talkative profile, every reply may be cut anywhere: each job runs once all the same."""
    judge = folder / "judge"
    judge.touch()
    judge.chmod(0o666)
    with SshServer(users, banner=BANNER, noise=NOISE) as server:
        client.sites.add(ssh_site("noisy", server))
        jobs = [
            job.id
            for job in client.jobs.submit_many(
                [script(f"echo $ISTHMUS_JOB_ID >> {judge}; sleep 0.{n % 4}", "noisy") for n in range(80)]
            )
        ]
        dice = random.Random("cuts")
        cuts = 0
        while cuts < 40 and len(judge.read_text().split()) < len(jobs):
            server.drop_connections()
            cuts += 1
            _sleep(dice.uniform(0, 0.4))
        done = ended(client, *jobs)
    print(f"{cuts} cuts")
    assert cuts > 5
    assert {(job.state, job.attempts) for job in done} == {(JobState.COMPLETED, 1)}
    assert collections.Counter(judge.read_text().split()) == collections.Counter(map(str, jobs))


@pytest.mark.parametrize("kind", ["ssh", "slurm"])
def test_the_disk_of_a_site_is_full(
    client: Client, folder: Path, kind: str, ssh_server: SshServer, slurm_login: SshServer
) -> None:
    name, go = f"disk-{kind}", folder / "go"
    with SmallDisk(32) as disk:
        workdir = str(disk.path / "work")
        spec = (ssh_site(name, ssh_server, workdir=workdir) if kind == "ssh"
                else slurm_site(name, slurm_login, workdir=workdir))  # fmt: skip
        client.sites.add(spec)
        quiet = client.jobs.submit(script(f"while [ ! -e {go} ]; do sleep 0.1; done", name)).id
        running(client, quiet)
        # One job fills the disk, and fails by it.
        eater = client.jobs.submit(script("dd if=/dev/zero of=big bs=1M", name, retry=ONCE)).id
        (eaten,) = ended(client, eater)
        assert (eaten.state, eaten.reason) == (JobState.FAILED, Reason.DISK_FULL), story(client, eater)
        disk.fill()
        # Another that needs no disk is not harmed: its result finds its room.
        go.touch()
        (done,) = ended(client, quiet)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
        # One that comes now waits, and the reason is shown.
        disk.fill()
        late = client.jobs.submit(script("true", name)).id
        said = site_says(client, name, lambda view: "No space" in view.health_message)
        assert "Free some space" in said.health_message
        waiting = client.jobs.get(late)
        assert waiting.state is JobState.STAGING
        assert "No space" in waiting.message
        (disk.path / "work" / "jobs" / last(client, eater).key / "work" / "big").unlink()
        disk.make_room()
        (done,) = ended(client, late)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
        site_says(client, name, lambda view: view.health is Health.UP and not view.health_message)


def test_a_kill_lets_a_job_write_its_checkpoint(client: Client, slurm_login: SshServer, folder: Path) -> None:
    client.sites.add(slurm_site("grace", slurm_login))
    go = folder / "go"
    text = f"""
    trap 'echo $i > $ISTHMUS_CHECKPOINT/i; echo saved $i; exit 0' TERM
    i=$(cat $ISTHMUS_CHECKPOINT/i 2> /dev/null || echo 0)
    echo "begins at $i"
    while [ ! -e {go} ]; do i=$((i+1)); sleep 0.05; done
    """
    job = client.jobs.submit(script(text, "grace", checkpoint=True, grace=Seconds(20))).id
    running(client, job)
    client.jobs.kill(job)
    (killed,) = ended(client, job)
    assert (killed.state, killed.reason, killed.kill_by) == (JobState.KILLED, Reason.KILLED, "admin")
    begin, *_, saved = log(client, job).splitlines()  # between them the shell may tell of its sleep
    assert begin == "begins at 0"
    client.jobs.retry(job)
    running(client, job)
    go.touch()
    (done,) = ended(client, job)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 2)
    assert log(client, job).split() == ["begins", "at", saved.split()[1]]
    assert int(saved.split()[1]) > 0


# ---- batch systems


@pytest.fixture(scope="module", autouse=True)
def overdue(plane: ControlPlane, slurm: SlurmCluster, slurm_login: SshServer) -> int:
    """A job over the time that SLURM gives it: begun first and looked at last, since slurmctld looks every 30 s."""
    with plane.client() as client:
        client.sites.add(slurm_site("overdue", slurm_login))
        text = "trap 'echo saved > $ISTHMUS_CHECKPOINT/state; exit 0' TERM; while :; do sleep 0.1; done"
        job = client.jobs.submit(script(text, "overdue", checkpoint=True, retry=ONCE)).id
        running(client, job)
        slurm.command("scontrol", "update", f"JobId={last(client, job).native_id}", "TimeLimit=0")
    return job


@pytest.mark.parametrize("how", ["error", "garbage", "empty", "hang"])
def test_a_squeue_that_fails_ends_no_job(
    client: Client, slurm: SlurmCluster, slurm_login: SshServer, folder: Path,
    how: Literal["error", "hang", "garbage", "empty"],
) -> None:  # fmt: skip
    name, go = f"squeue-{how}", folder / "go"
    client.sites.add(slurm_site(name, slurm_login))
    stays, unwanted = (
        client.jobs.submit(script(f"while [ ! -e {file} ]; do sleep 0.1; done", name)).id for file in (go, "never")
    )
    for job in (stays, unwanted):
        running(client, job)
    slurm.break_squeue(how)
    try:
        wait_for(lambda: slurm.squeue_failures() >= (1 if how == "hang" else 4), "squeue to be asked", deadline_s=60)
        if how in ("error", "garbage"):
            said = {"error": "Unable to contact slurm controller", "garbage": "squeue"}[how]
            site_says(client, name, lambda view: said in view.health_message)
        # What needs no answer of squeue goes on as ever.
        quick = client.jobs.submit(script("true", name)).id
        client.jobs.kill(unwanted)
        done, killed = ended(client, quick, unwanted)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
        assert (killed.state, killed.reason) == (JobState.KILLED, Reason.KILLED)
        view = client.jobs.get(stays)
        assert (view.state, view.attempts) == (JobState.RUNNING, 1)
    finally:
        slurm.mend()

    def well(view: SiteView) -> bool:
        # One that hangs would hang for a minute more.
        _kill_those_with(b"sleep\x00100000\x00", f"SLURM_CONF={slurm.conf}".encode())
        return view.health is Health.UP and not view.health_message

    site_says(client, name, well)
    go.touch()
    (done,) = ended(client, stays)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 1)


def _kill_those_with(command: bytes, environment: bytes) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes() == command and environment in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def test_other_jobs_of_the_user_fill_a_limit_and_leave_it(client: Client, slurm_login: SshServer) -> None:
    """Nothing of ours is there meanwhile that would be asked about."""
    other = slurm_login.run("sbatch --parsable --output=/dev/null --wrap 'sleep 600'").strip()
    client.sites.add(slurm_site("limited", slurm_login, limits=Limits(jobs=1)))
    job = client.jobs.submit(script("true", "limited")).id
    until(client, job, lambda view: view.reason is Reason.LIMIT, "waiting for the limit")
    slurm_login.run(f"scancel {other}")
    (done,) = ended(client, job)
    assert done.state is JobState.COMPLETED


@pytest.fixture(scope="module")
def fragile(users: list[User]) -> Iterator[tuple[SlurmCluster, SshServer]]:
    """A cluster of two nodes to be broken, and its login node."""
    with SlurmCluster(cpus=2) as cluster, SshServer(users, env=cluster.login_env()) as login:
        yield cluster, login


def test_the_scheduler_restarts(client: Client, fragile: tuple[SlurmCluster, SshServer], folder: Path) -> None:
    cluster, login = fragile
    client.sites.add(slurm_site("restarting", login))
    go, judge = folder / "go", folder / "judge"
    judge.touch()
    judge.chmod(0o666)
    text = f"while [ ! -e {go} ]; do sleep 0.1; done; echo $ISTHMUS_JOB_ID >> {judge}"
    whole_node = Resources(cpus=2)
    jobs = [client.jobs.submit(script(text, "restarting", resources=whole_node)).id for _ in range(4)]
    states = [JobState.PENDING] * 2 + [JobState.RUNNING] * 2
    wait_for(
        lambda: sorted(client.jobs.get(job).state for job in jobs) == states,
        "two jobs to run and two to wait",
        deadline_s=60,
        story=lambda: "\n".join(story(client, job) for job in jobs),
    )
    cluster.stop_controller()
    jobs.append(client.jobs.submit(script(text, "restarting")).id)
    site_says(client, "restarting", lambda view: "Unable to contact" in view.health_message)
    go.touch()
    wait_for(lambda: len(judge.read_text().split()) == 2, "those that ran to go on")
    cluster.start_controller()
    done = ended(client, *jobs, timeout_s=90)
    assert {(job.state, job.attempts) for job in done} == {(JobState.COMPLETED, 1)}
    assert sorted(judge.read_text().split()) == sorted(map(str, jobs))


def test_the_job_of_a_node_that_died_is_tried_again(
    client: Client, fragile: tuple[SlurmCluster, SshServer], folder: Path
) -> None:
    cluster, login = fragile
    client.sites.add(slurm_site("dying", login))
    go = folder / "go"
    text = f"echo attempt $ISTHMUS_ATTEMPT; while [ ! -e {go} ]; do sleep 0.1; done"
    job = client.jobs.submit(script(text, "dying")).id
    node = running(client, job).node
    assert node in cluster.node_names
    cluster.kill_node(node)
    cluster.mark_down(node)
    until(client, job, lambda view: view.attempts == 2 and view.state is JobState.RUNNING, "RUNNING again")
    first, second = client.jobs.attempts(job)
    assert (first.state, first.reason) == (AttemptState.FAILED, Reason.NODE_FAIL)
    assert second.nodes and second.nodes != node
    go.touch()
    (done,) = ended(client, job)
    assert done.state is JobState.COMPLETED
    assert log(client, job) == "attempt 2\n"
    cluster.start_node(node)


HUNGRY = "exec /usr/bin/python3 -c 'import time; x = bytearray(200 << 20); time.sleep(4)'"


@pytest.fixture(params=["cgroup", "gather"])
def confining(request: pytest.FixtureRequest, users: list[User]) -> Iterator[SshServer]:
    """The login node of a cluster whose kernel, or whose slurmd, kills jobs for their memory."""
    if request.param == "cgroup":
        yield request.getfixturevalue("slurm_login")
        return
    with SlurmCluster(nodes=1, memory="gather") as cluster, SshServer(users, env=cluster.login_env()) as login:
        yield login


def test_a_job_killed_for_its_memory_is_tried_again_with_more(
    client: Client, confining: SshServer, request: pytest.FixtureRequest
) -> None:
    name = "memory-" + request.node.callspec.params["confining"]
    client.sites.add(slurm_site(name, confining))
    policy = Retry(attempts=2, on=(Reason.OOM,), mem_factor=8)
    small = Resources(mem=Bytes(64 << 20))
    once = client.jobs.submit(script(HUNGRY, name, resources=small)).id
    again = client.jobs.submit(script(HUNGRY, name, resources=small, retry=policy)).id
    failed, done = ended(client, once, again)
    assert (failed.state, failed.reason, failed.attempts) == (JobState.FAILED, Reason.OOM, 1), story(client, once)
    assert (done.state, done.attempts) == (JobState.COMPLETED, 2), story(client, again)
    assert [(attempt.reason, attempt.plan["mem"]) for attempt in client.jobs.attempts(again)] == [
        (Reason.OOM, 64 << 20),
        (Reason.NONE, 512 << 20),
    ]


def test_a_scheduler_that_forgets_what_ended(
    plane: ControlPlane, client: Client, users: list[User], folder: Path
) -> None:
    """No accounting, and squeue knows nothing any more: a result that lies there counts, and without one it is LOST."""
    with (
        SlurmCluster(nodes=1, min_job_age_s=2) as cluster,
        SshServer(users, env=cluster.login_env()) as login,
    ):
        client.sites.add(slurm_site("forgetful", login))
        go, mark = folder / "go", folder / "mark"
        wait = f"while [ ! -e {go} ]; do sleep 0.1; done"
        well = client.jobs.submit(script(f"{wait}; echo well", "forgetful")).id
        # Its runner is killed, as by an administrator who cleans up: no report tells of the end.
        badly = client.jobs.submit(
            script(f"[ -e {mark} ] && exit 0; touch {mark}; {wait}; kill -9 $PPID", "forgetful")
        ).id
        for job in (well, badly):
            running(client, job)
        natives = {last(client, job).native_id for job in (well, badly)}
        plane.kill()
        go.touch()

        def listed() -> set[str]:
            return natives & set(cluster.command("squeue", "--noheader", "--states=all", "--format=%i").split())

        wait_for(lambda: not listed(), "SLURM to forget them", deadline_s=60, every_s=0.5)
        plane.start()
        (done,) = ended(client, well)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 1)
        (done,) = ended(client, badly)
        assert (done.state, done.attempts) == (JobState.COMPLETED, 2)
        first = client.jobs.attempts(badly)[0]
        assert (first.state, first.reason) == (AttemptState.LOST, Reason.LOST)
        fence = Path(client.sites.get("forgetful").inventory.workdir) / "jobs" / first.key / "fence"
        assert fence.exists() or (fence.parent / "kill").exists()


def test_a_job_over_its_time_at_the_scheduler_is_timed_out(client: Client, overdue: int) -> None:
    (late,) = ended(client, overdue, timeout_s=60)
    assert (late.state, late.reason) == (JobState.FAILED, Reason.TIMEOUT), story(client, overdue)
    workdir = Path(client.sites.get("overdue").inventory.workdir)
    assert (workdir / "checkpoints" / str(overdue) / "state").read_text() == "saved\n"
