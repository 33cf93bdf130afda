"""What a task costs, on each engine, beside what people use now: the same work for each in one run.

    make bench NAME=tasks              all cases and engines, and the peers
    python bench/tasks.py CASE …       some of them
    python bench/tasks.py --no-peers   ours alone
    python bench/tasks.py --engine processes array_s cold_start_s peak_mb

A run that has not ended after --limit seconds is given up, and said on stderr; one that took a third is not repeated.

Prints JSON lines, one a case and engine. Each case of each side is a process of its own with two workers; a peer is
installed into a virtual environment under $BENCH_PEERS (or .bench-peers) the first time. What is measured, and what the
figures were, is said in docs/tasks-performance.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "bench" / "peers" / "tasks_work.py"

ENGINES = ("processes", "threads", "ray")
PEERS = {
    "processpool": ("ProcessPoolExecutor", []),
    "loky": ("loky", ["loky"]),
    "dask": ("dask.distributed", ["dask", "distributed"]),
    "ray": ("Ray", ["ray"]),
    "parsl": ("Parsl HTEX", ["parsl"]),
}
# What each case should reach with the processes engine on two cores; a bound stands as the peer where there is none.
CASES: dict[str, tuple[str, float, bool]] = {
    "noop_tasks_per_s": ("tasks/s", 50_000, True),
    "chain_ms": ("ms", 0.15, False),
    "matmul_s": ("s", 2.3, False),
    "matmul_inout_s": ("s", 2.3, False),
    "array_s": ("s", 0.15, False),
    "cold_start_s": ("s", 0.3, False),
    "peak_mb": ("MB", 200, False),
    "million_tasks_per_s": ("tasks/s", 50_000, True),
}
OURS_ONLY = {"million_tasks_per_s", "matmul_inout_s"}


def say(case: str, engine: str, ours: float, **more: Any) -> None:
    """One line of the bench's output."""
    line = {"bench": "tasks", "case": case, "engine": engine, "ours": round(ours, 4), "unit": CASES[case][0]}
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in more.items()}
    print(json.dumps({**line, **rounded}), flush=True)


def python_of(peer: str) -> str | None:
    """The interpreter of a peer's own environment, with it installed."""
    packages = PEERS[peer][1]
    folder = Path(os.environ.get("BENCH_PEERS", ROOT / ".bench-peers")) / f"tasks-{peer}"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "numpy", "cloudpickle", *packages]
        if subprocess.run(install, check=False).returncode:
            print(f"{peer} can't be installed here", file=sys.stderr)
            return None
    return str(python)


def measure(python: str, side: str, case: str, times: int, limit_s: float) -> float | None:
    """The median of some runs of one case on one side, each a process of its own."""
    # All sides alike: a worker's numerical library takes one thread, as two workers have two cores.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env["PATH"] = f"{Path(python).parent}:{env['PATH']}"  # Parsl starts programs of its own
    found: list[float] = []
    begin = time.monotonic()
    while len(found) < times and (not found or time.monotonic() - begin < limit_s / 3):
        try:
            said = subprocess.run(
                [python, str(WORK), side, case], env=env, capture_output=True, text=True, timeout=limit_s, check=True
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said_last = error.stderr or b""
            print(f"{side} {case}: {type(error).__name__}: {str(said_last)[-600:]}", file=sys.stderr)
            return None
        found.append(float(said.stdout.split()[-1]))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="some of: " + ", ".join(CASES))
    parser.add_argument("--no-peers", action="store_true", help="ours alone, beside the bounds")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="some of the engines")
    parser.add_argument("--times", type=int, default=3, help="runs of each case; the median is taken")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that one run of a case may take")
    words = parser.parse_args()
    peers = {} if words.no_peers else {name: python for name in PEERS if (python := python_of(name))}
    ray = python_of("ray") if not words.no_peers or "ray" in (words.engine or ()) else None
    for case in words.cases or CASES:
        _, bound, more_is_better = CASES[case]
        ours: dict[str, float] = {}
        for engine in words.engine or ENGINES:
            python = sys.executable if engine != "ray" else ray
            if python is None or (case in OURS_ONLY and engine != "processes"):
                continue
            value = measure(python, f"isthmus-{engine}", case, words.times, words.limit)
            if value is not None:
                ours[engine] = value
                ratio = value / bound if more_is_better else bound / value
                say(case, engine, value, peer="the bound", peer_value=float(bound), ratio=ratio)
        if case in OURS_ONLY:
            continue
        if case == "matmul_s":
            peer = measure(sys.executable, "numpy", case, words.times, words.limit)
            beside(case, ours, "numpy, one thread", peer, more_is_better)
        for name, python in peers.items():
            beside(case, ours, PEERS[name][0], measure(python, name, case, words.times, words.limit), more_is_better)


def beside(case: str, ours: dict[str, float], label: str, peer: float | None, more_is_better: bool) -> None:
    """Ours beside a peer's: a ratio above 1 says that ours is better."""
    if peer is None:
        return
    for engine, value in ours.items():
        ratio = value / peer if more_is_better else peer / value
        say(case, engine, value, peer=label, peer_value=peer, ratio=ratio)


if __name__ == "__main__":
    main()
