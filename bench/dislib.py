"""dislib on each engine, beside PyCOMPSs: KMeans and a blocked matrix product, in turns within one run.

    SUITE=/path/to/dislib make bench NAME=dislib     the folder of a checked-out dislib
    python bench/dislib.py --suite PATH [--engine processes] [CASE …]

The environment is the one that `make dislib SUITE=…` makes (scripts/run-dislib). Each measurement is a process of its
own with two workers, which have run a task before the clock starts; what is timed is the work, not imports. Peers:

- PyCOMPSs, by the `runcompss` of $COMPSS_HOME, where it is installed;
- its Python sources alone, which run each task where it is called: what there is to be gained from, at one worker.
  $PYCOMPSS_SOURCE is a folder with `pycompss` in it (with its generated `api/commons/data_type.py`).

Prints JSON lines, one a case and engine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("processes", "threads", "sequential")
CASES = {
    # name -> what runs before the clock, and what is timed
    "kmeans_s": (
        "x = ds.random_array((400_000, 40), (50_000, 40), random_state=0); compss_wait_on(x._blocks)",
        "KMeans(n_clusters=8, init=x[:8].collect(), max_iter=5, tol=0).fit(x)",
    ),
    "kmeans_small_tasks_s": (
        "x = ds.random_array((6_400, 8), (100, 8), random_state=0); compss_wait_on(x._blocks)",
        "KMeans(n_clusters=4, init=x[:4].collect(), max_iter=10, tol=0).fit(x)",
    ),
    "matmul_s": (
        "a = ds.random_array((2048, 2048), (512, 512), random_state=0); compss_wait_on(a._blocks)",
        "ds.matmul(a, a).collect()",
    ),
    "matmul_small_tasks_s": (
        "a = ds.random_array((512, 512), (64, 64), random_state=0); compss_wait_on(a._blocks)",
        "ds.matmul(a, a).collect()",
    ),
}
WORK = """
import time
import dislib as ds
from dislib.cluster import KMeans
from pycompss.api.api import compss_barrier, compss_wait_on

if __name__ == "__main__":
    ds.random_array((100, 10), (10, 10)).sum(axis=0).collect()
    {before}
    compss_barrier()
    begin = time.perf_counter()
    {timed}
    compss_barrier()
    print("took", time.perf_counter() - begin)
"""


def measure(command: list[str], suite: Path, case: str, **more: str) -> float | None:
    """Seconds of one run of a case, or None where it failed, which is said on stderr."""
    work = suite / f".bench-{case}.py"
    before, timed = CASES[case]
    work.write_text(WORK.format(before=before, timed=timed))
    env = {**os.environ, "ComputingUnits": "1", "ComputingUnitsGPUs": "0", "OMP_NUM_THREADS": "1", **more}
    env["OPENBLAS_NUM_THREADS"] = "1"  # all sides alike: two workers have two cores
    try:
        said = subprocess.run(
            [*command, str(work)], env=env, cwd=suite, capture_output=True, text=True, timeout=300, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"{command} {case}: {type(error).__name__}: {str(error.stderr)[-600:]}", file=sys.stderr)
        return None
    finally:
        work.unlink()
    return float(said.stdout.rpartition("took ")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="some of: " + ", ".join(CASES))
    parser.add_argument("--suite", default=os.environ.get("SUITE"), help="a checked-out dislib; $SUITE")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="some of the engines")
    parser.add_argument("--times", type=int, default=3, help="turns; the median is taken")
    words = parser.parse_args()
    suite = Path(words.suite or "")
    python = Path(os.environ.get("DISLIB_VENV", ROOT / ".dislib-venv")) / "bin" / "python"
    if not words.suite or not (suite / "dislib").is_dir() or not python.exists():
        sys.exit("bench/dislib.py needs a checked-out dislib, and its environment: make dislib SUITE=/path/to/dislib")
    ours = f"{ROOT / 'src'}:{ROOT / 'compat' / 'pycompss'}:{suite}"
    sides: dict[str, tuple[list[str], dict[str, str]]] = {
        engine: ([str(python)], {"PYTHONPATH": ours, "ISTHMUS_TASKS": engine, "ISTHMUS_TASKS_WORKERS": "2"})
        for engine in words.engine or ENGINES
    }
    source, home = os.environ.get("PYCOMPSS_SOURCE"), os.environ.get("COMPSS_HOME")
    if source:
        sides["PyCOMPSs's sources, each task where it is called"] = ([str(python)], {"PYTHONPATH": f"{source}:{suite}"})
    if home:
        launcher = [str(Path(home) / "Runtime" / "scripts" / "user" / "runcompss"), f"--pythonpath={suite}"]
        sides["PyCOMPSs"] = ([*launcher, f"--python_interpreter={python}"], {})
    for case in words.cases or CASES:
        found: dict[str, list[float]] = {}
        for _ in range(words.times):
            for side, (command, environment) in sides.items():
                seconds = measure(command, suite, case, **environment)
                if seconds is not None:
                    found.setdefault(side, []).append(seconds)
        medians = {side: statistics.median(values) for side, values in found.items()}
        for engine in words.engine or ENGINES:
            if engine not in medians:
                continue
            line = {"bench": "dislib", "case": case, "engine": engine, "ours": round(medians[engine], 4), "unit": "s"}
            peers = [side for side in medians if side not in ENGINES]
            for peer in peers:
                ratio = round(medians[peer] / medians[engine], 3)
                print(json.dumps({**line, "peer": peer, "peer_value": round(medians[peer], 4), "ratio": ratio}))
            if not peers:
                print(json.dumps(line))


if __name__ == "__main__":
    main()
