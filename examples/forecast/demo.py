"""`make demo`: a real forecaster, trained and judged on a control plane of its own, in under three minutes.

    python -m examples.forecast.demo            all of it; in a terminal the server goes on running afterwards
    python -m examples.forecast.demo --stop     stop that server

Needs no root and no network. What it makes lies in ./demo-data, and is found again by the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import isthmus
from examples.forecast import pictures, prepare, prices, summary, sweep
from examples.forecast.screen import Screen
from examples.forecast.server import Server, ServerError
from isthmus.domain.artefacts import Artefact
from isthmus.domain.errors import IsthmusError
from isthmus.domain.states import JobState
from isthmus.domain.views import JobView

LOOK_EVERY_S = 1.0  # often enough to watch, and the cores are the jobs'
OUTPUTS = ("metrics.json", "predictions.csv", "model.joblib")
REPOSITORY = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """A job did not end well. The message says which, why, and where to look."""


@dataclass
class Demo:
    """One run. ``jobs`` are those to be killed if we are interrupted."""

    screen: Screen
    server: Server
    client: isthmus.Client
    jobs: list[int] = field(default_factory=list)

    def run(self) -> None:
        sp500, code = self.register()
        self.one_job(sp500, code)
        results = self.sweep(sp500, code)
        self.screen.chapter("What was learnt")
        for lesson in sweep.lessons(results):
            self.screen.tell(lesson)

    # ---- data

    def register(self) -> tuple[Artefact, Artefact]:
        """The prices and the program as datasets: that is how both come to whatever site runs the job."""
        self.screen.chapter("Data")
        table = prepare.load()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "sp500.csv")
            prices.write(table, file)
            sp500 = self._register("sp500", file, "Daily prices of the S&P 500, 1999 to 2018")
            # The program alone: what Python compiled beside it would make another digest on each machine.
            program = Path(folder, "examples")
            shutil.copytree(REPOSITORY / "examples", program, ignore=shutil.ignore_patterns("__pycache__"))
            code = self._register("forecast-program", program, "The program that trains the forecaster")
        days = f"{len(table):,} trading days, {table.dates[0]} to {table.dates[-1]}"
        self.screen.say(f"  {_full(sp500)}  {days}\n  {_full(code)}  the program that trains on them")
        return sp500, code

    def _register(self, name: str, path: Path, description: str) -> Artefact:
        # Named by its content: the same again is the same version, and nothing is kept twice.
        made: Artefact = self.client.datasets.register(name, path, version=_fingerprint(path), description=description)
        return made

    # ---- jobs

    def request(self, name: str, sp500: Artefact, code: Artefact, options: Sequence[str]) -> dict[str, Any]:
        """A job that trains, as it would stand in a job.yaml."""
        return {
            "name": name,
            "command": [sys.executable, "-m", "examples.forecast.train", "sp500.csv", *options],
            "inputs": [
                {"path": "sp500.csv", "dataset": _full(sp500)},
                {"path": "examples", "dataset": _full(code)},
            ],
            "outputs": [{"path": path} for path in OUTPUTS],
            # The inputs are shared by all jobs here: nothing may be written beside them.
            "env": {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            "resources": {"cpus": 1, "mem": "1GiB", "time": "10m"},
            "checkpoint": True,
            "labels": {"demo": "forecast"},
        }

    def one_job(self, sp500: Artefact, code: Artefact) -> None:
        """Train one forecaster and watch it walk forward."""
        self.screen.chapter("One job: forecast each day's volatility at the close before")
        options = ("--model", "blend")
        job = self.client.jobs.submit(self.request("forecast", sp500, code, options))
        self.jobs.append(job.id)
        self.screen.say(
            f"  job {job.id}: the mean of a ridge regression, boosted trees and small neural nets, each fitted anew\n"
            "  every 22 days on the 1,000 before; no forecast knows a later day."
        )
        with self.screen.watching(keep=True) as show:
            for jobs in self._look([job.id]):
                walk = pictures.Walked.of(self.client.jobs.metrics(job.id, names=pictures.METRICS))
                show(
                    pictures.walk(jobs[0], walk, self.screen),
                    f"  {pictures.status(jobs[0])} {walk.sentence()}",
                )
        metrics = self._metrics(job.id, Path(self.server.data, "results", f"job-{job.id}"))
        for sentence in summary.sentences(metrics):
            self.screen.tell(f"  {sentence}")

    def sweep(self, sp500: Artefact, code: Artefact) -> list[sweep.Result]:
        """Try the settings of the grid as one array of jobs, and bring their results home."""
        self.screen.chapter(f"A sweep: an array of {len(sweep.GRID)} jobs")
        options = [word for name in sweep.GRID[0] for word in (f"--{name}", "{" + name + "}")]
        options += ["--refit", str(sweep.REFIT)]
        request = {
            **self.request("sweep", sp500, code, options),
            "array": {"parameters": [dict(settings) for settings in sweep.GRID]},
        }
        ids = [job.id for job in self.client.jobs.submit_many([request])]
        self.jobs.extend(ids)
        with self.screen.watching(keep=False) as show:
            for jobs in self._look(ids):
                show(pictures.states(jobs, sweep.GRID), f"  {pictures.count(jobs)}")
        results = []
        for job, settings in zip(ids, sweep.GRID, strict=True):
            folder = Path(self.server.data, "results", f"job-{job}")
            metrics = self._metrics(job, folder)
            self.client.jobs.download(job, "predictions.csv", folder / "predictions.csv")
            results.append(sweep.read(settings, folder, metrics))
        self.screen.say(pictures.table(results))
        return results

    def _look(self, ids: Sequence[int]) -> Iterator[list[JobView]]:
        """The jobs as they are, again and again until all have ended. Raises DemoError if one ended badly."""
        while True:
            jobs = self.client.jobs.wait_many(ids, timeout_s=LOOK_EVERY_S)
            yield jobs
            for job in jobs:
                if job.state.ended and job.state is not JobState.COMPLETED:
                    raise DemoError(self._what_went_wrong(job))
            if all(job.state.ended for job in jobs):
                return

    def _what_went_wrong(self, job: JobView) -> str:
        tail = self.client.jobs.log(job.id, offset=-2000).data.decode(errors="replace").rstrip()
        lines = "\n".join(f"  | {line}" for line in tail.splitlines()[-15:])
        return (
            f"job {job.id} ({job.name}) is {job.state}: {job.reason} {job.message}\n{lines}\n"
            f"Look closer with: isthmus job show {job.id}, isthmus job logs {job.id}"
        )

    def _metrics(self, job: int, folder: Path) -> dict[str, Any]:
        """The job's metrics.json, brought home."""
        folder.mkdir(parents=True, exist_ok=True)
        path = self.client.jobs.download(job, "metrics.json", folder / "metrics.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _fingerprint(path: Path) -> str:
    """Twelve digits for the content of a file or folder."""
    known = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        known.update(f"{file.relative_to(path)}\n{file.stat().st_size}\n".encode())
        known.update(file.read_bytes())
    return known.hexdigest()[:12]


def _full(dataset: Artefact) -> str:
    return f"{dataset.name}@{dataset.version}"


def where_next(screen: Screen, server: Server, running: bool, jobs: Sequence[int]) -> None:
    """What to type now."""
    screen.chapter("Where to look next")
    data = _short(server.data)
    first, array = jobs[0], jobs[1]
    commands = [
        (f". {data}/env", "this control plane, for this shell; then:"),
        ("isthmus job ps -a", "the jobs"),
        (f"isthmus job show {first}", "one of them: its attempts, what it used, what happened to it"),
        (f"isthmus job metrics {first}", "what it reported"),
        (f"isthmus job explain {first}", "why it ran where it ran"),
        (f"isthmus cp {array}:predictions.csv .", "a result"),
        ("isthmus run -- python3 -c 'print(6*7)'", "a job of your own"),
    ]
    if running:
        stop = f"{_short(Path(sys.executable))} -m examples.forecast.demo --stop"
        commands.append((stop + ("" if data == "demo-data" else f" --data {data}"), "stop the server"))
    else:
        commands.insert(1, (f"isthmus up --data {data} &", "start it again (it was stopped at the end)"))
    for command, what in commands:
        screen.say(f"  {command:<42} {what}")
    if running:
        screen.say(f"\nThe server runs on at {server.url}; its API is described at {server.url}/openapi.json.")
    screen.say(f"All of it lies in {data}. On to the first cluster: docs/quickstart.md")


def _short(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("demo-data"), help="the folder for all that it makes")
    parser.add_argument("--stop", action="store_true", help="only stop the server of an earlier run")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--leave", action="store_true", help="leave the server running, as in a terminal")
    ending.add_argument("--no-leave", action="store_true", help="stop the server at the end, as in a script")
    args = parser.parse_args(argv)
    screen, server = Screen(), Server(args.data)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args.stop:
            screen.say("Stopped." if server.stop() else f"No server runs on {server.data}.")
            return 0
        return play(screen, server, leave=args.leave or (screen.lively and not args.no_leave))
    except ServerError as error:
        screen.say(f"demo: {error}")
        return 1


def play(screen: Screen, server: Server, *, leave: bool) -> int:
    """The whole demo. Returns the exit code: 0, 1 for a failure, 130 for an interrupt."""
    began = time.monotonic()
    demo = None
    try:
        screen.chapter("A control plane on this machine")
        demo = Demo(screen, server, server.start())
        screen.say(f"  {server.url}, its data in {_short(server.data)}")
        demo.run()
        screen.say(f"\nAll of it took {time.monotonic() - began:.0f} s.")
        if not leave:
            server.stop()
        where_next(screen, server, leave, demo.jobs)
        return 0
    except KeyboardInterrupt:
        # Once is enough: what follows is bounded in time, and must not be left half done.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        screen.say("\nInterrupted: ending the jobs and the server ...")
        clean_up(server, demo)
        screen.say(f"Nothing is left running. What was done so far is kept in {server.data}.")
        return 130
    except (DemoError, IsthmusError, ServerError) as error:
        screen.say(f"\ndemo: {error}\nThe server's log: {server.log}")
        clean_up(server, demo)
        return 1
    finally:
        if demo is not None:
            demo.client.close()


def clean_up(server: Server, demo: Demo | None) -> None:
    """End the jobs that have not ended, and then the server, whatever state they are in."""
    if demo is not None and demo.jobs:
        with contextlib.suppress(IsthmusError):
            demo.client.jobs.kill(*demo.jobs)
            demo.client.jobs.wait_many(demo.jobs, timeout_s=15)
    server.stop()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
