"""PSI/J's local executor: `true`, each job with its attributes and a status callback. Prints jobs per second."""

import sys
import threading
import time

from psij import Job, JobExecutor, JobSpec, JobStatusCallback

count = int(sys.argv[1])
executor = JobExecutor.get_instance("local")
left = threading.Semaphore(0)


class Ended(JobStatusCallback):
    def job_status_changed(self, job, status):
        if status.final:
            left.release()


executor.set_job_status_callback(Ended())
begin = time.perf_counter()
for start in range(0, count, 32):  # as many at once as ours keeps at a site
    some = min(32, count - start)
    for _ in range(some):
        executor.submit(Job(JobSpec(executable="/bin/true")))
    for _ in range(some):
        left.acquire()
print(count / (time.perf_counter() - begin))
