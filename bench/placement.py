"""Joint scheduling and sizing: our method beside the published ones, on a folder of instances.

    bench/placement.py [INSTANCES] [--only TEXT] [--methods a,b] [--restarts 0,60,300] [--errors 0,0.05,0.13]
                       [--static] [--capacity-bound] [--results FILE] [--table]

INSTANCES (or the environment's INSTANCES) is a folder of problems; without one, problems of our own making are used.
With CHECKER=PROGRAM (called as PROGRAM INSTANCE SCHEDULE --restart S; prints {"total": …}) every figure is that
program's, else our own judge's. ``ours`` is our method's cost, ``peer_value`` the other's; ``ratio`` below 1 is better.
Times of decisions are processor time, which a busy machine does not lengthen.

The whole matrix takes hours. With --results each run is kept in that file (JSON lines), and what is there is not run
again: so it can be stopped, gone on with, and split between processes by --only. --table prints what is there as
Markdown, and runs nothing.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from isthmus.placement.sizing import methods  # noqa: E402
from isthmus.placement.sizing.bound import by_hull, with_capacity  # noqa: E402
from isthmus.placement.sizing.generate import generate  # noqa: E402
from isthmus.placement.sizing.problem import Problem, SizedJob, read_problem, write_problem  # noqa: E402
from isthmus.placement.sizing.schedule import judge  # noqa: E402
from isthmus.placement.sizing.simulate import Active, Result, View, mispredict, simulate  # noqa: E402

PEERS = ("path-relinking", "random-greedy", "greedy", "edf", "edf-whole-nodes")
BOUND = "bound"  # beside the methods, in the results


@dataclass(frozen=True, slots=True)
class Row:
    """One run, as the results file keeps it."""

    instance: str
    method: str  # NAME or NAME:ITERATIONS, or BOUND
    restart: float
    error: float
    total: float
    mean_ms: float = 0.0  # processor time of a decision
    max_ms: float = 0.0

    @property
    def key(self) -> tuple[str, str, float, float]:
        return self.instance, self.method, self.restart, self.error


class Results:
    """What was run, in a file or in memory. Several processes may add to one file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._rows: dict[tuple[str, str, float, float], Row] = {}
        if self._path is not None and self._path.exists():
            for line in self._path.read_text().splitlines():
                row = Row(**json.loads(line))
                self._rows[row.key] = row

    def get(self, instance: str, method: str, restart: float = 0.0, error: float = 0.0) -> Row | None:
        return self._rows.get((instance, method, restart, error))

    def put(self, row: Row) -> Row:
        self._rows[row.key] = row
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        return row

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())


def problems(folder: str, only: str, static: bool) -> Iterator[tuple[str, Problem]]:
    if folder:
        paths = [path for path in sorted(Path(folder).glob("*.json")) if only in path.stem]
        found = [(path.stem, read_problem(json.loads(path.read_text()))) for path in paths]
    else:
        found = [
            (f"made-{load}-{seed}", generate(nodes=10, jobs=101, gap_s=gap, seed=seed))
            for load, gap in (("light", 6000.0), ("heavy", 2500.0))
            for seed in (1, 2)
        ]
    for name, problem in found:
        yield (f"static-{name}", all_at_once(problem)) if static else (name, problem)


def all_at_once(problem: Problem) -> Problem:
    """The static overload: every job is there at the beginning, as long before its deadline as it was."""
    jobs = tuple(
        SizedJob(job.id, 0.0, job.deadline_s - job.release_s, job.weight_per_s, job.times)
        for job in problem.jobs[: 10 * problem.nodes]
    )
    return Problem(problem.nodes, problem.vms, jobs)


def total(problem: Problem, result: Result, restart: float) -> float:
    """What the schedule costs by the checker, or by our own judge."""
    own = judge(problem, result.schedule, restart).total
    checker = os.environ.get("CHECKER", "")
    if not checker:
        return own
    with tempfile.TemporaryDirectory() as folder:
        instance, schedule = Path(folder, "instance.json"), Path(folder, "schedule.json")
        instance.write_text(json.dumps(write_problem(problem)))
        schedule.write_text(json.dumps(result.schedule.to_json()))
        command = [sys.executable, checker, str(instance), str(schedule), "--restart", str(restart)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"the checker refuses the schedule: {said.stdout}{said.stderr}")
    judged = float(json.loads(said.stdout)["total"])
    if abs(judged - own) > 0.02 + 1e-6 * own:
        raise SystemExit(f"the checker says {judged}, our judge {own}")
    return judged


def run(results: Results, name: str, problem: Problem, method: str, restart: float, error: float) -> Row:
    """One run, or what is known of it."""
    known = results.get(name, method, restart, error)
    if known is not None:
        return known
    short, _, iterations = method.partition(":")
    made = methods.make(short, seed=1, iterations=int(iterations or 100))
    believed = mispredict(problem, error, 1)
    result = simulate(problem, made, restart_s=restart, predicted=believed, clock=time.process_time)
    cost = total(problem, result, restart)
    return results.put(Row(name, method, restart, error, cost, result.mean_s * 1e3, result.max_s * 1e3))


