"""The batch system Grid Engine against a real cell: what is submitted, asked, found, killed and probed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from isthmus.domain.jobs import JobSpec, Resources
from isthmus.domain.sites import Inventory, SiteSpec
from isthmus.domain.units import Bytes, Seconds
from isthmus.proxy.batch import gridengine as module
from isthmus.proxy.errors import ProxyError
from isthmus.sites.archive import archive
from isthmus.sites.kinds import Where, find_kind
from tests.system.batchjobs import Batch, contains
from tests.testbed.gridengine import GridEngineCell
from tests.testbed.waiting import wait_for

HEAD = "#!/bin/bash\n#$ -S /bin/bash\n#$ -cwd\n#$ -j y\n#$ -o batch.log\n#$ -r n"


@pytest.fixture
def batch(gridengine: GridEngineCell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Batch]:
    """The shared cell, emptied afterwards."""
    for name, value in gridengine.env().items():
        monkeypatch.setenv(name, value)
    yield Batch(module, tmp_path, head=HEAD)
    gridengine.mend()
    left = [line.id for line in module._queue()]
    module.kill(left, {"force": True})
    wait_for(lambda: not module._queue(), "the cell to be empty", deadline_s=60)


def test_ends_are_told_with_exit_code_signal_and_node(batch: Batch) -> None:
    good = batch.submit("exit 0")
    bad = batch.submit("exit 3")
    shot = batch.submit("kill -9 $$")
    native = batch.wait(good, "ended")
    assert (native.exit_code, native.signal, batch.reason(native)) == (0, None, "")
    native = batch.wait(bad, "ended")
    assert (native.exit_code, native.signal, batch.reason(native)) == (3, None, "EXIT_CODE")
    native = batch.wait(shot, "ended")
    assert (native.exit_code, native.signal, batch.reason(native)) == (None, 9, "SIGNAL")
    assert native.nodes == [socket.gethostname()]


def test_many_ended_jobs_are_asked_for_at_once(batch: Batch) -> None:
    ids = [batch.submit(f"exit {number}") for number in range(7)]
    for native_id in ids:
        batch.wait(native_id, "ended")
    jobs = batch.query(*ids, "99999").jobs
    assert [jobs[native_id].exit_code for native_id in ids] == list(range(7))
    assert "99999" not in jobs


def test_running_and_waiting_jobs_are_told_apart(batch: Batch) -> None:
    runs = batch.submit("sleep 100")
    waits = batch.submit("#$ -h", "exit 0")
    assert batch.wait(runs, "running").nodes == [socket.gethostname()]
    native = batch.wait(waits, "pending")
    assert (native.text, batch.reason(native)) == ("hqw", "SITE_QUEUE")


def test_a_job_at_its_time_limit(batch: Batch) -> None:
    native = batch.wait(batch.submit("#$ -l h_rt=1", "sleep 100"), "ended", deadline_s=60)
    assert batch.reason(native) == "TIMEOUT"
    assert "h_rt" in native.message


def test_a_job_that_can_not_be_started_says_why(batch: Batch) -> None:
    native_id = batch.submit("#$ -wd /nonexistent", "exit 0", argv=["-o", "/dev/null"])

    def failed() -> bool:
        native = batch.query(native_id).jobs[native_id]
        return batch.reason(native) == "SUBMIT" and "/nonexistent" in native.message

    wait_for(failed, "Grid Engine to put the job into error", story=lambda: batch.story(native_id))
    assert batch.state(native_id) == "pending"
    module.kill([native_id], {})
    assert batch.state(native_id) != "pending"


def test_the_jobs_name_is_the_folders_and_finds_it_waiting_and_ended(batch: Batch) -> None:
    folder = batch.write("#$ -N other", "exit 0")
    held = module.submit(str(folder), ["-h"])
    assert module.find(f"isthmus-{folder.name}", {}) == held
    assert module.find("other", {}) is None
    again = module.submit(str(folder), [])
    batch.wait(again, "ended")
    module.kill([held], {})
    assert module.find(f"isthmus-{folder.name}", {}) == again
    assert module.find("isthmus-0.0-none", {}) is None


def test_other_jobs_of_the_user_are_counted(batch: Batch) -> None:
    ours = batch.submit("#$ -h", "exit 0")
    batch.submit("#$ -h", "#$ -t 1-9:2", "exit 0")
    batch.submit("#$ -h", "exit 0")
    assert batch.query(ours).others == 6


def test_a_refusal_has_the_schedulers_own_words_and_a_hint(batch: Batch) -> None:
    with pytest.raises(ProxyError) as caught:
        batch.submit("#$ -q nope.q", "exit 0")
    assert (caught.value.code, caught.value.transient) == ("batch-refused", False)
    assert 'unknown queue "nope.q"' in caught.value.message
    assert "all.q, debug.q" in caught.value.hint
    with pytest.raises(ProxyError) as caught:
        batch.submit("#$ -pe nope 2", "exit 0")
    assert "smp" in caught.value.hint


@pytest.mark.parametrize("how", ["error", "garbage"])
def test_a_question_that_fails_is_never_an_end(batch: Batch, gridengine: GridEngineCell, how: Any) -> None:
    native_id = batch.submit("sleep 100")
    batch.wait(native_id, "running")
    gridengine.break_qstat(how)
    for question in (
        lambda: batch.query(native_id),
        lambda: module.find("isthmus-x", {}),
        lambda: module.kill([native_id], {}),
    ):
        with pytest.raises(ProxyError) as caught:
            question()
        assert (caught.value.code, caught.value.transient) == ("batch-unavailable", True)
    gridengine.mend()
    assert batch.state(native_id) == "running"


def test_a_master_that_is_away_leaves_everything_open(batch: Batch, gridengine: GridEngineCell) -> None:
    native_id = batch.submit("sleep 100")
    batch.wait(native_id, "running")
    folder = str(batch.write("exit 0"))
    gridengine.stop_qmaster()
    try:
        for question in (lambda: batch.query(native_id), lambda: module.submit(folder, [])):
            with pytest.raises(ProxyError) as caught:
                question()
            assert (caught.value.code, caught.value.transient) == ("batch-unavailable", True)
    finally:
        gridengine.start_qmaster()
    assert batch.state(native_id) == "running"


def test_waiting_jobs_leave_running_ones_are_left_to_their_runner(batch: Batch) -> None:
    waits = [batch.submit("#$ -h", "exit 0") for _ in range(3)]
    runs = batch.submit("sleep 100")
    batch.wait(runs, "running")
    wait_for(lambda: batch.query(runs).jobs[runs].text == "r", "the job to have come to its node")
    module.kill([*waits, runs, "99999"], {})
    for native_id in waits:
        assert batch.state(native_id) != "pending"
    assert batch.state(runs) == "running"
    module.kill([*waits, runs], {"force": True})
    batch.wait(runs, "ended")


def test_the_runner_behind_a_rendered_script_gives_the_command_its_grace(
    batch: Batch, gridengine: GridEngineCell, tmp_path: Path
) -> None:
    job = JobSpec(
        command=("sh", "-c", "trap 'sleep 4; echo saved; exit 7' TERM; echo up; while :; do sleep 0.1; done"),
        resources=Resources(cpus=2, gpus=1, mem=Bytes(200 << 20), time=Seconds(300)),
    )
    found = TypeAdapter(Inventory).validate_python({**module.probe({}), "workdir": str(tmp_path)})
    folder = tmp_path / "jobs" / "17.1-k3f9"
    folder.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    packed = archive()
    (tmp_path / "bin" / packed.name).write_bytes(packed.data)
    site = SiteSpec(name="c", kind="gridengine", python="/usr/bin/python3")
    text, argv = find_kind("gridengine").render(site, found, job, Where(key=folder.name, queue="all.q"))
    (folder / "batch.sh").write_text(text)
    spec = {"key": folder.name, "job_id": 17, "attempt": 1, "command": list(job.command), "grace_s": 20, "env": {}}
    (folder / "job.json").write_text(json.dumps(spec))
    native_id = module.submit(str(folder), list(argv))
    wait_for(contains(folder / "log", "up"), "the command to run", story=lambda: batch.story(native_id))
    (folder / "kill").write_text("{}")
    module.kill([native_id], {})
    batch.wait(native_id, "ended")
    final = json.loads((folder / "reports").read_text().splitlines()[-1])
    assert (final["kind"], final["reason"], final["exit_code"]) == ("finished", "KILLED", 7)
    assert "saved" in (folder / "log").read_text(), "longer than the queue's notice, which is 2 s here"


def test_probe(batch: Batch, gridengine: GridEngineCell, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        found = module.probe({"workdir": str(tmp_path), "api_url": url, "python": "/usr/bin/python3"})
    inventory = TypeAdapter(Inventory).validate_python(found)
    assert inventory.batch == "Grid Engine 8.1.9"
    assert [(queue.name, queue.default, queue.max_time) for queue in inventory.queues] == [
        ("all.q", True, 0),
        ("debug.q", False, 600),
    ]
    (node,) = inventory.queues[0].nodes
    assert (node.cpus, node.gpus[0].type, node.gpus[0].count) == (gridengine.slots, "", gridengine.gpus)
    assert node.mem > 0
    assert inventory.nodes_reach_api is True
    assert "charliecloud" in inventory.engines
    assert inventory.notes == ()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_probe_tells_of_a_missing_parallel_environment(batch: Batch) -> None:
    found = module.probe({"pe": "threads"})
    assert any("'threads'" in note and "smp" in note for note in found["notes"])
