"""The work of bench/tasks.py, on one side: `tasks_work.py SIDE CASE` prints one number.

A side is how to start, how to call a function with values or with results that are not there yet, and how to wait. The
work is the same for all: no-ops, a chain, a blocked product of matrices, an array that many read.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

SIDE, CASE = sys.argv[1], sys.argv[2]
BEGIN = time.perf_counter()
WORKERS = 2


def noop(i: int) -> None:
    pass


def increment(x: int) -> int:
    return x + 1


def multiply(a: Any, b: Any, c: Any) -> Any:
    return c + a @ b


def multiply_into(a: Any, b: Any, c: Any) -> None:
    c += a @ b


def total(a: Any, i: int) -> float:
    return float(a[:: 1000 + i].sum())


class Side:
    """How one of the peers is told to work.

    Without more, futures are waited for by the caller before they are passed on.
    """

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        raise NotImplementedError

    def wait(self, futures: list[Any]) -> list[Any]:
        return [future.result() for future in futures]

    def put(self, value: Any) -> Any:
        return value

    def end(self) -> None:
        pass


class Ours(Side):
    def __init__(self, engine: str) -> None:
        from isthmus.tasks import INOUT, start, task

        self.tasks: dict[Any, Any] = {}
        for function in (increment, multiply, total):
            self.tasks[function] = task(returns=1)(function)
        self.tasks[noop] = task(returns=0)(noop)
        self.tasks[multiply_into] = task(c=INOUT)(multiply_into)
        start(engine=engine, workers=WORKERS)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.tasks[function](*args)

    def wait(self, futures: list[Any]) -> list[Any]:
        from isthmus.tasks import barrier, wait_on

        if futures and futures[0] is None:
            barrier()
            return futures
        return wait_on(futures)  # type: ignore[no-any-return]

    def end(self) -> None:
        from isthmus.tasks import stop

        stop()


class Pool(Side):
    def __init__(self, loky: bool) -> None:
        if loky:
            from loky import ProcessPoolExecutor
        else:
            from concurrent.futures import ProcessPoolExecutor
        self.pool = ProcessPoolExecutor(WORKERS)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.pool.submit(function, *(a.result() if hasattr(a, "result") else a for a in args))

    def end(self) -> None:
        self.pool.shutdown()


class Dask(Side):
    def __init__(self) -> None:
        import logging

        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.ERROR)
        self.client = Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.client.submit(function, *args, pure=False)

    def wait(self, futures: list[Any]) -> list[Any]:
        return self.client.gather(futures)  # type: ignore[no-any-return]

    def put(self, value: Any) -> Any:
        return self.client.scatter(value, broadcast=True)

    def end(self) -> None:
        self.client.close()
        self.client.cluster.close()


class Ray(Side):
    def __init__(self) -> None:
        import logging

        import ray

        self.ray = ray
        ray.init(
            address="local", num_cpus=WORKERS, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False
        )
        self.remote = {function: ray.remote(function) for function in (noop, increment, multiply, total)}

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.remote[function].remote(*args)

    def wait(self, futures: list[Any]) -> list[Any]:
        return self.ray.get(futures)  # type: ignore[no-any-return]

    def put(self, value: Any) -> Any:
        return self.ray.put(value)

    def end(self) -> None:
        self.ray.shutdown()


class Parsl(Side):
    def __init__(self) -> None:
        import tempfile

        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        executor = HighThroughputExecutor(
            label="htex", address="127.0.0.1", max_workers_per_node=WORKERS, provider=LocalProvider(max_blocks=1)
        )
        parsl.load(Config(executors=[executor], run_dir=tempfile.mkdtemp(), usage_tracking=0))
        self.parsl = parsl
        self.apps = {function: parsl.python_app(function) for function in (noop, increment, multiply, total)}

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.apps[function](*args)

    def end(self) -> None:
        self.parsl.dfk().cleanup()


class Plain(Side):
    """No engine: the function, here."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    def wait(self, futures: list[Any]) -> list[Any]:
        return futures