def bound_of(results: Results, name: str, problem: Problem, capacity: bool) -> Row:
    known = results.get(name, BOUND)
    if known is None:
        known = results.put(Row(name, BOUND, 0.0, 0.0, with_capacity(problem) if capacity else by_hull(problem)))
    return known


def say(case: str, ours: float, unit: str, **more: Any) -> None:
    print(json.dumps({"bench": "placement", "case": case, "ours": round(ours, 2), "unit": unit, **more}), flush=True)


def compare(results: Results, name: str, problem: Problem, options: argparse.Namespace, capacity: bool) -> None:
    bound = bound_of(results, name, problem, capacity)
    for restart in options.restarts:
        for error in options.errors:
            ours = run(results, name, problem, methods.OURS, restart, error)
            facts = {
                "bound": round(bound.total, 2),
                "above_bound_percent": round((ours.total / bound.total - 1) * 100, 2),
                "decision_ms_mean": round(ours.mean_ms, 2),
                "decision_ms_max": round(ours.max_ms, 1),
            }
            for peer in options.methods:
                value = run(results, name, problem, peer, restart, error).total
                say(
                    f"{name} restart={restart:g} error={error:g}",
                    ours.total,
                    "$",
                    peer=peer,
                    peer_value=round(value, 2),
                    ratio=round(ours.total / value, 4),
                    **facts,
                )


def table(results: Results) -> None:
    """What is known, as Markdown: a line for each instance, restart and error, a column for each method."""
    names = sorted({row.method for row in results} - {methods.OURS, BOUND}, key=_peer_order)
    print("| instance | restart s | error % | ours | " + " | ".join(names) + " | bound | above it % | ms, mean / max |")
    print("| --- |" + " --- |" * (len(names) + 6))
    ours = sorted(
        (row for row in results if row.method == methods.OURS),
        key=lambda row: (_kind(row.instance), _size(row.instance), row.instance, row.restart, row.error),
    )
    for row in ours:
        peers = [results.get(row.instance, name, row.restart, row.error) for name in names]
        shown = [
            "" if peer is None else f"{peer.total:,.0f} ({(row.total / peer.total - 1) * 100:+.1f} %)" for peer in peers
        ]
        bound = results.get(row.instance, BOUND)
        cells = [row.instance, f"{row.restart:g}", f"{row.error * 100:g}", f"{row.total:,.0f}", *shown]
        cells += ["", ""] if bound is None else [f"{bound.total:,.0f}", f"{(row.total / bound.total - 1) * 100:.2f}"]
        print("| " + " | ".join([*cells, f"{row.mean_ms:.1f} / {row.max_ms:.0f}"]) + " |")


def _peer_order(name: str) -> tuple[int, str]:
    short = name.partition(":")[0]
    return PEERS.index(short) if short in PEERS else len(PEERS), name


def _kind(instance: str) -> str:
    return instance.rsplit("-", 2)[0]


def _size(instance: str) -> int:
    part = instance.rsplit("-", 2)
    return int(part[1]) if len(part) == 3 and part[1].isdigit() else 0


def one_decision(nodes: int, jobs: int) -> None:
    """How long a single decision takes in a system that is large and overloaded."""
    problem = generate(nodes=nodes, jobs=jobs, gap_s=0.0, seed=1)
    times = []
    for seed in range(3):
        dice = random.Random(seed)
        method = methods.make(methods.OURS)
        active = [Active(job, dice.uniform(0.05, 1.0)) for job in problem.jobs]
        for shift in (0.0, 100.0):  # the first finds the prices, the second goes on from them
            begin = time.process_time()
            method.decide(View(shift, problem, active))
            times.append(time.process_time() - begin)
    case = f"decision {nodes} nodes {jobs} jobs"
    say(case, max(times), "s", peer="the bound", peer_value=1.0, ratio=round(max(times), 3))
    say(f"{case}, median", statistics.median(times), "s")


def general() -> None:
    """100,000 queued jobs on 50 sites."""
    from bench.scale import placement_s

    seconds, assigned = placement_s()
    say(
        "100,000 jobs on 50 sites", seconds, "s", peer="the bound", peer_value=2.0, ratio=seconds / 2, assigned=assigned
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", nargs="?", default=os.environ.get("INSTANCES", ""))
    parser.add_argument("--only", default="", help="instances with this in their name")
    parser.add_argument("--methods", type=_words, default=list(PEERS), help="NAME[:ITERATIONS],…; empty: ours alone")
    parser.add_argument("--restarts", type=_numbers, default=[0.0])
    parser.add_argument("--errors", type=_numbers, default=[0.0])
    parser.add_argument("--capacity-bound", action="store_true", help="compute the bound that knows the nodes")
    parser.add_argument("--static", action="store_true", help="all jobs at once, instead of as they come")
    parser.add_argument("--results", default="", help="keep runs there, and don't run again what is there")
    parser.add_argument("--table", action="store_true", help="print what is in the results, as Markdown")
    options = parser.parse_args(argv)
    results = Results(options.results)
    if options.table:
        table(results)
        return
    for name, problem in problems(options.instances, options.only, options.static):
        compare(results, name, problem, options, options.capacity_bound or options.static)
    if not options.only:
        one_decision(100, 1000)
        general()


def _words(text: str) -> list[str]:
    return [one for one in text.split(",") if one]


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


if __name__ == "__main__":
    main()
