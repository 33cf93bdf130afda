"""The panel with 100,000 jobs and 5 million metric points: server time of pages, first paint, curves, live pages.

One JSON line a case. Needs Chromium (scripts/install-system-packages) for two of them.
"""

import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from isthmus.app import App, embedded  # noqa: E402
from isthmus.client import Client  # noqa: E402
from isthmus.control import places  # noqa: E402
from isthmus.control.live import write_spec  # noqa: E402
from isthmus.db import attempts, credentials, jobs, metrics, sites, users  # noqa: E402
from isthmus.domain.jobs import JobSpec, Resources  # noqa: E402
from isthmus.domain.sites import GpuKind, Health, Inventory, NodeType, Price, Queue, SiteSpec  # noqa: E402
from isthmus.domain.units import Bytes  # noqa: E402
from tests.testbed.control import ControlPlane  # noqa: E402

JOBS = 100_000
SITES = 20
POINTS = 100_000  # of each of 10 series of 5 jobs: 5 million
CHARTED = tuple(range(1, 6))
DAY = 86400.0
PAGES = 100


def say(case: str, ours: float, unit: str, bound: float, **more: Any) -> None:
    line = {"bench": "panel", "case": case, "ours": round(ours, 3), "unit": unit}
    line |= {"peer": "the bound", "peer_value": bound, "ratio": round(ours / bound, 4)}
    print(json.dumps({**line, **more}), flush=True)


async def fill(app: App) -> None:
    """A team's month: most jobs have ended, some wait, some run; five have long curves."""
    dice = random.Random(3)
    now = time.time()

    def add_sites(conn: Any) -> None:
        for number in range(SITES):
            spec = SiteSpec(name=f"s{number}", kind="local", price=Price(cpu_hour=0.02, gpu_hour=1.5))
            gpus = (GpuKind(type="a100", count=4),) if number % 3 == 0 else ()
            node = NodeType(name=f"n{number}", count=10, cpus=64, mem=Bytes(1 << 38), gpus=gpus)
            found = Inventory(queues=(Queue(name="main", default=True, nodes=(node,)),), engines={"podman": "4"})
            row = sites.add(
                conn,
                spec.name,
                places.write_site(spec),
                now=1.0,
                inventory=places.write_inventory(found),
                health=Health.UP,
            )
            credentials.put(conn, users.every(conn)[0].id, row, now=1.0, shared=True)

    await app.db.write(add_sites)
    texts = [
        write_spec(
            JobSpec(
                command=("python", "train.py", f"--seed={number}"),
                labels={"team": ("vision", "speech", "text")[number % 3]},
                resources=Resources(cpus=dice.choice([1, 2, 4, 8]), gpus=number % 2),
            )
        )
        for number in range(1000)
    ]
    for start in range(0, JOBS, 5000):
        await app.db.write(add_jobs, start, texts, now, dice)
    for job in CHARTED:
        await app.db.write(add_points, job, now)


def add_jobs(conn: Any, start: int, texts: list[str], now: float, dice: random.Random) -> None:
    rows, tries = [], []
    for number in range(start, start + 5000):
        submitted = now - 30 * DAY * (1 - number / JOBS)
        state = "QUEUED" if number > JOBS - 3000 else dice.choices(["COMPLETED", "FAILED", "KILLED"], [90, 8, 2])[0]
        row = {
            "user_id": 1,
            "name": f"train {number}",
            "state": state,
            "spec": texts[number % 1000],
            "submitted_at": submitted,
            "priority": number % 5,
            "attention": False,
        }
        if state != "QUEUED":
            begin = submitted + dice.random() * 600
            end = begin + dice.random() * 7200
            row |= {"started_at": begin, "ended_at": end, "site_id": 1 + number % SITES, "attempts": 1}
            row |= {"reason": "EXIT_CODE" if state == "FAILED" else "", "node": f"n{number % 40}"}
            tries.append((number, begin, end, state))
        else:
            row |= {"started_at": None, "ended_at": None, "site_id": None, "attempts": 0, "reason": "", "node": ""}
        rows.append(row)
    ids = jobs.insert(conn, rows)
    plan = json.dumps({"queue": "main", "node": "n", "cpus": 4, "mem": 0, "gpus": 1, "nodes": 1})
    attempts.insert(
        conn,
        [
            {
                "key": f"k{number}",
                "job_id": ids[number - start],
                "number": 1,
                "site_id": 1 + number % SITES,
                "user_id": 1,
                "live": False,
                "state": state,
                "plan": plan,
                "created_at": begin - 5,
                "started_at": begin,
                "ended_at": end,
                "token_hash": "",
            }
            for number, begin, end, state in tries
        ],
    )


