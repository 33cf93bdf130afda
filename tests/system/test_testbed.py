"""The servers of the test bed do what the system tests rely on, and leave nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import ports, scratch
from tests.testbed.daemon import Daemon
from tests.testbed.delay import DelayLink
from tests.testbed.disk import SmallDisk
from tests.testbed.errors import MissingProgram, ServerError, program
from tests.testbed.gridengine import GridEngineCell
from tests.testbed.network import Network
from tests.testbed.postgres import PostgresServer
from tests.testbed.slurm import Partition, SlurmCluster
from tests.testbed.ssh import BANNER, NOISE, SshServer
from tests.testbed.users import User
from tests.testbed.waiting import wait_for

# Clusters count their jobs from 1, and one home serves them all: the file's name needs the cluster's as well.
OUTPUT = '"$HOME/out-$(basename "${SLURM_CONF%/etc/*}")"-'


def submit(login: SshServer, options: str, command: str) -> str:
    """Submits a job from the user's home over ssh and returns its number."""
    return login.run(f"sbatch --parsable -o {OUTPUT}%j {options} --wrap '{command}'").strip()


def output(login: SshServer, job: str) -> str:
    """What the job has printed so far."""
    return login.run(f"cat {OUTPUT}{job} 2> /dev/null || true")


def job_state(login: SshServer, job: str) -> str:
    return login.run(f"squeue -h -t all -j {job} -o %T").strip()


def wait_job(login: SshServer, job: str, *states: str) -> None:
    wait_for(
        lambda: (now := job_state(login, job)) in states and now,
        f"job {job} to be {states}",
        deadline_s=30,
        every_s=0.1,
    )


@pytest.fixture(scope="module")
def overdue_job(slurm: SlurmCluster, slurm_login: SshServer) -> str:
    """A job that is over its time limit: submitted first and looked at last, since slurmctld looks every 30 s."""
    job = submit(slurm_login, "--time=1", "sleep 1000")
    wait_job(slurm_login, job, "RUNNING")
    # Limits are whole minutes; an operator may shorten one that runs.
    slurm.command("scontrol", "update", f"JobId={job}", "TimeLimit=0")
    return job


@pytest.fixture(scope="module")
def forgotten_job(users: list[User]) -> Iterator[tuple[SshServer, str]]:
    """A job that failed on a cluster of a short memory: submitted early too, since slurmctld forgets every 10 s."""
    with (
        SlurmCluster(nodes=1, accounting="filetxt", min_job_age_s=2) as cluster,
        SshServer(users, env=cluster.login_env()) as login,
    ):
        yield login, submit(login, "", "exit 3")


# SLURM


@pytest.mark.usefixtures("overdue_job", "forgotten_job")
def test_slurm_runs_a_users_job_over_ssh_on_two_nodes_with_gpus(slurm: SlurmCluster, slurm_login: SshServer) -> None:
    job = submit(slurm_login, "-N2 --gres=gpu:a100:1", 'srun sh -c "hostname; id -un; echo GPU=$CUDA_VISIBLE_DEVICES"')
    wait_job(slurm_login, job, "COMPLETED")
    out = output(slurm_login, job).split()
    user = slurm_login.user.name
    devices = [word for word in out if word.startswith("GPU=")]
    assert sorted(word for word in out if word not in devices) == sorted([*slurm.node_names, user, user])
    assert set(devices) <= {"GPU=0", "GPU=1"}
    assert len(devices) == 2


def test_slurm_gives_each_job_its_own_gpus(slurm_login: SshServer) -> None:
    script = "echo $CUDA_VISIBLE_DEVICES; sleep 1000"
    jobs = [submit(slurm_login, "-p debug --gres=gpu:1", script) for _ in range(2)]
    wait_for(
        lambda: sorted(output(slurm_login, job).strip() for job in jobs) == ["0", "1"],
        "each of two jobs to have a GPU of its own",
    )
    slurm_login.run(f"scancel {' '.join(jobs)}")
    wait_job(slurm_login, jobs[0], "CANCELLED")
    wait_job(slurm_login, jobs[1], "CANCELLED")


