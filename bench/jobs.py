"""What a job costs: turn-around, throughput, and the control plane at scale, beside what people use now.

    make bench NAME=jobs            all cases
    python bench/jobs.py CASE …     some of them

Prints JSON lines, one a case. Each ratio is measured in one run, the two sides in turn. SLURM and SSH cases start
private servers (root on Debian; see tests/testbed). What each side does is said in docs/performance.md.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from isthmus.client import Client  # noqa: E402
from isthmus.domain.jobs import JobRequest  # noqa: E402
from isthmus.domain.sites import Hop, Reach, SiteSpec  # noqa: E402
from isthmus.domain.units import Seconds  # noqa: E402

TRUE = JobRequest(command=("true",))


def say(case: str, ours: float, unit: str, **more: Any) -> None:
    """One line of the bench's output."""
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in more.items()}
    print(json.dumps({"bench": "jobs", "case": case, "ours": round(ours, 4), "unit": unit, **rounded}), flush=True)


def compare(ours: Callable[[], float], peer: Callable[[], float], times: int) -> tuple[float, float, float]:
    """Medians of both, and of the ratio pair by pair."""
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(times)]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return mine, theirs, statistics.median(a / b for a, b in pairs)


@contextlib.contextmanager
def control_plane(env: dict[str, str] | None = None) -> Iterator[tuple[Any, Client, Path]]:
    """A control plane of its own, a client to it, and a folder."""
    from tests.testbed.control import ControlPlane

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.chmod(folder, 0o755)
        with ControlPlane(Path(folder) / "plane", env=env) as plane, plane.client() as client:
            yield plane, client, Path(folder)


def turnaround(client: Client, site: str) -> float:
    """Seconds from the submission of `true` to its known end."""
    request = JobRequest(command=("true",), sites=(site,))
    begin = time.perf_counter()
    job = client.jobs.run(request)
    seconds = time.perf_counter() - begin
    assert job.state == "COMPLETED", job
    return seconds


