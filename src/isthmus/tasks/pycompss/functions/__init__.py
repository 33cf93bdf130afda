"""Functions over tasks that PyCOMPSs ships: map, reductions, random data, elapsed time."""
