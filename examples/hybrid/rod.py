"""The simulation: a rod, heated at one end, on as many MPI ranks as there are.

    mpirun -n 2 python rod.py DIFFUSIVITY RESULT      RESULT gets a temperature a line

The heat equation u_t = a u_xx by explicit finite differences, a rank a part of the rod; halos are exchanged each step.
"""

import sys
from typing import Any

import numpy as np

POINTS, SECONDS, WIDTH_MM = 96, 20.0, 100.0


def solve(a: float, left: int, right: int, comm: Any) -> np.ndarray:
    """This rank's part of the rod after SECONDS; `comm` None: the whole of it here."""
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


def main() -> None:
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    share = POINTS // comm.size
    last = POINTS if comm.rank == comm.size - 1 else (comm.rank + 1) * share
    parts = comm.gather(solve(float(sys.argv[1]), comm.rank * share, last, comm))
    if parts is not None:
        np.savetxt(sys.argv[2], np.concatenate(parts))


if __name__ == "__main__":
    main()
