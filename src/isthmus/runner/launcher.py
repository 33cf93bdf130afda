"""Launchers: how a job on several nodes, or of several tasks, starts its ranks.

    none      the command once, on the first node
    runner    one `rank` program for each task: it sets RANK, WORLD_SIZE, … and becomes the command
    srun      `srun` before the command
    mpirun    `mpirun` before the command

`auto` is `none` for one node and one task, else `runner`. A command that is torchrun is started once a node whatever
`tasks_per_node` says: it makes its own workers, as many, and finds the others by what stands in its environment.
"""

import os
import re
import socket

from isthmus.runner import program
from isthmus.runner.errors import Failure

_FAILED = re.compile(r"^srun: error: (\S+: tasks? [\d,-]+: (?:Exited with exit code (\d+)|.+))$", re.M)
TORCHRUN = ("torchrun", "torch.distributed.run", "torch.distributed.launch")


def choose(job: dict) -> str:
    """The launcher of a job: none, runner, srun or mpirun."""
    how = job.get("launcher") or "auto"
    if how == "auto":
        alone = int(job.get("nodes") or 1) == 1 and int(job.get("tasks_per_node") or 1) == 1
        return "none" if alone else "runner"
    return how


class Size(object):
    """How many ranks start where."""

    def __init__(self, job: dict, nodes: list, argv: list) -> None:
        wanted = int(job.get("nodes") or 1)
        if len(nodes) < wanted:
            raise Failure(
                "COMMAND",
                "The job asks for %d nodes, and the batch system gave it %d: %s."
                % (wanted, len(nodes), ", ".join(nodes)),
            )
        self.node_names = nodes[:wanted]
        self.nodes = wanted
        tasks = int(job.get("tasks_per_node") or 1)
        self.torchrun = is_torchrun(argv)
        self.grace_s = float(job.get("grace_s") or 0)
        self.workers = tasks if self.torchrun else 1
        self.tasks = 1 if self.torchrun else tasks
        self.cpus = max(1, int(job.get("cpus") or 1) // self.tasks)
        self.crowded = int(job.get("cpus") or 1) < self.tasks

    @property
    def world(self) -> int:
        return self.nodes * self.tasks


def is_torchrun(argv: list) -> bool:
    """Whether a command is PyTorch's own launcher, by name or as a module of Python."""
    return os.path.basename(argv[0]) in TORCHRUN or any(
        argv[place] == "-m" and argv[place + 1] in TORCHRUN for place in range(1, min(5, len(argv) - 1))
    )


def nodes(env: dict) -> list:
    """The names of the nodes that the batch system gave the job, first the one that this runs on."""
    if env.get("SLURM_JOB_NODELIST"):
        return expand(env["SLURM_JOB_NODELIST"])
    for name in ("PE_HOSTFILE", "PBS_NODEFILE"):  # Grid Engine; PBS, Torque
        if env.get(name):
            with open(env[name]) as stream:
                hosts = [line.split()[0] for line in stream if line.strip()]
            return list(dict.fromkeys(hosts)) or [socket.gethostname()]
    return [socket.gethostname()]


def expand(text: str) -> list:
    """SLURM's short form of a list of nodes, written out: ``n[1-2,07],m`` is n1, n2, n07, m."""
    found = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        names = [""]
        for plain, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", item):
            parts = [plain] if plain else list(_numbers(ranges))
            names = [name + part for name in names for part in parts]
        found.extend(names)
    return found


def _numbers(ranges):
    for piece in ranges.split(","):
        first, dash, last = piece.partition("-")
        if not dash:
            yield first
            continue
        for number in range(int(first), int(last) + 1):
            yield str(number).zfill(len(first))


def rendezvous(names: list) -> dict:
    """Where the ranks meet: this node, which is the first, and a port that is free on it now."""
    host = socket.gethostname()
    if len(names) < 2:
        host = "127.0.0.1"
    else:
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            host = _address()
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return {"MASTER_ADDR": host, "MASTER_PORT": str(port)}


def _address():
    """This node's own address on the way out; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation: RFC 5737
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def start(size, ranks: list, env: dict) -> list:
    """The command that starts one rank program for each task, wherever the batch system lets it."""
    if env.get("SLURM_JOB_ID") and program.which("srun", env.get("PATH", "")):
        return srun(size, ranks + ["--task"])
    return ranks + ["--nodes", str(size.nodes)]


def srun(size, argv: list) -> list:
    """``argv`` as a job step of SLURM. All is said outright: what sbatch was told does not always reach srun.

    ``--export=ALL``: without it a job submitted with ``--export=NONE`` gives its steps an empty environment.
    ``--cpus-per-task``: since 22.05 it is not taken over from the job.
    """
    words = [
        "srun",
        "--export=ALL",
        "--kill-on-bad-exit=1",
        "--nodes=%d" % size.nodes,
        "--ntasks=%d" % size.world,
        "--ntasks-per-node=%d" % size.tasks,
        "--cpus-per-task=%d" % size.cpus,
    ]
    return words + (["--overcommit"] if size.crowded else []) + argv


def signal_steps(argv: list, env: dict, number: int) -> list:
    """The command that sends a signal to the ranks which ``argv`` has started, or [] if its group is to get it.

    srun takes SIGTERM as an order to kill its ranks at once: the grace would be lost on them. And a killed srun leaves
    them running.
    """
    if argv[:1] != ["srun"]:
        return []
    return ["scancel", "--signal=%d" % number, env["SLURM_JOB_ID"]]


def first_failure(tail: bytes):
    """``(exit code or None, words)`` of the first rank that srun says has failed, None if it says nothing.

    srun ends with the highest exit code, which is often that of a rank which it ended because another had failed.
    """
    found = _FAILED.search(tail.decode("utf-8", "replace"))
    if not found:
        return None
    return (int(found.group(2)) if found.group(2) else None), found.group(1)


def mpirun(size, argv: list, env: dict) -> list:
    """``argv`` under the MPI that is on the path. It knows the batch system's nodes by itself."""
    import subprocess

    path = program.which("mpirun", env.get("PATH", ""))
    if not path:
        raise Failure(
            "COMMAND", "There is no mpirun on this node's path: load the MPI module in the site's set-up lines."
        )
    if "SLURM_JOB_ID" in env:
        env["SLURM_EXPORT_ENV"] = "ALL"  # it starts its daemons by srun, which else may give them an empty environment
    version = subprocess.run(
        [path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env
    ).stdout
    words = [path, "-np", str(size.world)]
    if b"Open MPI" in version or b"OpenRTE" in version:
        words += ["--map-by", "ppr:%d:node%s" % (size.tasks, ":oversubscribe" if size.crowded else "")]
        # Between its SIGTERM and its SIGKILL it gives the ranks one second, unless it is told more.
        grace = str(int(size.grace_s) + 1)
        env.update({"OMPI_MCA_odls_base_sigkill_timeout": grace, "PRTE_MCA_odls_base_sigkill_timeout": grace})
        if os.getuid() == 0:
            env.update({"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    else:
        words += ["-ppn", str(size.tasks)]
    return words + argv
