"""One Python program over four kinds of work: MPI ranks, a program, a request to a service, and analytics here.

    python -m examples.hybrid.app                     all on this machine (needs OpenMPI and mpi4py)
    python -m examples.hybrid.app --site hpc          the table and its sorting as jobs at a site of the platform

A rod is heated at one end. The simulation solves the heat equation u_t = a u_xx by explicit finite differences, a rank
a part of the rod, for several materials (their diffusivities come from a service over HTTP, which this program starts
for the occasion); `sort` orders the table of results; and a least-squares fit here gives the material back
from the temperatures alone.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.tasks import FILE_OUT, start, task, wait_on, wait_on_file
from isthmus.tasks.directions import TABLE
from isthmus.tasks.kinds.decorators import binary, http, mpi

# Thermal diffusivity in mm2/s at 20 C (Incropera and DeWitt, Fundamentals of Heat and Mass Transfer, table A.1).
DIFFUSIVITY = {"copper": 117.0, "aluminium": 97.1, "iron": 23.1, "titanium": 9.32}
POINTS, SECONDS, WIDTH_MM = 96, 20.0, 100.0


@http(service_name="materials", request="GET", resource="{{name}}", produces='{"diffusivity": "{{return_0}}"}')
@task(returns=1)
def diffusivity(name: str) -> Any:
    """What the service says of a material."""


def solve(a: float, left: int, right: int, comm: Any) -> np.ndarray:
    """This rank's part of the rod after SECONDS, by explicit finite differences; halos are exchanged at each step."""
    dx = WIDTH_MM / POINTS
    steps = int(np.ceil(SECONDS / (0.4 * dx * dx / a)))
    factor = a * SECONDS / steps / (dx * dx)
    u = np.zeros(right - left + 2)
    for _ in range(steps):
        if comm is not None and comm.size > 1:
            before, after = comm.rank - 1, comm.rank + 1
            if after < comm.size:
                u[-1] = comm.sendrecv(u[-2], dest=after, source=after)
            if before >= 0:
                u[0] = comm.sendrecv(u[1], dest=before, source=before)
        if left == 0:
            u[0] = 100.0
        if right == POINTS:
            u[-1] = u[-2]
        u[1:-1] += factor * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u[1:-1]


@mpi(runner="mpirun", processes=2)
@task(returns=2)
def simulate(a: float) -> Any:
    """The rod on two ranks; each returns its part."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    share = POINTS // comm.size
    return solve(a, comm.rank * share, (comm.rank + 1) * share, comm)


@task(table=FILE_OUT)
def tabulate(names: list[str], ends: list[float], table: str) -> None:
    """A line a material: its name, and how warm the middle of the rod is."""
    Path(table).write_text("".join(f"{end:9.4f} {name}\n" for name, end in zip(names, ends, strict=True)))


@binary(binary="sort", args="-rn")
@task(table=TABLE["FILE_STDIN"], ordered=TABLE["FILE_STDOUT"])
def order(table: str, ordered: str) -> None:
    """The warmest first."""


@task(returns=1)
def middle(parts: list[np.ndarray]) -> float:
    """The temperature in the middle of the rod."""
    return float(np.concatenate(parts)[POINTS // 2])


@task(returns=1)
def fit(parts: list[np.ndarray]) -> float:
    """The diffusivity whose solution is nearest to these temperatures: a golden-section search on the solver."""
    seen = np.concatenate(parts)

    def miss(log_a: float) -> float:
        return float(((solve(float(np.exp(log_a)), 0, POINTS, None) - seen) ** 2).sum())

    low, high, ratio = np.log(1.0), np.log(300.0), (np.sqrt(5) - 1) / 2
    for _ in range(20):
        one, two = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, two) if miss(one) < miss(two) else (one, high)
    return float(np.exp((low + high) / 2))


class Materials(BaseHTTPRequestHandler):
    """The service: GET /copper gives {"diffusivity": 117.0}."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if name not in DIFFUSIVITY:
            self.send_error(404, "no such material")
            return
        body = json.dumps({"diffusivity": DIFFUSIVITY[name]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the program's own output is enough."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", help="where the table is made and sorted, as jobs: a site of `isthmus site ls`")
    words = parser.parse_args()
    service = ThreadingHTTPServer(("127.0.0.1", 0), Materials)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    os.environ["ISTHMUS_TASKS_SERVICES"] = f"materials=http://127.0.0.1:{service.server_port}/"
    start()
    if words.site:
        order.redeclare(site=words.site)
        tabulate.redeclare(site=words.site)
    names = list(DIFFUSIVITY)
    with tempfile.TemporaryDirectory() as folder:
        table, ordered = f"{folder}/table", f"{folder}/ordered"
        rods = [simulate(diffusivity(name)) for name in names]
        tabulate(names, [middle(rod) for rod in rods], table)
        order(table, ordered)
        found = wait_on([fit(rod) for rod in rods])
        wait_on_file(ordered)
        print("The middle of the rod after 20 s, the warmest first:")
        print(Path(ordered).read_text(), end="")
    for name, a in zip(names, found, strict=True):
        print(f"{name}: {a:.1f} mm2/s from the temperatures, {DIFFUSIVITY[name]} in the table")
    service.shutdown()
    if any(abs(a / DIFFUSIVITY[name] - 1) > 0.05 for name, a in zip(names, found, strict=True)):
        sys.exit("The fit is off by more than 5 %.")


if __name__ == "__main__":
    main()
