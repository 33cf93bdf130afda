"""`@multinode`: the function runs once, and is told which nodes are its own."""

import os
import socket
from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.tasks.constraints import units
from isthmus.tasks.declaration import Task
from isthmus.tasks.kinds.words import given, whole


@dataclass(frozen=True, slots=True)
class MultiNode:
    """See the module. All nodes are this machine, unless the program runs within an allocation of SLURM."""

    COUNTS: ClassVar = ("computing_nodes",)
    computing_nodes: Any = 1

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Call the function with SLURM's variables, and COMPSs's, set."""
        values = given(task, args, kwargs)
        nodes = whole(self.computing_nodes, values, task, "computing_nodes")
        names = os.environ.get("SLURM_JOB_NODELIST") or ",".join([socket.gethostname()] * nodes)
        cores = units(task, values, 1 << 30)
        told = {
            "COMPSS_NUM_NODES": str(nodes),
            "COMPSS_NUM_PROCS": str(nodes),
            "COMPSS_NUM_THREADS": str(cores),
            "COMPSS_HOSTNAMES": names,
            "SLURM_NTASKS": str(nodes),
            "SLURM_NNODES": str(nodes),
            "SLURM_JOB_NUM_NODES": str(nodes),
            "SLURM_NODELIST": names,
            "SLURM_TASKS_PER_NODE": "1",
            "SLURM_CPUS_PER_TASK": str(cores),
            "OMP_NUM_THREADS": str(cores),
        }
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        try:
            return task.function(*args, **kwargs)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
