"""One Python program over MPI ranks, a container, a request to a service, jobs, and dislib here.

    python -m examples.hybrid.app                     all on this machine (needs OpenMPI and mpi4py)
    python -m examples.hybrid.app --site hpc          the simulation as MPI jobs at a site of the platform
    python -m examples.hybrid.app --image ./image     the table is sorted in a container (--engine charliecloud)
    python -m examples.hybrid.app --dislib            dislib groups the rods (pip install dislib)

A rod is heated at one end, for several materials: their diffusivities come from a service over HTTP, which this program
starts for the occasion. The simulation is an MPI program (rod.py); `sort` orders the table of results; a least-squares
fit here gives the material back from the temperatures alone; and dislib's k-means tells good conductors from poor ones.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from examples.hybrid.rod import POINTS, solve
from isthmus.tasks import FILE_IN, FILE_OUT, start, task, wait_on, wait_on_file
from isthmus.tasks.directions import TABLE
from isthmus.tasks.kinds.decorators import binary, container, http, mpi

ROD = Path(__file__).with_name("rod.py")

# Thermal diffusivity in mm2/s at 20 C (Incropera and DeWitt, Fundamentals of Heat and Mass Transfer, table A.1).
DIFFUSIVITY = {"copper": 117.0, "aluminium": 97.1, "iron": 23.1, "titanium": 9.32}


@http(service_name="materials", request="GET", resource="{{name}}", produces='{"diffusivity": "{{return_0}}"}')
@task(returns=1)
def diffusivity(name: str) -> Any:
    """What the service says of a material."""


@mpi(runner="mpirun", binary=sys.executable, args="{{program}} {{a}} {{result}}", processes=2)
@task(program=FILE_IN, result=FILE_OUT, returns=int)
def simulate(program: str, a: float, result: str) -> Any:
    """The rod on two ranks; the file gets its temperatures."""


@task(result=FILE_IN, returns=1)
def temperatures(result: str) -> np.ndarray:
    """What the simulation has left."""
    return np.loadtxt(result)


@task(table=FILE_OUT)
def tabulate(names: list[str], ends: list[float], table: str) -> None:
    """A line a material: its name, and how warm the middle of the rod is."""
    Path(table).write_text("".join(f"{end:9.4f} {name}\n" for name, end in zip(names, ends, strict=True)))


@binary(binary="sort", args="-rn")
@task(table=TABLE["FILE_STDIN"], ordered=TABLE["FILE_STDOUT"])
def order(table: str, ordered: str) -> None:
    """The warmest first."""


@container(image="{{image}}")
@binary(binary="sort", args="-rn")
@task(table=TABLE["FILE_STDIN"], ordered=TABLE["FILE_STDOUT"])
def order_in_image(image: str, table: str, ordered: str) -> None:
    """The same, in a container."""


@task(returns=1)
def middle(rod: np.ndarray) -> float:
    """The temperature in the middle of the rod."""
    return float(rod[POINTS // 2])


@task(returns=1)
def fit(seen: np.ndarray) -> float:
    """The diffusivity whose solution is nearest to these temperatures: a golden-section search on the solver."""

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


def groups(rods: list[np.ndarray]) -> list[int]:
    """Good conductors and poor ones: dislib's k-means on the temperatures, on the same tasks."""
    import dislib as ds
    from dislib.cluster import KMeans

    found = KMeans(n_clusters=2, random_state=0).fit_predict(ds.array(np.vstack(rods), block_size=(2, POINTS)))
    return [int(label) for label in np.ravel(found.collect())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", help="where the simulation runs, as jobs: a site of `isthmus site ls`")
    parser.add_argument("--image", help="sort in this container image")
    parser.add_argument("--engine", default="", help="by this container engine; without, whichever is here")
    parser.add_argument("--dislib", action="store_true", help="group the rods with dislib")
    words = parser.parse_args()
    service = ThreadingHTTPServer(("127.0.0.1", 0), Materials)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    os.environ["ISTHMUS_TASKS_SERVICES"] = f"materials=http://127.0.0.1:{service.server_port}/"
    # What follows is for the workers, too, so it comes before they start.
    order_in_image.kind = replace(order_in_image.kind, engine=words.engine.upper())
    if words.dislib:
        from isthmus.tasks.pycompss import install

        install()  # `import pycompss` finds Isthmus, here and in the workers that start now
    start()
    if words.site:
        simulate.redeclare(site=words.site)
    names = list(DIFFUSIVITY)
    with tempfile.TemporaryDirectory() as folder:
        table, ordered = f"{folder}/table", f"{folder}/ordered"
        rods = []
        for name, a in zip(names, wait_on([diffusivity(name) for name in names]), strict=True):
            simulate(str(ROD), a, f"{folder}/{name}")
            rods.append(temperatures(f"{folder}/{name}"))
        tabulate(names, [middle(rod) for rod in rods], table)
        if words.image:
            order_in_image(words.image, table, ordered)
        else:
            order(table, ordered)
        found = wait_on([fit(rod) for rod in rods])
        wait_on_file(ordered)
        print("The middle of the rod after 20 s, the warmest first:")
        print(Path(ordered).read_text(), end="")
        rods = wait_on(rods)
    for name, a in zip(names, found, strict=True):
        print(f"{name}: {a:.1f} mm2/s from the temperatures, {DIFFUSIVITY[name]} in the table")
    if words.dislib:
        labels = groups(rods)
        for label in dict.fromkeys(labels):
            print("dislib:", " and ".join(name for name, one in zip(names, labels, strict=True) if one == label))
    service.shutdown()
    if any(abs(a / DIFFUSIVITY[name] - 1) > 0.05 for name, a in zip(names, found, strict=True)):
        sys.exit("The fit is off by more than 5 %.")


if __name__ == "__main__":
    main()
