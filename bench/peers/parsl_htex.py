"""Parsl's HighThroughputExecutor: `true` as bash apps on two workers. Prints jobs per second."""

import sys
import tempfile
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

count = int(sys.argv[1])
folder = tempfile.mkdtemp()
executor = HighThroughputExecutor(
    label="htex", address="127.0.0.1", max_workers_per_node=2, provider=LocalProvider(init_blocks=1, max_blocks=1)
)
parsl.load(Config(executors=[executor], run_dir=folder, usage_tracking=0))


@parsl.bash_app
def true() -> str:
    return "true"


[future.result() for future in [true() for _ in range(4)]]
begin = time.perf_counter()
for future in [true() for _ in range(count)]:
    future.result()
print(count / (time.perf_counter() - begin))
parsl.dfk().cleanup()
