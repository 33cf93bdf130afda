"""Numerical libraries in workers take one thread each, also those that were loaded before the workers began."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sklearn.cluster  # OpenMP and OpenBLAS, loaded before there are workers
import threadpoolctl

from isthmus.tasks import start, task, wait_on

@task(returns=1)
def threads():
    return {library["user_api"]: library["num_threads"] for library in threadpoolctl.threadpool_info()}

start(engine="processes", workers=2)
print(wait_on(threads()))
"""


def test_libraries_that_were_loaded_before_take_one_thread(tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert eval(said.stdout) == {"openmp": 1, "blas": 1}, said.stderr
