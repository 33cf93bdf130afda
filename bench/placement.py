"""Joint scheduling and sizing: our method beside the published ones, on a folder of instances.

    bench/placement.py [INSTANCES] [--only TEXT] [--methods a,b] [--restarts 0,60,300] [--errors 0,0.05,0.13]

INSTANCES (or the environment's INSTANCES) is a folder of problems; without one, problems of our own making are used.
With CHECKER=PROGRAM (called as PROGRAM INSTANCE SCHEDULE --restart S; prints {"total": …}) every figure is that
program's, else our own judge's. ``ours`` is our method's cost, ``peer_value`` the other's; ``ratio`` below 1 is better.
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
from collections.abc import Iterator
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


def problems(folder: str, only: str) -> Iterator[tuple[str, Problem]]:
    if folder:
        for path in sorted(Path(folder).glob("*.json")):
            if only in path.stem:
                yield path.stem, read_problem(json.loads(path.read_text()))
        return
    for load, gap in (("light", 6000.0), ("heavy", 2500.0)):
        for seed in (1, 2):
            yield f"made-{load}-{seed}", generate(nodes=10, jobs=101, gap_s=gap, seed=seed)


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


def run(problem: Problem, name: str, restart: float, error: float, iterations: int) -> tuple[float, Result]:
    method = methods.make(name, seed=1, iterations=iterations)
    believed = mispredict(problem, error, 1)
    result = simulate(problem, method, restart_s=restart, predicted=believed, clock=time.perf_counter)
    return total(problem, result, restart), result


def say(case: str, ours: float, unit: str, **more: Any) -> None:
    print(json.dumps({"bench": "placement", "case": case, "ours": round(ours, 2), "unit": unit, **more}), flush=True)


def compare(name: str, problem: Problem, options: argparse.Namespace, bound: float) -> None:
    for restart in options.restarts:
        for error in options.errors:
            ours, result = run(problem, methods.OURS, restart, error, 1)
            case = f"{name} restart={restart:g} error={error:g}"
            facts = {
                "bound": round(bound, 2),
                "above_bound_percent": round((ours / bound - 1) * 100, 2),
                "decision_ms_mean": round(result.mean_s * 1e3, 2),
                "decision_ms_max": round(result.max_s * 1e3, 1),
            }
            for peer in options.methods:
                method, _, iterations = peer.partition(":")
                value, _ = run(problem, method, restart, error, int(iterations or 100))
                say(case, ours, "$", peer=peer, peer_value=round(value, 2), ratio=round(ours / value, 4), **facts)


def one_decision(nodes: int, jobs: int) -> None:
    """How long a single decision takes in a system that is large and overloaded."""
    problem = generate(nodes=nodes, jobs=jobs, gap_s=0.0, seed=1)
    times = []
    for seed in range(3):
        dice = random.Random(seed)
        method = methods.make(methods.OURS)
        active = [Active(job, dice.uniform(0.05, 1.0)) for job in problem.jobs]
        for shift in (0.0, 100.0):  # the first finds the prices, the second goes on from them
            begin = time.perf_counter()
            method.decide(View(shift, problem, active))
            times.append(time.perf_counter() - begin)
    say(f"decision {nodes} nodes {jobs} jobs", max(times), "s", peer="the bound", peer_value=1.0, ratio=max(times))
    say(f"decision {nodes} nodes {jobs} jobs, median", statistics.median(times), "s")


def general() -> None:
    """100,000 queued jobs on 50 sites."""
    from bench.scale import placement_s

    seconds, assigned = placement_s()
    say(
        "100,000 jobs on 50 sites", seconds, "s", peer="the bound", peer_value=2.0, ratio=seconds / 2, assigned=assigned
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", nargs="?", default=os.environ.get("INSTANCES", ""))
    parser.add_argument("--only", default="", help="instances with this in their name")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(PEERS), help="NAME[:ITERATIONS],…")
    parser.add_argument("--restarts", type=_numbers, default=[0.0])
    parser.add_argument("--errors", type=_numbers, default=[0.0])
    parser.add_argument("--capacity-bound", action="store_true", help="compute the bound that knows the nodes, too")
    parser.add_argument("--static", action="store_true", help="all jobs at once, too")
    options = parser.parse_args()
    for name, problem in problems(options.instances, options.only):
        compare(name, problem, options, with_capacity(problem) if options.capacity_bound else by_hull(problem))
        if options.static:
            static = all_at_once(problem)
            compare(f"static {name}", static, options, with_capacity(static))
    if not options.only:
        one_decision(100, 1000)
        general()


def _numbers(text: str) -> list[float]:
    return [float(one) for one in text.split(",")]


if __name__ == "__main__":
    main()
