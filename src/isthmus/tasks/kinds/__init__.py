"""Tasks that are not the function itself but a program, MPI, a container, an HTTP request: same directions, same graph.

Each kind is an object with `run(task, *args, **kwargs)`, which a worker calls in the function's place.
"""
