"""The whole journey, as a person makes it at the command line: from the address of a cluster to results at home.

Two real SLURM clusters, each behind an sshd where the person is a normal user. The nodes of one reach the control
plane, and push; those of the other reach nothing but their head, and all is carried by the proxy.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.network import Network
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer
from tests.testbed.terminal import Result
from tests.testbed.users import User
from tests.testbed.waiting import wait_for

ISTHMUS = Path(sys.executable).with_name("isthmus")
DATA_BYTES = 12_000_000
TRAIN = """#!/usr/bin/env python3
import hashlib, json, os, pathlib, signal, sys, time
import isthmus

kept = pathlib.Path(os.environ["ISTHMUS_CHECKPOINT"])
state = kept / "step"
step = int(state.read_text()) if state.exists() else 0
print("begins at", step, "with GPU", os.environ.get("CUDA_VISIBLE_DEVICES", "none"), flush=True)


def stop(number, frame):
    state.write_text(str(step))
    print("saved", step, flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
data = pathlib.Path("prices/daily.csv").read_bytes()
while not (kept / "go").exists():
    step += 1
    isthmus.report(loss=1 / step, step=step, progress=(step, 1000))
    print("step", step, flush=True)
    time.sleep(0.1)
os.mkdir("model")
pathlib.Path("model/digest").write_text(hashlib.sha256(data).hexdigest())
pathlib.Path("model/facts.json").write_text(json.dumps({
    "steps": step, "system": open("/etc/os-release").read(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
}))
"""


@dataclass
class Person:
    """Somebody at a terminal, logged in to the control plane."""

    folder: Path
    plane: ControlPlane
    written: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("ISTHMUS_")}
        return {**plain, "ISTHMUS_CONFIG": str(self.folder / "config")}

    def __call__(self, *words: object, code: int | None = 0, stdin: str = "") -> Result:
        """Type a command; it must exit with this code, or None: with any."""
        argv = [str(ISTHMUS), *map(str, words)]
        done = subprocess.run(
            argv, env=self.env, cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        assert code is None or done.returncode == code, (
            f"{argv} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Type a command that goes on."""
        return subprocess.Popen(
            [str(ISTHMUS), *map(str, words)], env=self.env, cwd=self.folder, stdout=subprocess.PIPE, text=True
        )

    def job(self, number: int | str) -> Any:
        return self("job", "show", number, "-o", "json").data

    def until(self, number: int | str, condition: Callable[[Any], bool], what: str) -> Any:
        """Look at a job until it is as the condition wants it."""

        def look() -> Any:
            view = self.job(number)
            return view if condition(view) else None

        return wait_for(
            look, f"job {number}: {what}", deadline_s=90, every_s=0.2, story=lambda: self("job", "show", number).out
        )


@dataclass
class World:
    """A control plane, two clusters that were added to it, and what was said while they were."""

    person: Person
    plane: ControlPlane
    workdirs: dict[str, Path]
    ports: dict[str, str]  # interface of this machine that leads to the cluster's head
    shown: dict[str, dict[str, Result]]


def address(login: SshServer, user: User, workdir: Path, *words: str) -> str:
    return f"slurm+ssh://{user.name}@{login.host}:{login.port}{workdir}?" + "&".join([*words, "zone=eu"])


def add(person: Person, name: str, url: str, authorise: list[Path]) -> dict[str, Result]:
    """Add a site as a person does, who reads what is said and does it: what was shown, by what it was about."""
    shown: dict[str, Result] = {}
    words = ["site", "add", name, url]
    for _ in range(4):
        done = person(*words, code=None)
        if done.code == 0:
            return {**shown, "site": done}
        if "--trust-host-keys" in done.err:
            assert "keys" not in shown, done.err
            shown["keys"] = done
            words.append("--trust-host-keys")
        else:
            assert "authorized_keys" in done.err, done.err
            shown["pair"] = done
            line = done.err[done.err.index("ssh-ed25519 ") :].splitlines()[0].strip()
            path = authorise.pop(0)
            path.write_text(path.read_text() + line + "\n")
    raise AssertionError(f"{name} could not be added: {shown}")


@pytest.fixture(scope="module")
def world(
    users: list[User], ssh_server: SshServer, slurm_isolated: SlurmCluster, slurm_isolated_login: SshServer
) -> Iterator[World]:
    user, folder = users[1], scratch.folder("journey")
    far = slurm_isolated.network
    assert far is not None
    assert slurm_isolated.head is not None
    with (
        Network(hosts=3) as network,
        SlurmCluster(network=network) as cluster,
        SshServer(users, host=cluster.head, env=cluster.login_env()) as login,
        ControlPlane(folder / "plane", host="0.0.0.0", zone="eu", local_site=False) as plane,
    ):
        assert cluster.head is not None
        person = Person(folder, plane)
        person("login", plane.url, stdin=plane.token + "\n")
        workdirs = {"open": user.home / "journey-open", "closed": user.home / "journey-closed"}
        api = f"api=http://{network.address}:{plane.url.rpartition(':')[2]}"
        jump = f"jump={user.name}@{ssh_server.host}:{ssh_server.port}"
        shown = {
            "open": add(
                person,
                "open",
                address(login, user, workdirs["open"], jump, api, "engine=charliecloud"),
                [ssh_server.authorized_keys(user), login.authorized_keys(user)],
            ),
            "closed": add(
                person,
                "closed",
                address(slurm_isolated_login, user, workdirs["closed"], "engine=podman"),
                [slurm_isolated_login.authorized_keys(user)],
            ),
        }
        ports = {"open": cluster.head.port, "closed": slurm_isolated.head.port}
        yield World(person, plane, workdirs, ports, shown)


@pytest.fixture(scope="module")
def registered(world: World, oci_archive: Path) -> str:
    """An image and a data set, registered; the digest of what the jobs read."""
    data = world.person.folder / "prices"
    data.mkdir()
    content = random.Random("prices").randbytes(DATA_BYTES)
    (data / "daily.csv").write_bytes(content)
    (world.person.folder / "train.py").write_text(TRAIN)
    world.person("image", "add", "torch", oci_archive)
    world.person("dataset", "add", "prices", data, "--zone", "eu")
    return hashlib.sha256(content).hexdigest()


def test_adding_a_cluster_shows_keys_to_compare_and_what_there_is(
    world: World, slurm_isolated_login: SshServer
) -> None:
    shown = world.shown["closed"]
    print_of = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=slurm_isolated_login.host_key, capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert print_of in shown["keys"].err
    assert (
        world.person("site", "key", "closed").out.strip()
        in slurm_isolated_login.authorized_keys(slurm_isolated_login.users[1]).read_text()
    )
    for words in ("SLURM 22.05", "gpu*", "debug", "2×a100", "charliecloud", "podman", "10m"):
        assert words in shown["site"].out, shown["site"].out
    assert world.shown["open"]["keys"].err.count("SHA256:") == 2, "the jump host's key and the login node's"
    pinned = world.person("site", "show", "open", "-o", "json").data["spec"]["reach"]["hops"]
    assert all(hop["host_key"].startswith("ssh-ed25519 ") for hop in pinned)


@pytest.mark.parametrize("site", ["open", "closed"])
def test_a_training_job_travels_there_and_back(world: World, registered: str, site: str) -> None:
    person, port = world.person, world.ports[site]
    # The image comes with the first job. After it, several jobs wait for the data set, and it comes once.
    first = person("run", "--on", site, "--image", "torch", "--", "cat", "/etc/os-release")
    assert "isthmus-testbed" in first.out
    before = _sent(port)
    # GPUs are asked for where their tools need not be: podman wants a device file that NVIDIA's toolkit writes.
    gpus = ["--gpus", "a100:1"] if site == "open" else []
    submit = [
        "run", "--detach", "--on", site, "--image", "torch", "--input", "prices=prices", *gpus, "--time", "20m",
        "--output", "model", "--checkpoint", "--script", "train.py",
    ]  # fmt: skip
    jobs = [person(*submit, "--name", f"train {number}").out.strip() for number in range(3)]
    for job in jobs:
        person.until(job, lambda view: view["state"] == "RUNNING", "RUNNING")
    sent = _sent(port) - before
    assert DATA_BYTES <= sent < 1.5 * DATA_BYTES, f"the data set was sent {sent / DATA_BYTES:.1f} times"

    # It is seen while it runs: metrics, progress, and its log as it grows.
    job = jobs[0]
    series = wait_for(
        lambda: [each for each in person("job", "metrics", job, "-o", "json").data if len(each["points"]) > 5],
        "metrics",
        deadline_s=60,
        every_s=0.2,
    )
    assert person.job(job)["state"] == "RUNNING"
    assert [(point["step"], round(point["value"], 6)) for point in series[0]["points"][:3]] == [
        (1, 1), (2, 0.5), (3, 0.333333)
    ]  # fmt: skip
    follower = person.start("job", "logs", "-f", job)
    lines = _lines(follower)
    begin = lines.get(timeout=30)
    assert begin.startswith("begins at 0 with GPU ")
    assert begin.split()[-1] in (("0", "1") if gpus else ("none",))
    assert lines.get(timeout=30) == "step 1\n"

    # One is killed, saves itself, and goes on from there when it is tried again.
    killed = jobs[1]
    person("job", "kill", killed)
    person("job", "wait", killed, code=143)
    saved = person("job", "logs", killed).out.splitlines()[-1]
    assert saved.startswith("saved ")
    person("job", "retry", killed)
    person.until(killed, lambda view: view["state"] == "RUNNING" and view["attempts"] == 2, "RUNNING again")

    # The control plane goes away in the middle and comes back.
    world.plane.kill()
    _go(world, site, jobs[2])
    world.plane.start()
    step = int(lines.get(timeout=30).split()[1])
    while not lines.empty():
        step = int(lines.get().split()[1])
    wait_for(lambda: lines.qsize() > 5, "the log to be followed across the restart", deadline_s=60)

    for job in (jobs[0], jobs[1]):
        _go(world, site, job)
    person("job", "wait", *jobs)
    assert follower.wait(60) == 0
    rest = [lines.get() for _ in range(lines.qsize())]
    assert [int(line.split()[1]) for line in rest] == list(range(step + 1, step + 1 + len(rest))), "no line twice"

    # Results come home, checked.
    for job in jobs:
        view = person.job(job)
        assert (view["state"], view["attempts"]) == ("COMPLETED", 2 if job == killed else 1)
        person("cp", f"{job}:", f"results-{site}-{job}")
        home = person.folder / f"results-{site}-{job}" / "model"
        assert (home / "digest").read_text() == registered
        facts = json.loads((home / "facts.json").read_text())
        assert "isthmus-testbed" in facts["system"]
        assert facts["gpus"] in (("0", "1") if gpus else ("",))
    assert f"begins at {saved.split()[1]} with" in person("job", "logs", killed).out
    (all_of_it,) = person("job", "metrics", jobs[0], "--points", "100000", "-o", "json").data
    assert [point["step"] for point in all_of_it["points"]] == list(range(1, all_of_it["count"] + 1))
    steps = json.loads((person.folder / f"results-{site}-{jobs[0]}" / "model" / "facts.json").read_text())["steps"]
    assert all_of_it["count"] == steps, "a metric is lost, or counted twice"


def test_what_was_learnt_of_the_nodes(world: World, registered: str) -> None:
    """Those of one cluster reach the control plane, those of the other do not: told by the first job there."""
    for site, reaches in (("open", True), ("closed", False)):
        world.person("run", "--on", site, "--", "true")
        found = wait_for(
            lambda site=site: (  # type: ignore[misc]
                {"it": view["inventory"]["nodes_reach_api"]}
                if (view := world.person("site", "show", site, "-o", "json").data)["inventory"]["nodes_reach_api"]
                is not None
                else None
            ),
            f"{site} to be known",
        )
        assert found["it"] is reaches


@pytest.mark.parametrize("site", ["open", "closed"])
def test_the_exit_code_and_the_output_are_the_commands(world: World, site: str) -> None:
    done = world.person("run", "--on", site, "--", "sh", "-c", "echo to be seen; exit 7", code=7)
    assert done.out == "to be seen\n"


def test_data_stays_where_it_must(world: World, registered: str, ssh_server: SshServer) -> None:
    """A data set of one zone never goes to a site of another, and it is said why."""
    person, user = world.person, ssh_server.users[1]
    url = f"ssh://{user.name}@{ssh_server.host}:{ssh_server.port}{user.home}/journey-us?zone=us&key={ssh_server.key}"
    person("site", "add", "abroad", url, "--trust-host-keys")
    where = ["--input", "prices=prices", "--on", "abroad", "--", "ls", "prices"]
    refused = person("run", *where, code=2)
    assert "abroad: " in refused.err
    assert "zone" in refused.err
    waiting = person("run", "--detach", "--wait-for-site", *where).out.strip()
    told = person("job", "explain", waiting).out
    row = next(line for line in told.splitlines() if line.startswith("abroad"))
    assert "zone" in row
    assert " no " in row
    person("job", "kill", waiting)
    # Where nothing is asked of the place, it goes where the data may be.
    anywhere = person("run", "--detach", "--input", "prices=prices", "--", "sh", "-c", "wc -c < prices/daily.csv")
    person("job", "wait", anywhere.out.strip())
    view = person.job(anywhere.out.strip())
    assert view["site"] in ("open", "closed")
    assert person("job", "logs", anywhere.out.strip()).out.strip() == str(DATA_BYTES)
    copies = {each["site"] for each in person("dataset", "replicas", "prices", "-o", "json").data}
    assert "abroad" not in copies
    assert not list((user.home / "journey-us" / "cache").iterdir())


def _sent(interface: str) -> int:
    """Bytes that this machine has sent through one of its interfaces."""
    return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text())


def _go(world: World, site: str, job: str) -> None:
    """Let a job finish: its checkpoint folder is on a disk that this machine sees too."""
    (world.workdirs[site] / "checkpoints" / job / "go").touch()


def _lines(process: subprocess.Popen[str]) -> queue.Queue[str]:
    """The lines that a process prints, as they come."""
    lines: queue.Queue[str] = queue.Queue()
    stdout = process.stdout
    assert stdout is not None

    def read() -> None:
        for line in stdout:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return lines