def add_points(conn: Any, job: int, now: float) -> None:
    """Ten series as a runner would have brought them, a step at a time; made by the database, which is quicker."""
    conn.exec_driver_sql(
        """
        INSERT INTO metrics (attempt_id, name, step, at, value)
        WITH RECURSIVE steps(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM steps WHERE n + 1 < ?),
                       series(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM series WHERE k + 1 < 10)
        SELECT ?, 'metric' || k, n, ? + n * 0.5, (n * (k + 1) % 977) / 977.0 + n * 1.0 / ?
        FROM steps CROSS JOIN series
        """,
        (POINTS, job, now - DAY, POINTS),
    )
    for series in range(10):
        metrics.close_blocks(conn, job, f"metric{series}")


def signed_in(plane: ControlPlane) -> httpx.Client:
    browser = httpx.Client(base_url=plane.url, timeout=60)
    with plane.client() as client:
        browser.get(client.users.sign_in_link().url, follow_redirects=True)
    return browser


PATHS = {
    "home": "/",
    "mine": "/?mine=1",
    "jobs": "/jobs",
    "deep": f"/jobs?before={JOBS // 3}",
    "state": "/jobs?state=FAILED",
    "group": "/jobs?state=waiting",
    "site": "/jobs?site=s7",
    "name": "/jobs?q=train+77",
    "label": "/jobs?label=team%3Dvision",
    "metric": "/jobs?metric=metric1",
    "queue": "/jobs?order=queue",
    "job": "/jobs/1",
    "series": "/jobs/1/series?name=metric3",
    "closer": "/jobs/1/series?name=metric3&from=40000&to=41000",
    "sites": "/sites",
    "a site": "/sites/s1",
    "events": "/events",
    "submit": "/submit",
    "workflows": "/workflows",
    "compare": "/compare?job=1&job=2&job=3",
    "datasets": "/datasets",
    "people": "/people",
    "settings": "/settings",
}


def pages(plane: ControlPlane) -> None:
    """The slowest page's 95th percentile, as a client beside the server sees it."""
    found, cpu = {}, {}
    with contextlib.closing(signed_in(plane)) as browser:
        for name, path in PATHS.items():
            times = []
            began = 0.0
            for number in range(25):
                begin = time.perf_counter()
                answer = browser.get(path)
                times.append((time.perf_counter() - begin) * 1e3)
                assert answer.status_code == 200, (path, answer.status_code)
                if number == 0:
                    times.clear()  # the first one reads templates and fills caches
                    began = cpu_s(plane.pid)
            cpu[name] = round((cpu_s(plane.pid) - began) / 24 * 1e3, 1)
            found[name] = statistics.quantiles(times, n=20)[18]
    slowest = max(found, key=lambda name: found[name])
    each = {name: round(value, 1) for name, value in found.items()}
    # Beside what a client waits, which others on the machine make longer: what the server itself worked for a page.
    heaviest = max(cpu.values())
    more = {"jobs": JOBS, "points": POINTS * 50, "each": each, "cpu_ms_each": cpu, "cpu_ms_heaviest": heaviest}
    say("page_p95_ms", found[slowest], "ms", 100.0, slowest=slowest, **more)


