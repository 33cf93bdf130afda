"""The batch system SLURM against real clusters: what is submitted, asked, found, killed and probed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from isthmus.domain.jobs import JobSpec, Resources
from isthmus.domain.sites import Inventory, SiteSpec
from isthmus.domain.units import Bytes, Seconds
from isthmus.proxy.batch import node, reason_of, slurm
from isthmus.proxy.batch.slurm import accounting, commands
from isthmus.proxy.errors import ProxyError
from isthmus.sites.archive import archive
from isthmus.sites.kinds import Where, find_kind
from tests.system.batchjobs import Batch, contains
from tests.testbed.slurm import GPU_AND_DEBUG, Partition, SlurmCluster
from tests.testbed.waiting import wait_for

Enter = Callable[..., Batch]


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Enter]:
    """Log in to a cluster: its commands are ours from then on."""

    def log_in(cluster: SlurmCluster, **options: Any) -> Batch:
        for name, value in cluster.env().items():
            monkeypatch.setenv(name, value)
        _forget()
        return Batch(slurm, tmp_path, options)

    yield log_in
    _forget()


def _forget() -> None:
    """What a proxy remembers of its one cluster."""
    accounting._kinds.clear()
    accounting._settings.clear()


@pytest.fixture
def batch(slurm: SlurmCluster, enter: Enter) -> Iterator[Batch]:
    """The shared cluster, emptied afterwards."""
    yield enter(slurm)
    slurm.mend()
    slurm.command("scancel", "--user=root")
    wait_for(lambda: not slurm.command("squeue", "-h", "-o", "%i").split(), "the cluster to be empty")


# The journey


def test_ends_are_told_with_exit_code_signal_and_node(batch: Batch, slurm: SlurmCluster) -> None:
    good = batch.submit("exit 0")
    bad = batch.submit("exit 3")
    shot = batch.submit("kill -9 $$")
    assert batch.wait(good, "ended")[:5] == ("COMPLETED", "", "", 0, None)
    native = batch.wait(bad, "ended")
    assert (native.exit_code, native.signal, batch.reason(native)) == (3, None, "EXIT_CODE")
    native = batch.wait(shot, "ended")
    assert (native.exit_code, native.signal, batch.reason(native)) == (None, 9, "SIGNAL")
    assert native.nodes[0] in slurm.node_names


def test_running_and_waiting_jobs_are_told_apart(batch: Batch) -> None:
    runs = batch.submit("sleep 100")
    waits = batch.submit("#SBATCH --begin=now+1hour", "exit 0")
    assert batch.wait(runs, "running").nodes
    native = batch.wait(waits, "pending")
    assert (native.why, batch.reason(native)) == ("BeginTime", "SITE_QUEUE")
    assert len(batch.query(runs, waits).jobs) == 2


def test_why_a_job_waits_for_ever_is_told(batch: Batch) -> None:
    wide = batch.submit("#SBATCH --nodes=9", "exit 0")
    batch.wait(wide, "pending")
    # Which of the two depends on whether it asks for more nodes or for more memory than there is in all of them.
    wait_for(
        lambda: batch.query(wide).jobs[wide].why in ("PartitionNodeLimit", "PartitionConfig"),
        "the scheduler to say why",
        story=lambda: batch.story(wide),
    )
    assert "for ever" in reason_of(slurm, batch.query(wide).jobs[wide], "pending")[1]


def test_the_jobs_name_is_the_folders_whatever_the_script_says(batch: Batch) -> None:
    folder = batch.write("#SBATCH --job-name=other", "sleep 100")
    native_id = slurm.submit(str(folder), [])
    assert slurm.find(f"isthmus-{folder.name}", {}) == native_id
    assert slurm.find("other", {}) is None
    assert slurm.find("isthmus-" + folder.name[:-1], {}) is None


def test_of_two_jobs_of_one_name_the_newest_is_found(batch: Batch) -> None:
    folder = str(batch.write("sleep 100"))
    slurm.submit(folder, [])
    newest = slurm.submit(folder, [])
    assert slurm.find("isthmus-" + Path(folder).name, {}) == newest


def test_other_jobs_of_the_user_are_counted(batch: Batch, tmp_path: Path) -> None:
    ours = batch.submit("sleep 100")
    before = batch.query(ours).others
    batch.submit("#SBATCH --hold --array=1-7", "exit 0")
    batch.submit("#SBATCH --hold", "exit 0")
    done = batch.submit("exit 0")
    batch.wait(done, "ended")
    assert batch.query(ours).others == before + 8


# What goes wrong


def test_a_refusal_has_the_schedulers_own_words_and_a_hint(batch: Batch) -> None:
    with pytest.raises(ProxyError) as caught:
        batch.submit("#SBATCH --partition=nope", "exit 0")
    assert (caught.value.code, caught.value.transient) == ("batch-refused", False)
    assert "invalid partition specified: nope" in caught.value.message
    assert "debug, gpu" in caught.value.hint
    with pytest.raises(ProxyError) as caught:
        batch.submit("#SBATCH --gres=gpu:h100:1", "exit 0")
    assert caught.value.code == "batch-refused"


def test_without_a_default_partition_the_hint_names_those_there_are(enter: Enter, tmp_path: Path) -> None:
    partitions = (Partition("short", max_time="0:10:0"), Partition("long"))
    with SlurmCluster(nodes=1, gpus=0, partitions=partitions) as cluster:
        batch = enter(cluster)
        with pytest.raises(ProxyError) as caught:
            batch.submit("exit 0")
        assert caught.value.code == "batch-refused"
        assert "long, short" in caught.value.hint
        found = slurm.probe({"workdir": str(tmp_path)})
        assert any("no default partition" in note for note in found["notes"])
        assert "engines" in found, "the look at a node found a partition by itself"


@pytest.mark.parametrize("how", ["error", "garbage", "hang"])
def test_a_question_that_fails_is_never_an_end(
    batch: Batch, slurm: SlurmCluster, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_id = batch.submit("sleep 100")
    batch.wait(native_id, "running")
    monkeypatch.setattr(commands, "TIMEOUT_S", 0.5)
    slurm.break_squeue(how)
    for question in (
        lambda: batch.query(native_id),
        lambda: batch.module.find("isthmus-x", {}),
        lambda: batch.module.kill([native_id], {}),
    ):
        with pytest.raises(ProxyError) as caught:
            question()
        assert (caught.value.code, caught.value.transient) == ("batch-unavailable", True)
    slurm.mend()
    assert batch.state(native_id) == "running"


def test_a_squeue_that_prints_nothing_makes_no_job_gone(batch: Batch, slurm: SlurmCluster) -> None:
    ids = [batch.submit("sleep 100") for _ in range(2)]
    batch.wait(ids[0], "running")
    slurm.break_squeue("empty")
    assert [batch.state(native_id) in ("pending", "running") for native_id in ids] == [True, True]
    assert batch.state("99999") == "gone"


def test_many_that_are_gone_are_asked_for_at_once(batch: Batch) -> None:
    alive = batch.submit("sleep 100")
    answer = batch.query(alive, *(str(number) for number in range(50_000, 53_000)))
    assert list(answer.jobs) == [alive]


def test_a_controller_that_is_away_leaves_everything_open(enter: Enter) -> None:
    with SlurmCluster(nodes=1, gpus=0) as cluster:
        batch = enter(cluster)
        native_id = batch.submit("sleep 100")
        batch.wait(native_id, "running")
        folder = str(batch.write("exit 0"))
        cluster.stop_controller()
        with ThreadPoolExecutor() as pool:  # SLURM's commands try for ten seconds
            asked = pool.submit(batch.query, native_id)
            submitted = pool.submit(slurm.submit, folder, [])
        for question in (asked, submitted):
            error = question.exception()
            assert isinstance(error, ProxyError)
            assert (error.code, error.transient) == ("batch-unavailable", True)
        cluster.start_controller()
        assert batch.state(native_id) == "running"


def test_a_node_that_fails(enter: Enter) -> None:
    with SlurmCluster(nodes=1, gpus=0) as cluster:
        batch = enter(cluster)
        native_id = batch.submit("#SBATCH --no-requeue", "sleep 100")
        batch.wait(native_id, "running")
        cluster.kill_node(cluster.node_names[0])
        cluster.mark_down(cluster.node_names[0])
        native = batch.wait(native_id, "ended")
        assert (native.text, batch.reason(native)) == ("NODE_FAIL", "NODE_FAIL")


def test_a_job_that_is_preempted(enter: Enter) -> None:
    partitions = (Partition("low", default=True), Partition("high", options="PriorityTier=10 PreemptMode=off"))
    with SlurmCluster(nodes=1, gpus=0, partitions=partitions, preemption="cancel") as cluster:
        batch = enter(cluster)
        low = batch.submit("#SBATCH --exclusive --no-requeue", "sleep 100")
        batch.wait(low, "running")
        high = batch.submit("#SBATCH --exclusive --partition=high", "exit 0")
        native = batch.wait(low, "ended")
        assert (native.text, batch.reason(native)) == ("PREEMPTED", "PREEMPTED")
        batch.wait(high, "ended")


def test_a_job_that_takes_too_much_memory(batch: Batch, slurm: SlurmCluster) -> None:
    hog = "exec python3 -c 'x = bytearray(400 << 20)\nwhile True: pass'"
    native = batch.wait(batch.submit("#SBATCH --mem=100M", hog), "ended")
    assert batch.reason(native) in {"cgroup": ("OOM",), "gather": ("SIGNAL", "NODE_FAIL")}[slurm.memory]


# Jobs that the queue has forgotten


@pytest.mark.parametrize("kind", ["none", "filetxt", "dbd"])
def test_a_job_that_squeue_has_forgotten(enter: Enter, kind: Any) -> None:
    with SlurmCluster(nodes=1, gpus=0, accounting=kind, min_job_age_s=2) as cluster:
        batch = enter(cluster)
        folder = batch.write("exit 3")
        native_id = slurm.submit(str(folder), [])
        seen = batch.wait(native_id, "ended")
        assert seen.exit_code == 3
        wait_for(
            lambda: native_id not in cluster.command("squeue", "-h", "-a", "-t", "all", "-o", "%i").split(),
            "squeue to forget the job",
            deadline_s=60,
        )
        name = "isthmus-" + folder.name
        if kind == "none":
            assert batch.state(native_id) == "gone"
            assert slurm.find(name, {}) is None
        else:
            native = batch.wait(native_id, "ended")
            assert (native.exit_code, native.nodes, batch.reason(native)) == (3, cluster.node_names, "EXIT_CODE")
            assert slurm.find(name, {}) == native_id
            assert batch.state("99999") == "gone"
        if kind == "dbd":
            listed = batch.submit("sleep 100")
            batch.wait(listed, "running")
            assert cluster._accounting_daemon is not None
            cluster._accounting_daemon.close()
            with pytest.raises(ProxyError) as caught:
                batch.query(native_id)
            assert caught.value.code == "batch-unavailable", "a database that is away has not forgotten the job"
            assert batch.state(listed) == "running", "what the queue lists needs no database"


# Arrays


def array(batch: Batch, *scripts: str, argv: Sequence[str] = ()) -> list[str]:
    """Hand over a script for each as one array, as the proxy does; their native ids."""
    folders = [batch.write(script) for script in scripts]
    made = slurm.array((folders[0] / "batch.sh").read_text(), len(folders))
    assert made is not None
    root = batch.root / "all.array"
    root.mkdir()
    for index, folder in enumerate(folders):
        (root / str(index)).symlink_to(folder)
    (root / "batch.sh").write_text(made[0])
    native_id = slurm.submit(str(root), [*argv, *made[1]])
    return [slurm.element(native_id, index) for index in range(len(folders))]


def test_an_element_is_the_job_that_it_would_be_alone(batch: Batch, slurm: SlurmCluster) -> None:
    script = "echo out; echo $(pwd -P) $ISTHMUS_NATIVE_ID ${SLURM_ARRAY_TASK_ID-none} > said; exit "
    ids = array(batch, *(script + str(code) for code in (0, 3, 0, 4)))
    for native_id, code in zip(ids, (0, 3, 0, 4), strict=True):
        native = batch.wait(native_id, "ended")
        assert (native.exit_code, native.nodes[0] in slurm.node_names) == (code, True)
    folders = sorted(batch.root.glob("*.1-test"), key=lambda folder: int(folder.name.partition(".")[0]))
    for folder, native_id in zip(folders, ids, strict=True):
        assert (folder / "said").read_text().split() == [str(folder), native_id, "none"]
        assert (folder / "batch.log").read_text() == "out\n"


def test_elements_that_wait_are_told_found_and_killed_one_by_one(batch: Batch) -> None:
    ids = array(batch, *["sleep 100"] * 5, argv=["--hold"])
    answer = batch.query(ids[0], ids[3])
    assert {native.text for native in answer.jobs.values()} == {"PENDING"}
    assert answer.others == 3
    assert slurm.find("isthmus-all.array", {}) == ids[0].partition("_")[0]
    slurm.kill([ids[1], ids[4]], {})
    # Of elements that never began nobody knows more, unless there is a database.
    batch.wait(ids[1], "gone")
    assert [batch.state(native_id) for native_id in ids] == ["pending", "gone", "pending", "pending", "gone"]


def test_one_element_of_those_that_run_is_killed(batch: Batch) -> None:
    ids = array(batch, *["trap 'exit 5' TERM; while :; do sleep 0.1; done"] * 4)
    for native_id in ids[:2]:
        batch.wait(native_id, "running")
    wait_for(lambda: slurm.kill([ids[1]], {}) or batch.state(ids[1]) == "ended", "its end")
    assert batch.query(ids[1]).jobs[ids[1]].exit_code in (5, None)
    assert batch.state(ids[0]) == "running"


@pytest.mark.parametrize("kind", ["dbd", "none"])
def test_elements_that_squeue_has_forgotten(enter: Enter, kind: Any) -> None:
    with SlurmCluster(nodes=1, gpus=0, accounting=kind, min_job_age_s=2) as cluster:
        batch = enter(cluster)
        assert slurm.array_limit({}) == 10001
        ids = array(batch, "exit 3", "exit 0", "exit 0", "exit 0")
        for native_id in ids:
            batch.wait(native_id, "ended")
        wait_for(
            lambda: not cluster.command("squeue", "-h", "-a", "-t", "all", "-o", "%i").split(),
            "squeue to forget the jobs",
            deadline_s=60,
        )
        if kind == "none":
            assert [batch.state(native_id) for native_id in ids] == ["gone"] * 4
        else:
            native = batch.wait(ids[0], "ended")
            assert (native.exit_code, batch.reason(native)) == (3, "EXIT_CODE")
            assert slurm.find("isthmus-all.array", {}) == ids[0].partition("_")[0]


def test_a_file_of_completed_jobs_tells_no_elements_apart(enter: Enter) -> None:
    with SlurmCluster(nodes=1, gpus=0, accounting="filetxt") as cluster:
        enter(cluster)
        assert slurm.array_limit({}) == 0


# Several clusters


def test_jobs_of_named_clusters(enter: Enter, slurm_dbd: SlurmCluster, tmp_path: Path) -> None:
    name = slurm_dbd.name
    batch = enter(slurm_dbd, clusters=name)
    argv = [f"--clusters={name}"]
    folder = batch.write("sleep 100")
    native_id = slurm.submit(str(folder), argv)
    assert native_id.endswith(f";{name}")
    batch.wait(native_id, "running")
    assert slurm.find(f"isthmus-{folder.name}", batch.options) == native_id
    assert list(slurm.query([native_id], {}).jobs) == [native_id], "the id alone tells the cluster"
    slurm.kill([native_id], batch.options)
    native = batch.wait(native_id, "ended")
    assert native.signal == 15 or native.text.startswith("CANCELLED")
    with pytest.raises(ProxyError) as caught:
        slurm.query(["7;nowhere"], {})
    assert caught.value.code == "batch-unavailable", "a cluster that can't be asked has not forgotten the job"
    assert slurm.probe({"clusters": name})["queues"]


# Ends by order


def test_waiting_jobs_leave_and_gone_ones_are_passed_over(batch: Batch) -> None:
    waits = [batch.submit("#SBATCH --hold", "exit 0") for _ in range(3)]
    over = batch.submit("exit 0")
    batch.wait(over, "ended")
    slurm.kill([*waits, over, "99999"], {})
    for native_id in waits:
        assert batch.reason(batch.wait(native_id, "ended")) == "KILLED"
    assert batch.query(over).jobs[over].text == "COMPLETED"
    slurm.kill([*waits, "99999"], {})


def test_a_running_script_gets_one_sigterm_and_its_own_time(batch: Batch, tmp_path: Path) -> None:
    said = tmp_path / "said"
    native_id = batch.submit(
        f"trap 'echo term >>{said}' TERM",
        f"echo up >{said}",
        "end=$(($(date +%s) + 6))",
        "while [ $(date +%s) -lt $end ]; do sleep 0.1; done",
        f"echo saved >>{said}",
    )
    wait_for(contains(said, "up"), "the script to run")
    slurm.kill([native_id], {})
    assert batch.wait(native_id, "ended").text == "COMPLETED", "longer than KillWait, which is 2 s here"
    assert said.read_text() == "up\nterm\nsaved\n"


def test_the_runner_behind_a_rendered_script_gives_the_command_its_grace(
    batch: Batch, slurm: SlurmCluster, tmp_path: Path
) -> None:
    job = JobSpec(
        command=("sh", "-c", "trap 'sleep 4; echo saved; exit 7' TERM; echo up; while :; do sleep 0.1; done"),
        resources=Resources(cpus=2, gpus=1, gpu_type="A100", mem=Bytes(200 << 20), time=Seconds(300)),
    )
    site = SiteSpec(name="c", kind="slurm", setup=("export FROM_SETUP=1",))
    inventory = TypeAdapter(Inventory).validate_python({**slurm_inventory(tmp_path), "workdir": str(tmp_path)})
    folder = tmp_path / "jobs" / "17.1-k3f9"
    folder.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    packed = archive()
    (tmp_path / "bin" / packed.name).write_bytes(packed.data)
    text, argv = find_kind("slurm").render(site, inventory, job, Where(key=folder.name, queue="gpu"))
    (folder / "batch.sh").write_text(text)
    spec = {"key": folder.name, "job_id": 17, "attempt": 1, "command": list(job.command), "grace_s": 20, "env": {}}
    (folder / "job.json").write_text(json.dumps(spec))
    native_id = batch.module.submit(str(folder), list(argv))
    wait_for(contains(folder / "log", "up"), "the command to run", story=lambda: batch.story(native_id))
    (folder / "kill").write_text("{}")
    batch.module.kill([native_id], {})
    batch.wait(native_id, "ended")
    final = json.loads((folder / "reports").read_text().splitlines()[-1])
    assert (final["kind"], final["reason"], final["exit_code"]) == ("finished", "KILLED", 7)
    assert "saved" in (folder / "log").read_text()
    assert (folder / "batch.log").exists()
    started = json.loads((folder / "reports").read_text().splitlines()[0])
    assert len(started["gpus"]) == 1


# The environment of jobs


def test_jobs_begin_with_a_login_and_not_with_the_proxys_own_variables(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PROXY", "x")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_CPU_BIND", "none")
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    printed = tmp_path / "env"
    batch.wait(batch.submit(f"env >{printed}"), "ended")
    seen = dict(line.split("=", 1) for line in printed.read_text().splitlines() if "=" in line)
    assert "OF_THE_PROXY" not in seen
    assert seen.get("SLURM_JOB_ID") != "4711"
    assert seen["SLURM_JOB_NAME"].startswith("isthmus-")
    assert seen["HOME"]
    assert seen.get("LC_ALL") != "C", "the locale is the user's, not the parsers'"


def test_a_default_from_the_profile_counts_where_the_script_is_silent(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, slurm: SlurmCluster
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    silent = batch.submit("#SBATCH --hold", "exit 0")
    outspoken = batch.submit("#SBATCH --hold --partition=gpu", "exit 0")
    where = dict(line.split() for line in slurm.command("squeue", "-h", "-t", "all", "-o", "%i %P").splitlines())
    assert (where[silent], where[outspoken]) == ("debug", "gpu")


# What a site has


def slurm_inventory(workdir: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = slurm.probe({"workdir": str(workdir), **options})
    return found


def test_probe(batch: Batch, slurm: SlurmCluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        found = slurm_inventory(tmp_path, api_url=url, setup=["export FROM_SETUP=1"])
    inventory = TypeAdapter(Inventory).validate_python(found)
    assert inventory.batch.startswith("SLURM 2")
    assert inventory.accounting == "none"
    assert [(queue.name, queue.default, queue.max_time) for queue in inventory.queues] == [
        ("gpu", True, 86400),
        ("debug", False, 600),
    ]
    gpu = inventory.queues[0]
    assert sum(kind.count for kind in gpu.nodes) == 2
    assert {(kind.cpus, kind.mem >> 20, kind.gpus[0].type, kind.gpus[0].count) for kind in gpu.nodes} == {
        (slurm.cpus, slurm.mem_mb, "a100", 2)
    }
    assert inventory.nodes_reach_api is True
    assert "charliecloud" in inventory.engines
    assert inventory.architecture
    assert inventory.scratch
    assert list((tmp_path / "tmp").iterdir()) == []


def test_probe_of_a_site_with_a_database_and_untyped_gpus(
    enter: Enter, slurm_dbd: SlurmCluster, tmp_path: Path
) -> None:
    enter(slurm_dbd)
    slurm_dbd.sacctmgr("add", "account", "proj")
    slurm_dbd.sacctmgr("add", "user", "root", "account=proj")
    found = slurm_inventory(tmp_path)
    assert found["accounting"] == "slurmdbd"
    assert "proj" in found["accounts"]
    assert "normal" in found["qos"]
    assert found["queues"][0]["nodes"][0]["gpus"] == [{"type": "", "count": 2, "mem": 0}]


def test_probe_names_partitions_that_are_asked_for_and_missing(batch: Batch, tmp_path: Path) -> None:
    found = slurm_inventory(tmp_path, partition="debug,nope")
    assert [(queue["name"], queue["default"]) for queue in found["queues"]] == [("debug", True)]
    assert any("nope" in note for note in found["notes"])


def test_probe_of_a_busy_site_waits_for_a_bounded_time(
    batch: Batch, slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [batch.submit("#SBATCH --exclusive", "sleep 100") for _ in slurm.node_names]
    for native_id in busy:
        batch.wait(native_id, "running")
    monkeypatch.setattr(node, "WAIT_S", 0.5)
    found = slurm_inventory(tmp_path)
    assert "engines" not in found
    assert node.UNKNOWN in found["notes"]
    assert found["others"] == len(busy)
    left = slurm.command("squeue", "-h", "-o", "%j").split()
    assert "isthmus-probe" not in left


def test_nodes_without_a_route_say_so(enter: Enter, slurm_isolated: SlurmCluster, tmp_path: Path) -> None:
    """The commands of an isolated cluster run on its head, as they would on its login node."""
    import subprocess
    import sys

    assert slurm_isolated.head is not None
    program = (
        "import json, sys; from isthmus.proxy.batch import slurm; "
        "print(json.dumps(slurm.probe({'workdir': sys.argv[1], 'api_url': 'http://10.255.255.1:81'})))"
    )
    done = subprocess.run(
        slurm_isolated.head.command(sys.executable, "-c", program, str(tmp_path)),
        env=slurm_isolated.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["nodes_reach_api"] is False


def test_partitions_of_other_groups_are_left_out(enter: Enter, users: list[Any], tmp_path: Path) -> None:
    """As a normal user."""
    import subprocess

    partitions = (
        *GPU_AND_DEBUG,
        Partition("staff", options="AllowGroups=root"),
        Partition("shared", options="MaxCPUsPerNode=2 MaxMemPerNode=1000"),
    )
    with SlurmCluster(nodes=1, gpus=0, partitions=partitions) as cluster:
        program = "import json; from isthmus.proxy.batch import slurm; print(json.dumps(slurm.probe({})))"
        done = subprocess.run(
            users[0].command(
                "env", f"SLURM_CONF={cluster.conf}", f"PATH={cluster.env()['PATH']}", f"PYTHONPATH={_source()}",
                "/usr/bin/python3", "-c", program,
            ),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert [queue["name"] for queue in found["queues"]] == ["gpu", "debug", "shared"]
        (whole,), (bounded,) = found["queues"][0]["nodes"], found["queues"][2]["nodes"]
        assert (whole["cpus"], whole["mem"] >> 20) == (4, 4000)
        assert (bounded["cpus"], bounded["mem"] >> 20) == (2, 1000)
        assert any("staff" in note for note in found["notes"])
        assert "node_python" not in found


def _source() -> Path:
    import isthmus

    return Path(str(isthmus.__file__)).parent.parent
