"""One rank of a job on several nodes: ``rank FOLDER --task`` sets what ranks expect and becomes the command.

Where no launcher of the batch system starts it on every node, ``rank FOLDER --nodes N`` does: the tasks of this node as
its children, those of the others through the batch system's remote start.
"""

import os
import signal
import sys

from isthmus.runner import command, launcher, program
from isthmus.runner import folder as files
from isthmus.runner.errors import Failure

# (rank, its number on the node, the node's number) as SLURM, Open MPI and MPICH's family call them.
_TOLD = (
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_NODE_RANK"),
    ("PMI_RANK", "MPI_LOCALRANKID", ""),
)


def main(arguments: list) -> int:
    """The program ``rank``; its exit code."""
    folder = files.Folder(arguments[0])
    job = folder.read_json(files.SPEC)
    grace_s = float(job.get("grace_s") or 0)
    try:
        argv = command.words(job, folder)
        size = launcher.Size(job, os.environ.get("ISTHMUS_NODES", "").split(","), argv)
        if arguments[1:2] == ["--nodes"]:
            return _spread(folder, size, grace_s)
        if arguments[1:2] == ["--node"]:
            return _wait_all(_local(folder, size, int(arguments[2])), grace_s)
        return _become(folder, job, argv, size)
    except Failure as failure:
        sys.stderr.write("isthmus: %s\n" % failure.message)
        return 127 if failure.reason == "COMMAND" else 1


def variables(rank: int, local: int, node: int, size) -> dict:
    """What a rank is told, under the names that torch.distributed and torchrun read."""
    told = {
        "RANK": rank,
        "WORLD_SIZE": size.world,
        "LOCAL_RANK": local,
        "LOCAL_WORLD_SIZE": size.tasks,
        "NODE_RANK": node,
        "GROUP_RANK": node,
        "NNODES": size.nodes,
    }
    if size.torchrun:
        # torchrun takes the defaults of its options from variables that begin with PET_.
        told.update({"PET_NNODES": size.nodes, "PET_NODE_RANK": node, "PET_NPROC_PER_NODE": size.workers})
        told.update({"PET_MASTER_ADDR": os.environ["MASTER_ADDR"], "PET_MASTER_PORT": os.environ["MASTER_PORT"]})
    return {name: str(value) for name, value in told.items()}


def position(env: dict, size) -> tuple:
    """``(rank, number on the node, number of the node)`` as whoever started this rank says."""
    if "ISTHMUS_RANK" in env:
        rank = int(env["ISTHMUS_RANK"])
        return rank, rank % size.tasks, rank // size.tasks
    for rank_name, local_name, node_name in _TOLD:
        if rank_name in env:
            rank = int(env[rank_name])
            local = int(env.get(local_name, rank % size.tasks))
            node = int(env[node_name]) if node_name.startswith("SLURM") else (rank - local) // size.tasks
            return rank, local, node
    raise Failure("COMMAND", "This rank was not told its number: its launcher is none that is known here.")


def _become(folder, job, argv, size):
    env = dict(os.environ)
    rank, local, node = position(env, size)
    told = variables(rank, local, node, size)
    env.update(told)
    given = [name for name in env.pop(command.GIVEN, "").split(",") if name in env] + sorted(told)
    env.pop("ISTHMUS_RANK", None)
    wrapped = command.contained(job, folder, argv, env, given, "-%d" % rank)
    os.chdir(folder.at(files.WORK))
    path = command.search(wrapped.argv, wrapped.env, os.getcwd())
    os.execve(path, wrapped.argv, wrapped.env)


def _spread(folder, size, grace_s):
    """Start the tasks of every node, here and there, and wait for all."""
    pids = _local(folder, size, 0)
    for node, host in enumerate(size.node_names):
        if node:
            words = _remote(host) + program.start("rank", folder.path, "--node", str(node))
            pids.append(os.spawnvpe(os.P_NOWAIT, words[0], words, dict(os.environ)))
    return _wait_all(pids, grace_s)


def _remote(host):
    if os.environ.get("PE_HOSTFILE") and program.which("qrsh"):
        return ["qrsh", "-inherit", "-nostdin", "-V", host]
    if os.environ.get("PBS_NODEFILE") and program.which("pbs_tmrsh"):
        return ["pbs_tmrsh", host]
    raise Failure(
        "COMMAND", "This batch system has no remote start that is known here; use the launcher mpirun, or one node."
    )


def _local(folder, size, node):
    words = program.start("rank", folder.path, "--task")
    pids = []
    for local in range(size.tasks):
        env = dict(os.environ, ISTHMUS_RANK=str(node * size.tasks + local))
        pids.append(os.spawnve(os.P_NOWAIT, words[0], words, env))
    return pids


def _wait_all(pids, grace_s):
    """Wait for all; when one fails, end the others. The exit code of the first that failed, else 0.

    A signal to the job reaches the ranks themselves, since all are of one process group: it isn't sent on.
    """
    waiting = set(pids)

    def send(number):
        for pid in waiting:
            try:
                os.kill(pid, number)
            except OSError:
                pass

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)
    signal.signal(signal.SIGALRM, lambda number, frame: send(signal.SIGKILL))
    code = 0
    while waiting:
        pid, status = os.wait()
        if pid not in waiting:
            continue
        waiting.discard(pid)
        ended = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if ended and not code:
            code = ended
            send(signal.SIGTERM)
            signal.setitimer(signal.ITIMER_REAL, max(0.1, grace_s))
    return code
