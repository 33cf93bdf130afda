"""The control plane with 100,000 queued jobs and 50 sites: part of bench/jobs.py, which runs it as its last case."""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from isthmus.app import App, embedded  # noqa: E402
from isthmus.control import places  # noqa: E402
from isthmus.control.jobs import JobFilter  # noqa: E402
from isthmus.control.live import write_spec  # noqa: E402
from isthmus.db import credentials, users  # noqa: E402
from isthmus.db import jobs as job_rows  # noqa: E402
from isthmus.db import sites as site_rows  # noqa: E402
from isthmus.domain.jobs import JobRequest, JobSpec, Resources  # noqa: E402
from isthmus.domain.sites import GpuKind, Health, Inventory, Limits, NodeType, Queue, SiteSpec  # noqa: E402
from isthmus.domain.units import Bytes  # noqa: E402
from isthmus.placement.constraints import parse  # noqa: E402
from isthmus.placement.needs import Need  # noqa: E402
from isthmus.placement.plan import Ticket, plan  # noqa: E402
from isthmus.placement.snapshot import Expected, Reading, SiteSnapshot  # noqa: E402

POLICIES = ("priority", "fair-share", "locality")
JOBS = 100_000
SITES = 50


def say(case: str, ours: float, unit: str, bound: float, **more: Any) -> None:
    line = {
        "bench": "jobs",
        "case": case,
        "ours": round(ours, 3),
        "unit": unit,
        "peer": "the bound",
        "peer_value": bound,
    }
    print(json.dumps({**line, "ratio": round(ours / bound, 4), **more}), flush=True)


def node(number: int) -> NodeType:
    gpus = (GpuKind(type="a100", count=4),) if number % 3 == 0 else ()
    return NodeType(name=f"n{number}", count=50 if number % 2 else 1, cpus=64, mem=Bytes(1 << 38), gpus=gpus)


def placement() -> None:
    seconds, assigned = placement_s()
    say("placement_100k_s", seconds, "s", 2.0, assigned=assigned)
    seconds, assigned = placement_s(POLICIES)
    say("placement_100k_policies_s", seconds, "s", 2.0, assigned=assigned)


def placement_s(policies: tuple[str, ...] = ("",)) -> tuple[float, int]:
    """How long it takes to assign every job of 300 kinds of need to one of 50 sites; and how many were.

    With several policies, each has a share of the sites, and sites have figures, waits and data as well.
    """
    dice = random.Random(1)
    sites = [
        SiteSnapshot(
            name=f"s{n}",
            own_queue=bool(n % 2),
            queues=(Queue(name="q", default=True, nodes=(node(n),)),),
            policy=policies[n % len(policies)],
        )
        for n in range(SITES)
    ]
    if len(policies) > 1:
        for site in sites:
            site.metrics = {f"m{n}": Reading(dice.random(), weight=1.0) for n in range(3)}
            site.waits = {"q": Expected(dice.random() * 3600.0, 20.0)}
            site.cached = frozenset(f"sha256:{n}" for n in dice.sample(range(10), 3))
    needs = [
        Need(
            user=f"u{n % 20}",
            cpus=dice.choice([1, 2, 4, 8]),
            gpus=dice.choice([0, 0, 1]),
            mem=dice.choice([1, 2, 4]) << 30,
            time=3600,
            digests=((f"sha256:{n % 10}", 10**9),) if len(policies) > 1 else (),
            constraints=(parse("m0 >= 0.1"),) if len(policies) > 1 and n % 2 else (),
        )
        for n in range(300)
    ]
    queue: dict[Need, list[Ticket]] = {}
    for job in range(JOBS):
        queue.setdefault(dice.choice(needs), []).append(Ticket(-dice.randint(0, 5), job, 0.0))
    for tickets in queue.values():
        tickets.sort()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        result = plan(queue, sites, now=3600.0)
        times.append(time.perf_counter() - begin)
    return statistics.median(times), len(result.targets)


async def fill(app: App) -> None:
    """Jobs that fit everywhere and wait everywhere: each site is at its limit."""
    dice = random.Random(2)

    def sites(conn: Any) -> None:
        for number in range(SITES):
            spec = SiteSpec(name=f"s{number}", kind="local", limits=Limits(jobs=1))
            queue = Queue(name="main", default=True, nodes=(node(number),))
            inventory = places.write_inventory(Inventory(others=1, queues=(queue,), engines={"podman": "4"}))
            row = site_rows.add(
                conn, spec.name, places.write_site(spec), now=1.0, inventory=inventory, health=Health.UP
            )
            credentials.put(conn, users.every(conn)[0].id, row, now=1.0, shared=True)

    await app.db.write(sites)
    specs = [
        JobSpec(
            command=("python", "train.py", f"--seed={number}"),
            sites=tuple(f"s{n}" for n in range(SITES)),
            resources=Resources(cpus=dice.choice([1, 2, 4, 8]), mem=Bytes(dice.choice([1, 2, 4]) << 30)),
        )
        for number in range(5000)
    ]
    texts = [write_spec(spec) for spec in specs]
    for start in range(0, JOBS, 5000):
        rows = [
            {
                "user_id": 1,
                "name": f"train {start + number}",
                "state": "QUEUED",
                "spec": texts[number],
                "submitted_at": time.time(),
                "priority": number % 5,
                "attention": True,
            }
            for number in range(5000)
        ]
        await app.db.write(job_rows.insert, rows)


async def live(data: Path) -> None:
    async with embedded(data, local_site=False, supervisor=False) as app:
        await fill(app)
    async with embedded(data, local_site=False) as app:
        assert app.supervisor is not None
        await app.supervisor.leading.wait()
        caller = await app.services.identity.authenticate(app.token)
        request = JobRequest(command=("true",), sites=("s1",))
        cycles, pages = [], []
        for _ in range(20):
            before = app.supervisor.cycles
            await app.services.jobs.submit(caller, [request])
            while app.supervisor.cycles == before:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            cycles.append(app.supervisor.last_cycle_s)
        for which in (
            JobFilter(),
            JobFilter(states=("QUEUED",), before=JOBS // 2),
            JobFilter(name="train 77"),
            JobFilter(user="admin"),
        ):
            for _ in range(5):
                begin = time.perf_counter()
                await app.services.jobs.list(caller, which)
                pages.append(time.perf_counter() - begin)
    say("cycle_100k_ms", statistics.median(cycles) * 1e3, "ms", 100.0, jobs=JOBS, sites=SITES)
    say("list_page_ms", max(pages) * 1e3, "ms", 50.0, jobs=JOBS)


def process(data: Path) -> None:
    """Memory and idle time of a whole `isthmus up` with all of that in its database."""
    from tests.testbed.control import ControlPlane

    with ControlPlane(data.parent / "plane", local_site=False) as plane:
        plane.stop()
        for name in ("isthmus.db", "secret.key", "admin.token"):
            os.replace(data / name, plane.data / name)
        plane.start()
        settle = time.monotonic() + 15
        while time.monotonic() < settle:
            time.sleep(0.5)
        begin, cpu = time.monotonic(), cpu_s(plane.pid)
        time.sleep(15)
        idle = (cpu_s(plane.pid) - cpu) / (time.monotonic() - begin) * 100
        status = Path(f"/proc/{plane.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    say("control_plane_mb", peak / 1024, "MiB", 400.0, jobs=JOBS, sites=SITES)
    say("idle_cpu_percent", idle, "% of a core", 1.0, jobs=JOBS, sites=SITES)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    placement()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data = Path(folder) / "data"
        asyncio.run(live(data))
        process(data)


if __name__ == "__main__":
    main()