def test_slurm_has_two_partitions_and_typed_gpus(slurm_login: SshServer) -> None:
    lines = slurm_login.run("sinfo -h -o '%P %l %D %G'").splitlines()
    assert sorted(lines) == ["debug 10:00 1 gpu:a100:2", "gpu* 1-00:00:00 2 gpu:a100:2"]


def test_slurm_nodes_know_one_another_by_name(slurm: SlurmCluster, slurm_login: SshServer) -> None:
    first, second = slurm.node_names
    assert slurm_login.run(f"srun -w {first} getent hosts {second}").split() == ["127.0.0.1", second]


MPI_PROGRAM = """
import contextlib
import ctypes
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
world = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world")))
rank, size = ctypes.c_int(), ctypes.c_int()
mpi.MPI_Init(None, None)
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
mpi.MPI_Barrier(world)
print(f"{rank.value}/{size.value}", flush=True)
mpi.MPI_Finalize()
"""


@pytest.mark.parametrize("launch", ["srun -N2 -n2 --mpi=pmix", "salloc -Q -N2 -n2 --ntasks-per-node=1 mpirun"])
def test_an_mpi_program_spans_two_nodes(slurm_login: SshServer, launch: str) -> None:
    slurm_login.run(f"cat > ranks.py <<'END'\n{MPI_PROGRAM}END")
    assert sorted(slurm_login.run(f"{launch} /usr/bin/python3 ranks.py").split()) == ["0/2", "1/2"]


def test_slurm_kills_a_job_over_its_memory(slurm: SlurmCluster, slurm_login: SshServer) -> None:
    job = submit(slurm_login, "--mem=50", 'python3 -c "x = bytearray(300 << 20); input()" < /dev/zero')
    if slurm.memory == "cgroup":
        wait_job(slurm_login, job, "OUT_OF_MEMORY")
    else:
        wait_job(slurm_login, job, "FAILED")


def test_slurmd_kills_a_job_over_its_memory_where_there_are_no_control_groups(users: list[User]) -> None:
    with SlurmCluster(nodes=1, memory="gather") as cluster, SshServer(users, env=cluster.login_env()) as login:
        job = submit(login, "--mem=50", 'python3 -c "import time; x = bytearray(300 << 20); time.sleep(1000)"')
        wait_job(login, job, "FAILED")
        assert "exceeded memory limit" in output(login, job)


def test_slurm_requeues_the_job_of_a_node_that_lost_its_power(users: list[User]) -> None:
    with SlurmCluster() as cluster, SshServer(users, env=cluster.login_env()) as login:
        first, second = cluster.node_names
        job = submit(login, f"--requeue -w {first}", "sleep 31415")
        gone = submit(login, f"--no-requeue -w {first}", "sleep 31415")
        for number in (job, gone):
            wait_job(login, number, "RUNNING")
        cluster.kill_node(first)
        cluster.mark_down(first)
        wait_job(login, gone, "NODE_FAIL")
        wait_job(login, job, "PENDING")
        cluster.start_node(first)
        assert cluster.node_state(first) == "idle"
        assert cluster.node_state(second) == "idle"


def test_killing_a_node_ends_every_process_of_its_jobs(users: list[User]) -> None:
    with SlurmCluster(nodes=1) as cluster, SshServer(users, env=cluster.login_env()) as login:
        # A job that tries hard to get away: its own session, its parent gone.
        job = submit(login, "", 'setsid sh -c "sleep 27182 & echo \\$! > pid; exit 0"; sleep 27182')
        wait_job(login, job, "RUNNING")
        pid = wait_for(lambda: login.run("cat pid 2>/dev/null || true").strip(), "the job's process")
        assert Path(f"/proc/{pid}").exists()
        cluster.kill_node(cluster.node_names[0])
        assert not Path(f"/proc/{pid}").exists()


