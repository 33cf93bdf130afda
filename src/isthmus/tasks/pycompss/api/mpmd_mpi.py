"""`@mpmd_mpi`."""

from isthmus.tasks.kinds.decorators import mpmd_mpi

MPMDMPI = mpmd_mpi
__all__ = ["MPMDMPI", "mpmd_mpi"]
