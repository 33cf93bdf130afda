"""A private SLURM cluster: munged, slurmctld and one slurmd a node, all on this machine.

A node is a slurmd that has its own name (a UTS namespace, and an /etc/hosts that knows all nodes), as many processors
and GPUs as asked for, and with a `Network` its own network. The GPUs are device files that act like /dev/null.

The settings follow the manual of SLURM 22.05: https://slurm.schedmd.com/archive/slurm-22.05.8/slurm.conf.html
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.testbed import scratch
from tests.testbed.daemon import Daemon, run
from tests.testbed.errors import program
from tests.testbed.network import Host, Network
from tests.testbed.ports import free_ports
from tests.testbed.server import Server
from tests.testbed.slurmdbd import AccountingDaemon
from tests.testbed.waiting import wait_for

Accounting = Literal["none", "filetxt", "dbd"]
Memory = Literal["cgroup", "gather"]
Preemption = Literal["off", "cancel", "requeue"]

MEMORY_CGROUPS = Path("/sys/fs/cgroup/memory")  # a folder where control groups are of version 1

CONTROLLER_PORT, ACCOUNTING_PORT = 0, 1


@dataclass(frozen=True)
class Partition:
    """A partition: `nodes` counts from the first node, None means all; `options` are further words of slurm.conf."""

    name: str
    nodes: int | None = None
    max_time: str = "1-0"
    default: bool = False
    options: str = ""


GPU_AND_DEBUG = (
    Partition("gpu", default=True),
    Partition("debug", nodes=1, max_time="0:10:0", options="PriorityTier=10"),
)


class SlurmCluster(Server):
    """A SLURM cluster of `nodes` nodes with `cpus` processors, `mem_mb` of memory and `gpus` GPUs each.

    gpu_type: the type of the GPUs, or None for GPUs without one (untyped GRES).
    accounting: "none" (sacct is off), "filetxt" (`sacct -c` reads a file) or "dbd" (slurmdbd; 3 s more to start).
    min_job_age_s: for how long squeue remembers a job that ended.
    memory: who kills a job that takes more memory than it asked for. "cgroup" is the kernel: the job ends at once as
        OUT_OF_MEMORY. "gather" is slurmd, which looks every second: the job ends as FAILED, JobLaunchFailure, and its
        stderr tells why. None takes the first that this machine can.
    preemption: whether a job in a partition of a higher PriorityTier drives out jobs of a lower one, and how.
    network: hosts to run on: the controller on the gate (or the first host), a node on each of the others.
    isolated: shorthand for a network whose nodes reach the controller and one another and nothing else.

    A context manager. Blocks for about a second to start. Jobs of any user of this machine may run on it.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpus: int = 4,
        gpus: int = 2,
        gpu_type: str | None = "a100",
        *,
        mem_mb: int = 4000,
        accounting: Accounting = "none",
        partitions: Sequence[Partition] = GPU_AND_DEBUG,
        min_job_age_s: int = 300,
        memory: Memory | None = None,
        preemption: Preemption = "off",
        network: Network | None = None,
        isolated: bool = False,
        name: str = "c",
    ) -> None:
        # munge tells clusters apart by their key alone; the unique name is for the eyes and for slurmdbd.
        self.name = f"{name}{os.urandom(2).hex()}"
        self.node_names = [f"{self.name}-n{number}" for number in range(1, nodes + 1)]
        self.cpus, self.gpus, self.gpu_type, self.mem_mb = cpus, gpus, gpu_type, mem_mb
        self.accounting, self.partitions = accounting, tuple(partitions)
        self.min_job_age_s, self.preemption = min_job_age_s, preemption
        self.memory: Memory = memory or ("cgroup" if MEMORY_CGROUPS.is_dir() else "gather")
        self.network = network
        self._own_network = Network(hosts=nodes, gate=True) if isolated else None
        self._folder = Path()
        self._ports: list[int] = []
        self._munged: Daemon | None = None
        self._controller: Daemon | None = None
        self._accounting_daemon: AccountingDaemon | None = None
        self._nodes: dict[str, Daemon] = {}

    # What a test needs to know

    @property
    def conf(self) -> Path:
        """slurm.conf, for SLURM_CONF."""
        return self._folder / "etc" / "slurm.conf"

    @property
    def bin(self) -> Path:
        """A folder that stands first in PATH (see `env`): empty, but for what `break_squeue` puts there."""
        return self._folder / "bin"

    @property
    def head(self) -> Host | None:
        """The host that runs the controller, and on which a login server belongs; None means this machine."""
        if self.network is None:
            return None
        return self.network.gate or self.network.hosts[0]

    def env(self) -> dict[str, str]:
        """The environment in which the SLURM commands find this cluster, with everything else as it is here."""
        return {**os.environ, **self.login_env(), "PATH": f"{self.bin}:{os.environ['PATH']}"}

    def login_env(self) -> dict[str, str]:
        """What a login server must set for its users (see `ssh.SshServer`): no more than this cluster needs."""
        return {"SLURM_CONF": str(self.conf), "TESTBED_PATH": str(self.bin)}

    def command(self, *argv: str) -> str:
        """Runs a SLURM command as root against this cluster and returns its stdout."""
        env = {**os.environ, "SLURM_CONF": str(self.conf)}
        return run(self._on(self.head, *argv), what=f"{argv[0]} on {self.name}", env=env)

    def jobs(self) -> set[str]:
        """The ids of those that wait or run."""
        return set(self.command("squeue", "-h", "-a", "-o", "%A").split())

    def sacctmgr(self, *words: str) -> str:
        """Runs `sacctmgr --immediate` as root (needs accounting "dbd") and returns its stdout."""
        assert self._accounting_daemon is not None, 'only a cluster with accounting="dbd" has accounts'
        return self._accounting_daemon.sacctmgr(*words)

    # Start and stop

    def start(self) -> None:
        """Starts the cluster and waits until every node takes jobs."""
        for name in ("munged", "slurmctld", "slurmd", "sbatch"):
            program(name)
        if self._own_network is not None:
            self._own_network.start()
            self.network = self._own_network
        self._folder = scratch.folder("slurm")
        for name in ("etc", "run", "log", "state", "bin", *(f"spool-{node}" for node in self.node_names)):
            (self._folder / name).mkdir()
        for node in self.node_names:
            (self._folder / f"tmp-{node}").mkdir()
            (self._folder / f"tmp-{node}").chmod(0o1777)
        self._ports = free_ports(len(self.node_names) + 2)
        self._start_munged()
        self._write_configuration()
        if self.accounting == "dbd":
            self._accounting_daemon = AccountingDaemon(
                self._folder,
                self._munge_socket,
                self.head,
                self._controller_address,
                self._ports[ACCOUNTING_PORT],
                self.conf,
            )
            self._accounting_daemon.start()
            self._accounting_daemon.add_cluster(self.name)
        self._controller = self._new_controller()
        self.start_controller()
        for node in self.node_names:
            self._add_node(node)
        for node in self.node_names:
            self.start_node(node)

    def stop(self) -> None:
        """Kills every job and server of this cluster. May be called again."""
        daemons = [*self._nodes.values(), self._controller, self._accounting_daemon, self._munged]
        for daemon in daemons:
            if daemon is not None:
                daemon.close()
        self._nodes, self._controller, self._accounting_daemon, self._munged = {}, None, None, None
        if self._own_network is not None:
            self._own_network.stop()
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop_controller(self) -> None:
        """Stops slurmctld: commands fail, jobs go on."""
        self._controller_daemon().stop()

    def start_controller(self) -> None:
        """Starts slurmctld again with the jobs it knew, and waits until it answers. Nodes may be unknown for 4 s."""
        self._controller_daemon().start()
        if self.accounting == "filetxt":
            self._job_log.chmod(0o666)  # `sacct -c` opens it for writing, whoever asks; slurmctld makes it 0644

    def restart_controller(self) -> None:
        """Stops and starts slurmctld; jobs go on."""
        self.stop_controller()
        self.start_controller()

    def kill_node(self, node: str) -> None:
        """Cuts the node's power: its slurmd and every process of its jobs die at once, and nobody says goodbye.

        The controller notices after its SlurmdTimeout (see `mark_down` for at once).
        """
        self._nodes[node].kill()

    def mark_down(self, node: str) -> None:
        """Has the controller believe at once that the node is down, as it does by itself after SlurmdTimeout."""
        self.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")

    def start_node(self, node: str) -> None:
        """Starts the node's slurmd, as after a reboot, and waits until it takes jobs."""
        self._nodes[node].start()
        if self.node_state(node).startswith("down"):
            self.command("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_node(node, "idle", "mixed", "allocated")

    def node_state(self, node: str) -> str:
        """The state that sinfo tells for the node: `idle`, `down*` (the mark: it does not respond) and so on."""
        return self.command("sinfo", "-h", "-n", node, "-o", "%T").split()[0]

    def wait_node(self, node: str, *states: str) -> None:
        """Waits until the node is in one of `states`."""
        wait_for(
            lambda: (now := self.node_state(node)) in states and now,
            f"node {node} to be {' or '.join(states)}",
            story=self._nodes[node].log_tail,
        )

    # Faults

    def break_squeue(self, how: Literal["error", "hang", "garbage", "empty"] = "error") -> None:
        """Has squeue fail, hang, print half a line of nonsense, or print nothing (and succeed) for everybody.

        For those only who run with `env` or have logged in with `login_env`. See `squeue_failures`.
        """
        calls = self.bin / ".calls"
        calls.write_text("")
        calls.chmod(0o666)
        body = {
            "error": "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
            "hang": "exec sleep 100000",
            "garbage": r"printf '7|RUNN\0\377'; exit 0",
            "empty": "exit 0",
        }[how]
        script = self.bin / ".squeue"
        script.write_text(f"#!/bin/sh\necho >> {calls}\n{body}\n")
        script.chmod(0o755)
        script.rename(self.bin / "squeue")  # in one step: never half a script

    def squeue_failures(self) -> int:
        """How often the broken squeue was called since `break_squeue`."""
        return len((self.bin / ".calls").read_bytes())

    def mend(self) -> None:
        """Undoes `break_squeue`. May be called again."""
        (self.bin / "squeue").unlink(missing_ok=True)

    # How it is made

    @property
    def _munge_socket(self) -> Path:
        return self._folder / "run" / "munge.sock"

    @property
    def _job_log(self) -> Path:
        return self._folder / "log" / "jobcomp.txt"

    @property
    def _controller_address(self) -> str:
        return self.head.address if self.head else "127.0.0.1"

    def _node_hosts(self) -> list[Host | None]:
        if self.network is None:
            return [None] * len(self.node_names)
        hosts = self.network.hosts if self.network.gate else self.network.hosts[1:]
        if len(hosts) < len(self.node_names):
            raise ValueError(f"the network has {len(hosts)} hosts for {len(self.node_names)} nodes")
        return list(hosts)

    def _controller_daemon(self) -> Daemon:
        assert self._controller is not None, "the cluster is not started"
        return self._controller

    def _on(self, host: Host | None, *argv: str) -> list[str]:
        return host.command(*argv) if host else list(argv)

    def _start_munged(self) -> None:
        private = self._folder / "munge"
        private.mkdir(mode=0o700)
        key = private / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._munged = Daemon(
            "munged",
            [program("munged"), "--foreground", "--force", f"--key-file={key}", f"--socket={self._munge_socket}",
             f"--pid-file={private}/pid", f"--log-file={private}/log", f"--seed-file={private}/seed"],
            folder=self._folder / "log",
            ready=lambda: subprocess.run(
                [program("munge"), "--no-input", f"--socket={self._munge_socket}"], capture_output=True, check=False
            ).returncode == 0,
        )  # fmt: skip
        self._munged.start()

    def _new_controller(self) -> Daemon:
        return Daemon(
            "slurmctld",
            self._on(self.head, program("slurmctld"), "-D", "-f", str(self.conf)),
            folder=self._folder / "log",
            ready=self._controller_answers,
        )

    def _controller_answers(self) -> bool:
        ping = subprocess.run(
            self._on(self.head, program("scontrol"), "ping"),
            env={**os.environ, "SLURM_CONF": str(self.conf)},
            capture_output=True,
            check=False,
        )
        return ping.returncode == 0

    def _add_node(self, node: str) -> None:
        # Its own name and its own /etc/hosts, in which the other nodes stand too, as they do on a real cluster.
        script = f'hostname "{node}" && mount --bind "{self._folder}/etc/hosts" /etc/hosts && exec "$@"'
        host = self._node_hosts()[self.node_names.index(node)]
        self._nodes[node] = Daemon(
            f"slurmd-{node}",
            self._on(
                host,
                program("unshare"), "--uts", "--mount", "--propagation=slave", "--", "/bin/sh", "-c", script, "sh",
                program("slurmd"), "-D", "-N", node, "-f", str(self.conf),
            ),
            folder=self._folder / "log",
            # Nobody else takes away the control groups of a node that is no more.
            at_end=[[program("find"), str(MEMORY_CGROUPS / f"slurm_{node}"), "-depth", "-type", "d", "-delete"]],
        )  # fmt: skip

    def _write_configuration(self) -> None:
        etc = self._folder / "etc"
        devices = [self._folder / "run" / f"nvidia{number}" for number in range(self.gpus)]
        for device in devices:
            # A GPU must be a character device for SLURM to count it: this one is another /dev/null.
            os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
            device.chmod(0o666)
        kind = f"Type={self.gpu_type} " if self.gpu_type else ""
        (etc / "gres.conf").write_text(
            "AutoDetect=off\n"
            + (f"Name=gpu {kind}File={self._folder}/run/nvidia[0-{self.gpus - 1}]\n" if self.gpus else "")
        )
        addresses = [host.address if host else "127.0.0.1" for host in self._node_hosts()]
        own = f"127.0.0.1 localhost\n{self._controller_address} {socket.gethostname()}\n"
        pairs = zip(addresses, self.node_names, strict=False)
        (etc / "hosts").write_text(own + "".join(f"{address} {node}\n" for address, node in pairs))
        if self.memory == "cgroup":
            (etc / "cgroup.conf").write_text(
                f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={MEMORY_CGROUPS.parent}\nConstrainRAMSpace=yes\n"
            )
        self.conf.write_text(self._slurm_conf(addresses))

    def _slurm_conf(self, addresses: Sequence[str]) -> str:
        folder, ports = self._folder, self._ports
        settings = {
            "ClusterName": self.name,
            "SlurmctldHost": f"{socket.gethostname().partition('.')[0]}({self._controller_address})",
            "SlurmctldPort": ports[CONTROLLER_PORT],
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self._munge_socket}",
            "CredType": "cred/munge",
            "SlurmctldPidFile": f"{folder}/run/slurmctld.pid",
            "SlurmdPidFile": f"{folder}/run/slurmd-%n.pid",
            "StateSaveLocation": f"{folder}/state",
            "SlurmdSpoolDir": f"{folder}/spool-%n",
            # Each node has its own, though all share this machine's /tmp: PMIx puts its rendezvous there.
            "TmpFS": f"{folder}/tmp-%n",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/cgroup" if self.memory == "cgroup" else "task/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SchedulerType": "sched/backfill",
            # A test must not wait for a scheduler that a site would have rest.
            "SchedulerParameters": "sched_min_interval=0,batch_sched_delay=0,bf_interval=1",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "DefMemPerCPU": max(1, self.mem_mb // (2 * self.cpus)),
            "GresTypes": "gpu",
            "SlurmdParameters": "config_overrides",
            "MaxArraySize": 10001,
            "MaxJobCount": 20000,
            "InactiveLimit": 0,
            "KillWait": 2,
            "MinJobAge": self.min_job_age_s,
            "SlurmctldTimeout": 30,
            "SlurmdTimeout": 30,
            "Waittime": 0,
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=1",
            **({"JobAcctGatherParams": "OverMemoryKill"} if self.memory == "gather" else {}),
            **self._accounting_settings(),
        }
        if self.preemption != "off":
            settings |= {"PreemptType": "preempt/partition_prio", "PreemptMode": self.preemption.upper()}
        gres = f" Gres=gpu:{self.gpu_type + ':' if self.gpu_type else ''}{self.gpus}" if self.gpus else ""
        lines = [f"{key}={value}" for key, value in settings.items()]
        for node, address, port in zip(self.node_names, addresses, ports[2:], strict=False):
            lines.append(
                f"NodeName={node} NodeHostname={node} NodeAddr={address} Port={port} CPUs={self.cpus} "
                f"RealMemory={self.mem_mb}{gres} State=UNKNOWN"
            )
        for partition in self.partitions:
            names = ",".join(self.node_names[: partition.nodes])
            default = " Default=YES" if partition.default else ""
            lines.append(
                f"PartitionName={partition.name} Nodes={names} MaxTime={partition.max_time} State=UP"
                f"{default} {partition.options}".rstrip()
            )
        return "\n".join(lines) + "\n"

    def _accounting_settings(self) -> dict[str, object]:
        if self.accounting == "dbd":
            return {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": self._controller_address,
                "AccountingStoragePort": self._ports[ACCOUNTING_PORT],
                "AccountingStoragePass": self._munge_socket,
                "AccountingStorageTRES": "gres/gpu",
            }
        if self.accounting == "filetxt":
            return {
                "AccountingStorageType": "accounting_storage/none",
                "JobCompType": "jobcomp/filetxt",
                "JobCompLoc": self._job_log,
            }
        return {"AccountingStorageType": "accounting_storage/none", "JobCompType": "jobcomp/none"}