def test_slurm_goes_on_while_its_controller_is_away(users: list[User]) -> None:
    with SlurmCluster(nodes=1) as cluster, SshServer(users, env=cluster.login_env()) as login:
        job = submit(login, "", "while [ ! -e go ]; do sleep 0.05; done; echo done > witness")
        wait_job(login, job, "RUNNING")
        cluster.stop_controller()
        with pytest.raises(ServerError, match="is DOWN"):
            login.run("scontrol ping")
        login.run("touch go")
        wait_for(lambda: login.run("cat witness 2>/dev/null || true"), "the job to end with no controller")
        cluster.start_controller()
        wait_job(login, job, "COMPLETED")


@pytest.mark.parametrize("how", ["error", "hang", "garbage", "empty"])
def test_squeue_can_be_broken_for_those_who_log_in(
    slurm: SlurmCluster, slurm_login: SshServer, overdue_job: str, how: str
) -> None:
    # Ended jobs are listed too: the list does not change under the test.
    listing = "squeue -h -t all -o %i"
    whole = slurm_login.run(listing)
    assert overdue_job in whole.split()
    limit_s = 0.5 if how == "hang" else 30
    slurm.break_squeue(how)  # type: ignore[arg-type]
    try:
        for command in (listing, f"bash -lc '{listing}'"):
            argv = slurm_login.command(f"timeout {limit_s} {command}")
            done = subprocess.run(argv, capture_output=True, check=False)
            if how == "error":
                assert done.returncode == 1
                assert b"Unable to contact slurm controller" in done.stderr
            elif how == "hang":
                assert done.returncode == 124
            else:
                assert done.returncode == 0
                assert done.stdout == (b"" if how == "empty" else b"7|RUNN\0\xff")
    finally:
        slurm.mend()
    assert slurm_login.run(listing) == whole


def test_slurm_without_accounting_says_so(slurm_login: SshServer) -> None:
    done = subprocess.run(slurm_login.command("sacct"), capture_output=True, text=True, check=False)
    assert "accounting storage is disabled" in done.stdout + done.stderr


def test_slurm_with_slurmdbd_remembers_jobs_and_accounts(slurm_dbd: SlurmCluster, users: list[User]) -> None:
    with SshServer(users, env=slurm_dbd.login_env()) as login:
        slurm_dbd.sacctmgr("add", "account", "survey", f"cluster={slurm_dbd.name}")
        slurm_dbd.sacctmgr("add", "user", login.user.name, "account=survey", f"cluster={slurm_dbd.name}")
        assert login.run("sinfo -h -o %G | sort -u").strip() == "gpu:2"
        job = submit(login, f"-M {slurm_dbd.name} -A survey --gres=gpu:1", "true").partition(";")[0]
        record = f"{job}|survey|COMPLETED|0:0"
        wait_for(
            lambda: record in login.run(f"sacct -X -n -P -j {job} -o JobID,Account,State,ExitCode"),
            f"sacct to say {record}",
        )


def test_slurm_preempts_a_job_of_a_lower_partition(users: list[User]) -> None:
    partitions = [Partition("low", default=True), Partition("high", options="PriorityTier=10")]
    with (
        SlurmCluster(nodes=1, cpus=1, partitions=partitions, preemption="cancel") as cluster,
        SshServer(users, env=cluster.login_env()) as login,
    ):
        victim = submit(login, "-p low", "sleep 1000")
        wait_job(login, victim, "RUNNING")
        winner = submit(login, "-p high", "true")
        wait_job(login, victim, "PREEMPTED")
        wait_job(login, winner, "COMPLETED")


def test_slurm_may_have_no_default_partition(users: list[User]) -> None:
    with (
        SlurmCluster(nodes=1, partitions=[Partition("only")]) as cluster,
        SshServer(users, env=cluster.login_env()) as login,
    ):
        with pytest.raises(ServerError, match="No partition specified or system default partition"):
            submit(login, "", "true")
        wait_job(login, submit(login, "-p only", "true"), "COMPLETED")


