"""`@mpi`."""

from isthmus.tasks.kinds.decorators import mpi

Mpi = mpi
__all__ = ["Mpi", "mpi"]