def through_the_shell(folder: Path) -> float:
    """Seconds to start `true` through the shell as durably: a folder, a description, two reports, all fsynced."""
    begin = time.perf_counter()
    place = Path(tempfile.mkdtemp(dir=folder))
    durable(place / "job.json", json.dumps({"command": ["true"], "env": {}, "key": place.name}))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(["sh", "-c", "true"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place)
    durable(place / "reports", json.dumps({"kind": "started", "t": time.time(), "pid": process.pid}) + "\n")
    code = process.wait()
    durable(place / "reports", json.dumps({"kind": "finished", "t": time.time(), "exit_code": code}) + "\n")
    return time.perf_counter() - begin


def durable(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def local_turnaround() -> None:
    with control_plane() as (_, client, folder):
        ours, peer, ratio = compare(lambda: turnaround(client, "local"), lambda: through_the_shell(folder), 100)
    say(
        "local_turnaround_ratio",
        ours * 1e3,
        "ms",
        peer="sh -c true, reports fsynced",
        peer_value=peer * 1e3,
        ratio=ratio,
    )


def local_throughput(count: int = 2000) -> None:
    with control_plane() as (_, client, _folder):
        turnaround(client, "local")
        rate = throughput(client, count)
    say("local_jobs_per_s", rate, "jobs/s", peer="the bound", peer_value=200.0, ratio=rate / 200.0, jobs=count)


def throughput(client: Client, count: int) -> float:
    """Jobs per second: `true`, each durable, from the submission of all to the known end of all."""
    begin = time.perf_counter()
    jobs = client.jobs.submit_many([TRUE] * count)
    done = client.jobs.wait_many([job.id for job in jobs], timeout_s=600)
    assert all(job.state == "COMPLETED" for job in done)
    return count / (time.perf_counter() - begin)


@contextlib.contextmanager
def slurm() -> Iterator[Any]:
    from tests.testbed.slurm import SlurmCluster

    with SlurmCluster(nodes=2, cpus=4) as cluster:
        yield cluster


def by_sbatch(env: dict[str, str], folder: Path) -> float:
    """Seconds for sbatch of `true` and squeue every 100 ms until it is gone from the queue."""
    begin = time.perf_counter()
    said = subprocess.run(
        ["sbatch", "--parsable", "--output=/dev/null", "--wrap=true"],
        env=env, cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    job = said.stdout.strip()
    while True:
        state = subprocess.run(
            ["squeue", "--noheader", "--format=%T", f"--jobs={job}", "--states=all"],
            env=env, capture_output=True, text=True,
        )  # fmt: skip
        if state.stdout.strip() in ("COMPLETED", ""):
            return time.perf_counter() - begin
        time.sleep(0.1)


def slurm_turnaround() -> None:
    with slurm() as cluster, control_plane(cluster.env()) as (_, client, folder):
        client.sites.add(SiteSpec(name="cluster", kind="slurm", workdir=str(folder / "work"), poll=Seconds(1)))
        ours, peer, ratio = compare(lambda: turnaround(client, "cluster"), lambda: by_sbatch(cluster.env(), folder), 15)
    say("slurm_turnaround_ratio", ours, "s", peer="sbatch, squeue every 100 ms", peer_value=peer, ratio=ratio)


def slurm_submit(count: int = 1000) -> None:
    with slurm() as cluster, control_plane(cluster.env()) as (_, client, folder):
        client.sites.add(SiteSpec(name="cluster", kind="slurm", workdir=str(folder / "work"), poll=Seconds(5)))
        turnaround(client, "cluster")
        begin = time.perf_counter()
        for _ in range(count):
            subprocess.run(
                ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true"],
                env=cluster.env(), cwd=folder, check=True, capture_output=True,
            )  # fmt: skip
        peer = count / (time.perf_counter() - begin)
        subprocess.run(["scancel", "--user=root"], env=cluster.env(), check=True)
        held = JobRequest(command=("true",), sites=("cluster",), site_options={"slurm": {"extra": ["--hold"]}})
        begin = time.perf_counter()
        jobs = client.jobs.submit_many([held] * count)
        array = [job.id for job in jobs]
        while client.jobs.get(array[-1]).state in ("QUEUED", "STAGING"):
            time.sleep(0.02)
        ours = count / (time.perf_counter() - begin)
        subprocess.run(["scancel", "--user=root"], env=cluster.env(), check=True)
    say("slurm_submit_ratio", ours, "jobs/s", peer="a loop of sbatch", peer_value=peer, ratio=ours / peer, jobs=count)


def ssh_turnaround(one_way_ms: float = 25.0) -> None:
    """How many round trips the way over SSH adds: a cluster reached at once, and the same over a slow link."""
    from tests.testbed.delay import DelayLink
    from tests.testbed.slurm import SlurmCluster
    from tests.testbed.ssh import SshServer
    from tests.testbed.users import lease

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(SlurmCluster(nodes=2, isolated=True))
        assert cluster.head is not None
        server = stack.enter_context(SshServer(lease(1), host=cluster.head, env=cluster.login_env()))
        link = stack.enter_context(DelayLink(cluster.head, one_way_ms))
        _, client, _folder = stack.enter_context(control_plane())
        for name, address in (("near", server.host), ("far", link.address)):
            hop = Hop(host=address, port=server.port, user=server.user.name, host_key=server.host_key)
            reach = Reach(hops=(hop,), key_file=str(server.key))
            client.sites.add(SiteSpec(name=name, kind="slurm", reach=reach, poll=Seconds(1)))
        far_s, near_s, _ratio = compare(lambda: turnaround(client, "far"), lambda: turnaround(client, "near"), 15)
    trips = (far_s - near_s) / (2 * one_way_ms / 1e3)
    say("ssh_turnaround_ratio", trips, "round trips", peer="the bound", peer_value=2.0, ratio=trips / 2.0,
        far_s=far_s, near_s=near_s, round_trip_ms=2 * one_way_ms)  # fmt: skip


PEERS = {
    "parsl_htex": ("Parsl HighThroughputExecutor, 2 workers", "parsl"),
    "psij_local": ("PSI/J local executor", "psij-python"),
    "submitit_local": ("submitit LocalExecutor, 2 at a time", "submitit"),
}


def peers(count: int = 500) -> None:
    """The same `true` through what people use now, each in a virtual environment of its own, beside ours."""
    folder = Path(os.environ.get("BENCH_PEERS", ROOT / ".bench-peers"))
    for name, (label, package) in PEERS.items():
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", package], check=True)
        script = str(ROOT / "bench" / "peers" / f"{name}.py")
        with control_plane() as (_, client, _folder):
            turnaround(client, "local")
            ours = throughput(client, count)
            env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}  # Parsl starts programs of its own
            said = subprocess.run(
                [str(python), script, str(count)], env=env, capture_output=True, text=True, timeout=600, check=False
            )
        if said.returncode:
            print(f"{label}: {said.stderr[-500:]}", file=sys.stderr)
            continue
        peer = float(said.stdout.split()[-1])
        say("jobs_per_s_beside_peer", ours, "jobs/s", peer=label, peer_value=peer, ratio=ours / peer, jobs=count)


CASES: dict[str, Callable[[], None]] = {
    "local_turnaround_ratio": local_turnaround,
    "local_jobs_per_s": local_throughput,
    "slurm_turnaround_ratio": slurm_turnaround,
    "slurm_submit_ratio": slurm_submit,
    "ssh_turnaround_ratio": ssh_turnaround,
    "peers": peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="some of: " + ", ".join([*CASES, "scale"]))
    wanted = parser.parse_args().cases or [*CASES, "scale"]
    for name in wanted:
        if name == "scale":
            subprocess.run([sys.executable, str(ROOT / "bench" / "scale.py")], check=True)
        else:
            CASES[name]()


if __name__ == "__main__":
    main()