def test_isolated_nodes_run_jobs_and_reach_the_head_alone(
    slurm_isolated: SlurmCluster, slurm_isolated_login: SshServer
) -> None:
    assert slurm_isolated.network is not None
    assert slurm_isolated.head is not None
    with (
        socket.create_server((slurm_isolated.network.address, 0)) as ours,
        socket.create_server(("0.0.0.0", 0)) as any_,
    ):
        probe = (
            "import socket, sys\n"
            "for address, port in [a.split(chr(58)) for a in sys.argv[1:]]:\n"
            "    with socket.socket() as s:\n"
            "        s.settimeout(5)\n"
            "        print(s.connect_ex((address, int(port))))\n"
        )
        slurm_isolated_login.run(f"cat > probe.py <<'END'\n{probe}END")
        machine = socket.gethostbyname(socket.gethostname())
        targets = [
            f"{slurm_isolated.head.address}:{slurm_isolated_login.port}",
            f"{slurm_isolated.network.address}:{ours.getsockname()[1]}",
            f"192.0.2.2:{any_.getsockname()[1]}",
            f"{machine}:{any_.getsockname()[1]}",
        ]
        from_node = slurm_isolated_login.run(f"srun python3 probe.py {' '.join(targets)}").split()
        from_head = slurm_isolated_login.run(f"python3 probe.py {' '.join(targets[:2])}").split()
    assert from_head == ["0", "0"]
    assert from_node[:3] == ["0", str(errno.ENETUNREACH), str(errno.ENETUNREACH)]
    # This machine's name may stand for 127.0.0.1, which is the node itself there: nobody listens.
    assert from_node[3] in (str(errno.ENETUNREACH), str(errno.ECONNREFUSED))


def test_nodes_on_an_open_network_reach_this_machine(users: list[User]) -> None:
    with (
        Network(hosts=2) as network,
        SlurmCluster(nodes=1, network=network) as cluster,
        SshServer(users, host=cluster.head, env=cluster.login_env()) as login,
        socket.create_server((network.address, 0)) as ours,
    ):
        script = f"import socket; s = socket.create_connection({ours.getsockname()}); print(s.getsockname()[0])"
        assert login.run(f'srun python3 -c "{script}"').strip() == network.hosts[1].address


def test_a_cut_cluster_goes_on_and_is_there_again_when_mended(
    slurm_isolated: SlurmCluster, slurm_isolated_login: SshServer
) -> None:
    login, network, head = slurm_isolated_login, slurm_isolated.network, slurm_isolated.head
    assert network is not None
    assert head is not None
    job = submit(login, "", "while [ ! -e go2 ]; do sleep 0.05; done; date > ended")
    wait_job(login, job, "RUNNING")
    network.cut(head)
    try:
        assert not ports.answers(login.host, login.port)
        # Both stand on this machine's files: a way to the job that no cable carries.
        (login.user.home / "go2").touch()
        wait_for((login.user.home / "ended").exists, "the job to go on while its cluster is cut off")
    finally:
        network.mend(head)
    wait_for(lambda: ports.answers(login.host, login.port), "the cluster to be there again")
    wait_job(login, job, "COMPLETED")


# SSH and networks