def side() -> Side:
    if SIDE.startswith("isthmus-"):
        return Ours(SIDE.partition("-")[2])
    if SIDE in ("loky", "processpool"):
        return Pool(SIDE == "loky")
    return {"dask": Dask, "ray": Ray, "parsl": Parsl, "numpy": Plain}[SIDE]()


def noops(on: Side, count: int) -> float:
    on.wait([on.call(noop, i) for i in range(20)])
    begin = time.perf_counter()
    on.wait([on.call(noop, i) for i in range(count)])
    return count / (time.perf_counter() - begin)


def chain(on: Side, length: int) -> float:
    on.wait([on.call(increment, 0)])
    begin = time.perf_counter()
    x: Any = 0
    for _ in range(length):
        x = on.call(increment, x)
    assert on.wait([x]) == [length]
    return (time.perf_counter() - begin) / length * 1e3


def matmul(on: Side, n: int, size: int) -> float:
    import numpy as np

    rng = np.random.default_rng(1)
    a = [[rng.random((size, size)) for _ in range(n)] for _ in range(n)]
    b = [[rng.random((size, size)) for _ in range(n)] for _ in range(n)]
    on.wait([on.call(multiply, a[0][0][:8, :8], b[0][0][:8, :8], 0.0)])
    begin = time.perf_counter()
    c: Any = [[0.0 for _ in range(n)] for _ in range(n)]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                c[i][j] = on.call(multiply, a[i][k], b[k][j], c[i][j])
    found = on.wait([c[i][j] for i in range(n) for j in range(n)])
    seconds = time.perf_counter() - begin
    assert np.allclose(found[0], sum(a[0][k] @ b[k][0] for k in range(n)))
    return seconds


def matmul_inout(on: Side, n: int, size: int) -> float:
    import numpy as np

    rng = np.random.default_rng(1)
    a = [[rng.random((size, size)) for _ in range(n)] for _ in range(n)]
    b = [[rng.random((size, size)) for _ in range(n)] for _ in range(n)]
    c = [[np.zeros((size, size)) for _ in range(n)] for _ in range(n)]
    warm = np.zeros((8, 8))
    on.call(multiply_into, a[0][0][:8, :8], b[0][0][:8, :8], warm)
    on.wait([warm])
    begin = time.perf_counter()
    for k in range(n):
        for i in range(n):
            for j in range(n):
                on.call(multiply_into, a[i][k], b[k][j], c[i][j])
    on.wait(c)
    seconds = time.perf_counter() - begin
    assert np.allclose(c[0][0], sum(a[0][k] @ b[k][0] for k in range(n)))
    return seconds


def array(on: Side, readers: int) -> float:
    import numpy as np

    big = np.arange(12_500_000.0)
    on.wait([on.call(total, big[:10].copy(), 0)])
    begin = time.perf_counter()
    given = on.put(big)
    on.wait([on.call(total, given, i) for i in range(readers)])
    return time.perf_counter() - begin


def peak_mb() -> float:
    """What this process and its children use: pages of their own, and a share of those that are shared."""
    import os

    total, mine = 0.0, os.getpid()
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for pid in parents:
        above: int | None = pid
        while above and above != mine:
            above = parents.get(above)
        if above == mine:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    return total


def main() -> None:
    if CASE == "cold_start_s":
        on = side()
        on.wait([on.call(increment, 1)])
        print(time.perf_counter() - BEGIN)
        on.end()
        return
    on = side()
    if CASE == "noop_tasks_per_s":
        print(noops(on, 20_000 if SIDE.startswith(("isthmus-p", "isthmus-t", "loky", "proc")) else 4_000))
    elif CASE == "million_tasks_per_s":
        for i in range(1_000_000):
            on.call(noop, i)
        on.wait([None])
        print(1_000_000 / (time.perf_counter() - BEGIN))
    elif CASE == "chain_ms":
        print(chain(on, 1_000))
    elif CASE == "matmul_s":
        print(matmul(on, 8, 512))
    elif CASE == "matmul_inout_s":
        print(matmul_inout(on, 8, 512))
    elif CASE == "array_s":
        print(array(on, 20))
    elif CASE == "peak_mb":
        noops(on, 4_000)
        chain(on, 200)
        print(peak_mb())
    on.end()


if __name__ == "__main__":
    main()
