"""submitit's local executor: a function that runs `true`, two at a time. Prints jobs per second."""

import collections
import subprocess
import sys
import tempfile
import time

import submitit

count = max(10, int(sys.argv[1]) // 25)  # each job starts an interpreter: fewer of them
executor = submitit.LocalExecutor(folder=tempfile.mkdtemp())


def true() -> int:
    return subprocess.call(["true"])


begin = time.perf_counter()
running: "collections.deque[submitit.Job[int]]" = collections.deque()
for _ in range(count):
    running.append(executor.submit(true))
    if len(running) == 2:
        running.popleft().result()
for job in running:
    job.result()
print(count / (time.perf_counter() - begin))