def test_banner_and_noise_surround_what_a_command_prints(users: list[User]) -> None:
    with SshServer(users, banner=BANNER, noise=NOISE) as server:
        argv = server.command("echo answer")
        argv[1:1] = ["-o", "LogLevel=INFO"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == NOISE + "answer\n"
    assert BANNER.replace("\n", "\r\n") in done.stderr or BANNER in done.stderr


def test_users_are_normal_users_each_with_a_home(ssh_server: SshServer, users: list[User]) -> None:
    assert len({user.name for user in users}) == len(users) == 3
    for user in users:
        assert ssh_server.run("id -un; pwd; touch here; id -u", user=user).split() == [
            user.name, str(user.home), str(user.uid),
        ]  # fmt: skip
        assert user.uid != 0


def test_what_users_left_running_outlives_a_restart_of_sshd_and_ends_with_the_server(users: list[User]) -> None:
    with SshServer(users) as server:
        pid = server.run("nohup sleep 16180 > /dev/null 2>&1 & echo $!").strip()
        held = subprocess.Popen(server.command("echo in; sleep 16180"), stdout=subprocess.PIPE, text=True)
        assert held.stdout is not None
        assert held.stdout.readline() == "in\n"
        server.restart()
        assert held.wait(timeout=10) != 0
        held.stdout.close()
        assert server.run(f"ps -o args= {pid}").strip() == "sleep 16180"
    assert not Path(f"/proc/{pid}").exists()


def test_a_changed_host_key_is_refused(users: list[User]) -> None:
    with SshServer(users) as server:
        assert server.run("echo once") == "once\n"
        server.new_host_key()
        with pytest.raises(ServerError, match="Host key verification failed"):
            server.run("echo twice")


def test_a_host_behind_a_gate_is_reached_by_a_jump_alone(users: list[User]) -> None:
    with (
        Network(hosts=1, gate=True) as network,
        SshServer(users, host=network.gate) as gate,
        SshServer(users, host=network.hosts[0]) as inner,
    ):
        assert not ports.answers(inner.host, inner.port)
        inner.write_config(inner.config, jump=gate)
        assert inner.host in inner.run("ip -br addr show eth0")


def test_a_cut_host_is_silent_until_it_is_mended(network: Network, users: list[User]) -> None:
    host, other = network.hosts
    with SshServer(users, host=host) as server, SshServer(users, host=other) as neighbour:
        held = subprocess.Popen(
            server.command("cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert held.stdin is not None
        assert held.stdout is not None
        with held:
            held.stdin.write("before\n")
            assert held.stdout.readline() == "before\n"
            network.cut(host)
            try:
                held.stdin.write("while cut\n")
                assert not ports.answers(server.host, server.port)
                assert neighbour.run("echo here") == "here\n"
                assert held.poll() is None
            finally:
                network.mend(host)
            # The open connection survives: what was written meanwhile arrives.
            assert held.stdout.readline() == "while cut\n"
            held.stdin.close()
            assert held.wait(timeout=10) == 0


def test_a_limited_link_is_as_slow_as_asked_for(network: Network, users: list[User]) -> None:
    host = network.hosts[1]
    with SshServer(users, host=host) as server:

        def seconds() -> float:
            start = time.monotonic()
            server.run("head -c 2000000 /dev/zero")
            return time.monotonic() - start

        network.limit_rate(host, 16)
        slow = seconds()
        network.limit_rate(host, None)
        fast = min(seconds() for _ in range(3))
    # 16 Mbit in 1 s, less the bucket that a burst may take at once.
    assert slow > 0.8
    assert fast < slow / 2


def test_a_link_with_latency_takes_its_time(network: Network, users: list[User]) -> None:
    with SshServer(users, host=network.hosts[0]) as server, DelayLink(network.hosts[0], delay_ms=25) as link:
        assert ports.answers(link.address, server.port)

        def connect_s(address: str) -> float:
            start = time.monotonic()
            assert ports.answers(address, server.port)
            return time.monotonic() - start

        assert min(connect_s(server.host) for _ in range(3)) < 0.025
        assert 0.05 <= min(connect_s(link.address) for _ in range(3)) < 0.15


# Containers

HELLO = ["python3", "-c", "import os, ssl; print(open('/mnt/0/in').read(), os.environ['GREETING'])"]


@pytest.fixture
def bound(user: User) -> Path:
    folder = user.home / "bound"
    folder.mkdir(exist_ok=True)
    (folder / "in").write_text("bound")
    return folder


def as_user(user: User, *argv: str, env: dict[str, str] | None = None) -> str:
    words = [f"{key}={value}" for key, value in {"GREETING": "hi", **(env or {})}.items()]
    done = subprocess.run(
        user.command("env", "-C", str(user.home), *words, *argv), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("image", ["rootfs", "sqfs"])
def test_charliecloud_runs_the_image_as_a_user(
    image: str, request: pytest.FixtureRequest, user: User, bound: Path
) -> None:
    path = request.getfixturevalue(image)
    assert as_user(user, "ch-run", "-b", f"{bound}:/mnt/0", str(path), "--", *HELLO) == "bound hi\n"


def test_podman_runs_the_image_as_a_user(oci_archive: Path, user: User, bound: Path) -> None:
    as_user(user, "podman", "load", "--quiet", "--input", str(oci_archive))
    out = as_user(
        user, "podman", "run", "--rm", "--network=host", "-e", "GREETING", "-v", f"{bound}:/mnt/0",
        "localhost/testbed:1", *HELLO,
    )  # fmt: skip
    assert out == "bound hi\n"


def test_apptainer_runs_the_image_as_a_user(sif: Path, user: User, bound: Path) -> None:
    assert as_user(user, "apptainer", "exec", "-B", f"{bound}:/mnt/0", str(sif), *HELLO) == "bound hi\n"


def test_a_slurm_job_runs_in_a_container(slurm_login: SshServer, sqfs: Path) -> None:
    script = f'ch-run {sqfs} -- python3 -c "print(open(\\"/etc/os-release\\").readline())"'
    job = submit(slurm_login, "", script)
    wait_job(slurm_login, job, "COMPLETED")
    assert output(slurm_login, job).strip() == "ID=isthmus-testbed"


def test_the_same_folder_makes_the_same_archive(rootfs: Path, image_folder: Path) -> None:
    from tests.testbed import images

    once = images.oci_archive(rootfs, image_folder / "once.tar")
    again = images.oci_archive(rootfs, image_folder / "again.tar")
    assert again.read_bytes() == once.read_bytes()


# Grid Engine


def qsub(login: SshServer, options: str, command: str) -> dict[str, str]:
    """Runs a job to its end and returns what qacct tells."""
    job = login.run(f"echo '{command}' | qsub -terse -cwd -j y -o ge-out {options}").strip()

    def record() -> dict[str, str]:
        told = login.run(f"qacct -j {job} 2>/dev/null || true")
        fields = dict(re.findall(r"^(\w+)\s+(.*?)\s*$", told, re.MULTILINE))
        return fields if "exit_status" in fields else {}

    return wait_for(record, f"qacct to know job {job}", deadline_s=30, every_s=0.1)


def test_grid_engine_runs_a_users_job_over_ssh(gridengine_login: SshServer) -> None:
    record = qsub(gridengine_login, "-l gpu=1 -pe smp 2", "id -un; echo $NSLOTS; exit 7")
    assert gridengine_login.run("cat ge-out").split() == [gridengine_login.user.name, "2"]
    assert record["exit_status"] == "7"
    assert record["qname"] == "all.q"


def test_grid_engine_kills_a_job_at_its_time_limit(gridengine_login: SshServer) -> None:
    record = qsub(gridengine_login, "-l h_rt=1", "sleep 1000")
    assert record["failed"].startswith("37")


def test_qstat_can_be_broken_for_those_who_log_in(gridengine: GridEngineCell, gridengine_login: SshServer) -> None:
    gridengine.break_qstat()
    try:
        with pytest.raises(ServerError, match="commlib error"):
            gridengine_login.run("qstat")
    finally:
        gridengine.mend()
    assert gridengine_login.run("qstat") == ""


# PostgreSQL and disks


def test_postgres_answers_and_can_be_emptied(postgres: PostgresServer) -> None:
    postgres.sql("create table t (n int)")
    postgres.sql("insert into t values (1), (2)")
    postgres.restart()
    assert postgres.sql("select sum(n) from t") == "3"
    postgres.reset()
    with pytest.raises(ServerError, match='relation "t" does not exist'):
        postgres.sql("select * from t")


def test_postgres_url_is_for_sqlalchemy(postgres: PostgresServer) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres.url, connect_args={"connect_timeout": 20})
    with engine.connect() as connection:
        assert connection.execute(text("select 40 + 2")).scalar_one() == 42
    engine.dispose()


def test_a_full_disk_takes_no_byte_from_anybody(slurm_login: SshServer, ssh_server: SshServer) -> None:
    with SmallDisk(size_mb=4) as disk:
        disk.fill()
        for shell in ("", "srun "):  # on this machine, and on a node that started before the disk was there
            with pytest.raises(ServerError, match="No space left on device"):
                slurm_login.run(f"{shell}dd if=/dev/zero of={disk.path}/file bs=1 count=1")
        disk.make_room()
        slurm_login.run(f"srun dd if=/dev/zero of={disk.path}/file bs=1 count=1")
        assert (disk.path / "file").stat().st_size == 1


def test_slurm_kills_a_job_at_its_time_limit(slurm_login: SshServer, overdue_job: str) -> None:
    wait_job(slurm_login, overdue_job, "TIMEOUT")
    wait_for(lambda: "DUE TO TIME LIMIT" in output(slurm_login, overdue_job), "the node's word on it")


def test_slurm_forgets_an_ended_job_after_the_age_asked_for(forgotten_job: tuple[SshServer, str]) -> None:
    login, job = forgotten_job
    wait_for(lambda: job not in login.run("squeue -h -t all -o %i").split(), "squeue to forget the job", deadline_s=90)
    record = login.run(f"sacct -c -n -P -j {job} -o JobID,State,ExitCode").strip()
    assert record == f"{job}|FAILED|3:0"


# Nothing stays behind


def test_a_missing_program_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(MissingProgram, match=r"scripts/install-system-packages.*make test"):
        program("no-such-program-anywhere")


def test_a_server_that_does_not_start_shows_its_log() -> None:
    broken = Daemon(
        "broken",
        ["/bin/sh", "-c", "echo the reason; exit 3"],
        folder=scratch.folder("broken"),
        ready=lambda: False,
    )
    with pytest.raises(ServerError, match=r"broken exited with 3 at its start\n(?s:.*)the reason"):
        broken.start()
    broken.close()


LEAVES_ALL_BEHIND = """
import contextlib
import os, signal
from tests.testbed import scratch
from tests.testbed.disk import SmallDisk
from tests.testbed.slurm import SlurmCluster
cluster = SlurmCluster(isolated=True)
cluster.start()
disk = SmallDisk()
disk.__enter__()
print(scratch.root(), cluster.head.netns, cluster.node_names[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_outlives_a_test_process_that_is_killed() -> None:
    root_folder = Path(__file__).parents[2]
    dead = subprocess.run([sys.executable, "-c", LEAVES_ALL_BEHIND], cwd=root_folder, capture_output=True, text=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    folder, netns, node = dead.stdout.split()

    def left() -> list[str]:
        servers = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if folder in line:
                servers.append(line)
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if folder in line]
        paths = [folder, f"/run/netns/{netns}", f"/sys/fs/cgroup/memory/slurm_{node}"]
        return servers + mounts + [path for path in paths if os.path.exists(path)]

    wait_for(lambda: not left(), "everything to be gone", deadline_s=30, every_s=0.1, story=lambda: "\n".join(left()))


def test_the_keeper_holds_what_made_itself_a_daemon() -> None:
    away = Daemon(
        "away", ["/bin/sh", "-c", "setsid sh -c 'sleep 14142 & exit 0'; sleep 14142"], folder=scratch.folder("away")
    )
    away.start()

    def sleepers() -> list[Path]:
        found = []
        for pid in away.below():
            with contextlib.suppress(OSError):  # the shells between come and go
                if b"sleep\x0014142" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(Path(f"/proc/{pid}"))
        return found if len(found) == 2 else []

    processes = wait_for(sleepers, "both children of the server")
    away.close()
    assert not any(process.exists() for process in processes)