def paint(plane: ControlPlane) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = browser.new_context(base_url=plane.url, viewport={"width": 1360, "height": 850})
        page = context.new_page()
        with plane.client() as client:
            page.goto(client.users.sign_in_link().url)
        paints = []
        for path in ("/", "/jobs", "/jobs/1", "/sites") * 3:
            page.goto(path)
            paints.append(
                page.evaluate(
                    "new Promise(done => new PerformanceObserver((list, it) => { for (const one of list.getEntries())"
                    " if (one.name === 'first-contentful-paint') { it.disconnect(); done(one.startTime); } })"
                    ".observe({type: 'paint', buffered: true}))"
                )
                / 1e3
            )
        say("first_paint_s", statistics.median(paints), "s", 1.0, worst=round(max(paints), 3))
        drawn = []
        for job in CHARTED[:3]:
            page.goto(f"/jobs/{job}")
            page.wait_for_selector("#charts[data-drawn]", timeout=60_000)
            assert page.locator("#charts canvas").count() >= 10
            drawn.append(int(page.locator("#charts").get_attribute("data-drawn") or 0) / 1e3)
        say("chart_draw_s", statistics.median(drawn), "s", 1.0, series=10, points_each=POINTS)
        browser.close()


async def watching(url: str, cookies: httpx.Cookies, seconds: float) -> tuple[int, int]:
    """Pages as the browser's script behaves: they listen, and ask for their region when it changed, 4 s apart."""
    heard = asked = 0
    limits = httpx.Limits(max_connections=None)

    async def one(number: int) -> None:
        nonlocal heard, asked
        path, region = (("/", "overview"), ("/jobs", "rows"))[number % 2]
        due = 0.0
        async with http.stream("GET", "/live") as stream:
            async for line in stream.aiter_lines():
                if not line.startswith('data: {"last"'):
                    continue
                heard += 1
                news = json.loads(line[6:])
                wanted = number % 2 == 0 or news.get("new")
                if wanted and time.monotonic() >= due:
                    due = time.monotonic() + 4
                    asked += 1
                    await http.get(path, headers={"x-region": region})

    async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=60, limits=limits) as http:
        tasks = [asyncio.create_task(one(number)) for number in range(PAGES)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return heard, asked


def live(plane: ControlPlane) -> None:
    """The server's CPU with 100 pages open, half of them home and half the table, beside the same work without them.

    The work: a job is given another priority every half second, and one is submitted every five.
    """
    stop = threading.Event()

    def work() -> None:
        from isthmus.domain.jobs import JobRequest

        with Client(plane.url, plane.token) as client:
            number = 0
            while not stop.wait(0.5):
                number += 1
                client.jobs.set_priority([JOBS - 10 - number % 50], number % 100)
                if number % 10 == 0:
                    client.jobs.submit(JobRequest(command=("true",), wait_for_site=True, sites=("s1",)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with contextlib.closing(signed_in(plane)) as browser:
            time.sleep(5)
            alone = measured(plane, lambda: time.sleep(20))
            told: list[tuple[int, int]] = []
            shown = measured(plane, lambda: told.append(asyncio.run(watching(plane.url, browser.cookies, 30))))
    finally:
        stop.set()
        thread.join()
    heard, asked = told[0]
    say(
        "live_100_pages_cpu_percent",
        max(0.0, shown - alone),
        "% of a core",
        20.0,
        pages=PAGES,
        messages=heard,
        regions=asked,
        work_alone=round(alone, 1),
    )


def measured(plane: ControlPlane, during: Any) -> float:
    begin, cpu = time.monotonic(), cpu_s(plane.pid)
    during()
    return (cpu_s(plane.pid) - cpu) / (time.monotonic() - begin) * 100


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data = Path(folder) / "data"

        async def made() -> None:
            async with embedded(data, local_site=False, supervisor=False) as app:
                await fill(app)

        asyncio.run(made())
        # Sites that nobody may reach from here are not asked: it is the panel that is measured.
        with ControlPlane(Path(folder) / "plane", local_site=False, supervisor=False) as plane:
            plane.stop()
            for name in ("isthmus.db", "secret.key", "admin.token"):
                os.replace(data / name, plane.data / name)
            plane.start()
            pages(plane)
            paint(plane)
            live(plane)


if __name__ == "__main__":
    main()
