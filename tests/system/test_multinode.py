"""Jobs on several nodes, from the client's submit to results at home: torch's gloo, torchrun, and MPI programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.client import Client
from isthmus.domain.jobs import JobRequest, Output, Resources, Retry
from isthmus.domain.states import JobState
from isthmus.domain.views import JobView
from tests.testbed import scratch
from tests.testbed.control import ControlPlane
from tests.testbed.sites import slurm_site
from tests.testbed.slurm import SlurmCluster

# Fits a line by gradient descent on data that the ranks share between them: the same steps, however many they are.
TRAIN = """
import json, os, socket, sys
import torch
import torch.distributed as dist
import isthmus

torch.manual_seed(7)
inputs = torch.rand(240, 3)
wanted = inputs @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.25
model = torch.nn.Linear(3, 1)
if "RANK" in os.environ:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = torch.nn.parallel.DistributedDataParallel(model)
else:
    rank, size = 0, 1
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for step in range(1, 101):
    loss = torch.nn.functional.mse_loss(model(inputs[rank::size]), wanted[rank::size])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0:
        isthmus.report(loss=float(loss), step=step, progress=(step, 100))
os.write(1, f"rank {rank} of {size} on {socket.gethostname()}\\n".encode())
if rank == 0:
    weights = [value.flatten().tolist() for value in model.parameters()]
    json.dump(weights, open("model.json", "w"))
if size > 1:
    dist.destroy_process_group()
"""

# Open MPI has no Python of its own here: its library is called as C would, and adds up the ranks.
SUM = """
import ctypes, os
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)

def handle(name):
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, name)))

world = handle("ompi_mpi_comm_world")
mpi.MPI_Init(None, None)
rank, size, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
one = ctypes.c_int(rank.value + 1)
mpi.MPI_Allreduce(
    ctypes.byref(one), ctypes.byref(total), 1, handle("ompi_mpi_int"), handle("ompi_mpi_op_sum"), world
)
os.write(1, b"rank %d of %d on %s: %d\\n" % (rank.value, size.value, os.uname().nodename.encode(), total.value))
mpi.MPI_Finalize()
"""


@pytest.fixture(scope="module")
def client(slurm: SlurmCluster) -> Iterator[Client]:
    """Of a control plane on the cluster's own head, as root: the tests' Python, with torch, may be root's alone."""
    folder = scratch.folder("multinode")
    with ControlPlane(folder / "plane", env=slurm.env(), local_site=False) as plane, plane.client() as client:
        client.sites.add(slurm_site("cluster", workdir=str(folder / "work")))
        yield client


def ended(client: Client, *jobs: int) -> list[JobView]:
    views = client.jobs.wait_many(jobs, timeout_s=200)
    for view in views:
        assert view.state is JobState.COMPLETED, f"{view}\n{log(client, view.id)}"
    return views


def log(client: Client, job: int) -> str:
    return b"".join(client.jobs.follow(job)).decode()


def ranks(client: Client, job: int) -> list[list[str]]:
    return sorted(line.split() for line in log(client, job).splitlines() if line.startswith("rank "))


@pytest.mark.timeout(300)
def test_torch_trains_on_two_nodes_as_on_one(client: Client, slurm: SlurmCluster, tmp_path: Path) -> None:
    """Once with a rank started by our runner, once by torchrun; both must find the weights that one process finds."""
    done = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False)
    assert done.returncode == 0, "torch is not installed: run scripts/install-test-torch with this Python"
    train = tmp_path / "train.py"
    train.write_text(TRAIN)
    ways = {
        "alone": ((sys.executable, str(train)), Resources(cpus=2)),
        "runner": ((sys.executable, str(train)), Resources(cpus=1, nodes=2, tasks_per_node=2)),
        "torchrun": (
            (sys.executable, "-m", "torch.distributed.run", str(train)),
            Resources(cpus=1, nodes=2, tasks_per_node=2),
        ),
    }
    jobs = {
        how: client.jobs.submit(
            JobRequest(
                name=how,
                command=command,
                resources=resources,
                outputs=(Output(path="model.json"),),
                env={"OMP_NUM_THREADS": "1"},
                retry=Retry(attempts=1),
            )
        ).id
        for how, (command, resources) in ways.items()
    }
    ended(client, *jobs.values())
    found = {how: json.loads(client.jobs.download(job, "model.json", tmp_path / how).read_text())
             for how, job in jobs.items()}  # fmt: skip
    (slopes, (offset,)) = found["alone"]
    assert [*slopes, offset] == pytest.approx([1.0, -2.0, 0.5, 0.25], abs=0.1)
    for how in ("runner", "torchrun"):
        for ours, its in zip(found[how], found["alone"], strict=True):
            assert ours == pytest.approx(its, abs=1e-4)
        told = ranks(client, jobs[how])
        assert [(line[1], line[3]) for line in told] == [(str(rank), "4") for rank in range(4)]
        assert {line[5] for line in told} == set(slurm.node_names)
        (series,) = client.jobs.metrics(jobs[how], names=["loss"])
        assert [point.step for point in series.points] == list(range(1, 101))
        assert (series.points[-1].value or 1) < 0.05
        nodes = client.jobs.attempts(jobs[how])[0].nodes.split(",")
        assert nodes[0] in slurm.node_names


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_an_mpi_program_on_two_nodes(client: Client, slurm: SlurmCluster, tmp_path: Path, launcher: str) -> None:
    program = tmp_path / "sum.py"
    program.write_text(SUM)
    job = client.jobs.submit(
        {
            "command": ["/usr/bin/python3", str(program)],
            "resources": {"cpus": 1, "nodes": 2, "tasks_per_node": 2},
            "launcher": launcher,
            # A cluster that is set up for MPI says this itself (MpiDefault in slurm.conf); srun reads it from here too.
            "env": {"SLURM_MPI_TYPE": "pmix"},
            "retry": {"attempts": 1},
        }
    ).id
    ended(client, job)
    told = ranks(client, job)
    assert [(line[1], line[3], line[6]) for line in told] == [(str(rank), "4", "10") for rank in range(4)]
    assert {line[5].rstrip(":") for line in told} == set(slurm.node_names)


def test_a_job_on_more_nodes_than_there_are_is_refused(client: Client) -> None:
    from isthmus.domain.errors import Invalid

    with pytest.raises(Invalid, match="2 nodes") as caught:
        client.jobs.submit({"command": ["true"], "resources": {"nodes": 9}})
    assert caught.value.place == "resources.nodes"
