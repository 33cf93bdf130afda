"""A runner as a batch system starts it: how commands end, and that nothing of them stays."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from isthmus.runner import canonical
from tests.testbed.proxies import SiteFolder, alive
from tests.testbed.waiting import wait_for

PYTHON = sys.executable


def test_a_command_that_ends_well(site: SiteFolder) -> None:
    end = site.run("1.1-a", "sh", "-c", "echo out; echo err >&2")
    assert (end["exit_code"], end["signal"], end["reason"], end["code"]) == (0, None, "", 0)
    assert site.log("1.1-a") == "out\nerr\n"
    assert end["log_bytes"] == len("out\nerr\n")
    started = site.reports("1.1-a")[0]
    assert started["kind"] == "started" and started["node"] == os.uname().nodename and started["pid"] > 1


def test_an_exit_code_with_the_last_words(site: SiteFolder) -> None:
    end = site.run("1.1-a", "sh", "-c", "echo it broke; exit 7")
    assert (end["exit_code"], end["reason"], end["code"]) == (7, "EXIT_CODE", 7)
    assert "exit code 7" in end["message"] and "it broke" in end["message"]


def test_a_signal(site: SiteFolder) -> None:
    end = site.run("1.1-a", "sh", "-c", "kill -SEGV $$")
    assert (end["exit_code"], end["signal"], end["reason"], end["code"]) == (None, 11, "SIGNAL", 139)
    assert "SIGSEGV" in end["message"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-program",), "no command 'no-such-program'"),
        (("/nowhere/prog",), "no program /nowhere/prog"),
        (("/etc/passwd",), "can't be executed"),
        (("/",), "can't be executed"),
    ],
)
def test_a_command_that_is_not_there(site: SiteFolder, command: tuple[str, ...], said: str) -> None:
    end = site.run("1.1-a", *command)
    assert (end["exit_code"], end["reason"], end["code"]) == (None, "COMMAND", 1)
    assert said in end["message"]
    assert [report["kind"] for report in site.reports("1.1-a")] == ["finished"]


def test_a_program_that_is_no_format_of_this_machine(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "./tool")
    (folder / "work").mkdir()
    (folder / "work" / "tool").write_text("no first line\n")
    (folder / "work" / "tool").chmod(0o755)
    with site.start("1.1-a") as runner:
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert end["reason"] == "COMMAND" and "#!/bin/sh" in end["message"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo $0 | grep -q script && echo plain", "plain"),
        (f"#!{PYTHON} -B\nimport sys\nprint('python', sys.flags.dont_write_bytecode)\n", "python 1"),
        ("#!/usr/bin/env sh\necho by env\n", "by env"),
    ],
)
def test_a_script_runs_in_the_interpreter_that_it_names(site: SiteFolder, script: str, said: str) -> None:
    end = site.run("1.1-a", script=script)
    assert end["reason"] == "", end
    assert said in site.log("1.1-a")


def test_the_environment(site: SiteFolder) -> None:
    folder = site.write_job("17.2-k3f9", "env", env={"DEPTH": "3"}, checkpoint="checkpoints/17", job_id=17, attempt=2)
    (folder / "secrets.json").write_text(json.dumps({"": "the-token", "API_KEY": "s3cret"}))
    with site.start("17.2-k3f9", {"OUTER": "kept", "ISTHMUS_TOKEN": "not-for-jobs"}) as runner:
        runner.wait(30)
    env = dict(line.split("=", 1) for line in site.log("17.2-k3f9").splitlines() if "=" in line)
    assert (env["DEPTH"], env["API_KEY"], env["OUTER"]) == ("3", "s3cret", "kept")
    assert (env["ISTHMUS_JOB_ID"], env["ISTHMUS_ATTEMPT"]) == ("17", "2")
    assert (
        env["ISTHMUS_CHECKPOINT"] == str(site.path / "checkpoints" / "17") and Path(env["ISTHMUS_CHECKPOINT"]).is_dir()
    )
    assert env["PYTHONPATH"].split(":")[-1] == str(site.archive)
    assert env["PWD"] == str(folder / "work")
    assert "ISTHMUS_TOKEN" not in env and "the-token" not in site.log("17.2-k3f9")
    assert not (folder / "secrets.json").exists()


def test_secrets_stand_in_no_argument_and_no_file(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "sh", "-c", "echo ready; sleep 60", env={})
    (folder / "secrets.json").write_text(json.dumps({"API_KEY": "s3cret-value"}))
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in site.strays("1.1-a")]
        words.append(Path(f"/proc/{runner.pid}/cmdline").read_bytes())
        runner.terminate()
        runner.wait(30)
    assert words and not any(b"s3cret-value" in line for line in words)
    for path in folder.rglob("*"):
        assert not path.is_file() or b"s3cret-value" not in path.read_bytes(), path


def test_streams_go_to_files_of_the_work_folder(site: SiteFolder) -> None:
    end = site.run("1.1-a", "sh", "-c", "echo out; echo err >&2", stdout="logs/out.txt")
    assert end["reason"] == ""
    assert (site.job("1.1-a") / "work/logs/out.txt").read_text() == "out\n"
    assert site.log("1.1-a") == "err\n"


def test_what_the_command_reports(site: SiteFolder) -> None:
    code = (
        "import isthmus; isthmus.report(loss=0.5, step=1);"
        "isthmus.report({'val/loss': 1}, progress=(1, 4), message='reading');"
        "print('isthmus: lr=1e-3 step=2'); print('isthmus: progress=30/100 half way there', end='')"
    )
    site.run("1.1-a", PYTHON, "-c", code)
    reports = [report for report in site.reports("1.1-a") if report["kind"] in ("metrics", "progress")]
    assert [(r["values"], r["step"]) for r in reports if r["kind"] == "metrics"] == [
        ({"loss": 0.5}, 1),
        ({"val/loss": 1}, None),
        ({"lr": 0.001}, 2),
    ]
    progress = [(r["done"], r["total"], r["message"]) for r in reports if r["kind"] == "progress"]
    assert progress == [(1, 4, "reading"), (30, 100, "half way there")]


def test_metrics_come_while_the_command_runs(site: SiteFolder) -> None:
    site.write_job("1.1-a", "sh", "-c", 'echo \'{"loss": 0.25}\' >> "$ISTHMUS_REPORT"; sleep 60')
    with site.start("1.1-a") as runner:
        assert site.wait_report("1.1-a", "metrics")["values"] == {"loss": 0.25}
        assert runner.poll() is None
        runner.terminate()
        runner.wait(30)


def test_usage_is_measured_with_all_that_the_command_starts(site: SiteFolder) -> None:
    child = "x = bytearray(60 << 20); t = sum(range(10**6)); import sys; print('full', flush=True); sys.stdin.read()"
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE)\n"
        "time.sleep(60)\n"
    )
    site.write_job("1.1-a", PYTHON, "-c", parent, heartbeat_s=0.2)
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "full")

        def full() -> bool:
            return any(r["kind"] == "usage" and r["mem_bytes"] > 60 << 20 for r in site.reports("1.1-a"))

        wait_for(full, "usage that counts the child")
        runner.terminate()
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert end["peak_mem_bytes"] > 60 << 20 and end["cpu_s"] > 0


# ---- the end by order


def test_the_kill_file_with_a_grace_that_is_used(site: SiteFolder) -> None:
    script = (
        "trap 'echo saved > \"$ISTHMUS_CHECKPOINT/state\"; exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done\n"
    )
    folder = site.write_job("9.1-a", script=script, checkpoint="checkpoints/9")
    with site.start("9.1-a") as runner:
        site.wait_log("9.1-a", "ready")
        (folder / "kill").write_text('{"grace_s": 20}')
        runner.wait(30)
    end = site.reports("9.1-a")[-1]
    assert (end["exit_code"], end["reason"]) == (0, "KILLED")
    assert [r["why"] for r in site.reports("9.1-a") if r["kind"] == "ending"] == ["kill"]
    assert (site.path / "checkpoints/9/state").read_text() == "saved\n"


def test_the_grace_is_that_of_the_program_which_a_shell_has_started(site: SiteFolder) -> None:
    """SIGTERM goes to all of them. The shell dies at once; the program saves its state all the same."""
    code = (
        "import os, signal, time\n"
        "def save(*_):\n"
        "    time.sleep(0.6)\n"
        "    open('state', 'w').write('saved')\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    folder = site.write_job("1.1-a", script=f"{PYTHON} ../train.py\necho after\n")
    (folder / "train.py").write_text(code)
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        (folder / "kill").write_text('{"grace_s": 20}')
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert (end["signal"], end["reason"]) == (15, "KILLED")
    assert (folder / "work" / "state").read_text() == "saved" and end["wall_s"] < 10


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        (folder / "kill").write_text('{"grace_s": 0.3}')
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert (end["signal"], end["reason"]) == (9, "KILLED")
    assert site.strays("1.1-a") == []


def test_sigterm_from_the_batch_system(site: SiteFolder) -> None:
    site.write_job("1.1-a", "sh", "-c", "echo ready; exec sleep 60")
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        runner.terminate()
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert (end["signal"], end["reason"], runner.returncode) == (15, "KILLED", 143)
    assert "batch system" in end["message"]


def test_sigterm_near_the_time_limit_is_the_time_limit(site: SiteFolder) -> None:
    site.write_job("1.1-a", "sh", "-c", "echo ready; exec sleep 60", time_s=30, grace_s=5)
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        runner.terminate()
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == "TIMEOUT"


def test_the_time_limit_even_of_one_that_ends_well_after_it(site: SiteFolder) -> None:
    script = "trap 'exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done\n"
    end = site.run("1.1-a", script=script, time_s=0.5)
    assert (end["exit_code"], end["reason"]) == (0, "TIMEOUT")
    assert [r["why"] for r in site.reports("1.1-a") if r["kind"] == "ending"] == ["time"]


def test_a_kill_before_the_start(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "touch", "ran")
    (folder / "kill").write_text("{}")
    with site.start("1.1-a") as runner:
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == "KILLED"
    assert not (folder / "work" / "ran").exists()


def test_signals_for_the_command_are_passed_on(site: SiteFolder) -> None:
    script = "trap 'echo got usr1' USR1\necho ready\nwhile [ ! -e stop ]; do sleep 0.05; done\n"
    folder = site.write_job("1.1-a", script=script)
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        runner.send_signal(signal.SIGUSR1)
        site.wait_log("1.1-a", "got usr1")
        (folder / "work" / "stop").touch()
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == ""


def test_more_memory_than_asked_for(site: SiteFolder) -> None:
    code = "import time; x = bytearray(200 << 20); print('full', flush=True); time.sleep(60)"
    end = site.run("1.1-a", PYTHON, "-c", code, mem_bytes=100 << 20)
    assert (end["signal"], end["reason"]) == (9, "OOM")
    assert "100.0 MiB" in end["message"]


def test_shared_pages_count_once(site: SiteFolder) -> None:
    """Forked workers that share their parent's data use no more than it, though the sum of their sets is larger."""
    code = (
        "import os, sys, time\n"
        "x = bytearray(120 << 20)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        x.count(1); print('looked', flush=True); time.sleep(60)\n"
        "for _ in range(1000):\n"
        "    if os.path.exists('stop'): sys.exit(0)\n"
        "    time.sleep(0.05)\n"
    )
    folder = site.write_job("1.1-a", PYTHON, "-c", code, mem_bytes=300 << 20, heartbeat_s=0.3)
    with site.start("1.1-a") as runner:
        wait_for(lambda: site.log("1.1-a").count("looked") == 3, "three workers")
        before = len(site.reports("1.1-a"))
        wait_for(lambda: len(site.reports("1.1-a")) >= before + 2, "two more heartbeats")
        (folder / "work" / "stop").touch()
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert end["reason"] == "" and 120 << 20 < end["peak_mem_bytes"] < 240 << 20


# ---- one attempt runs once, and nothing of it stays


def test_an_attempt_runs_once(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "sh", "-c", "echo ran >> ../ran")
    runners = [site.start("1.1-a") for _ in range(4)]
    codes = []
    for runner in runners:
        with runner:
            codes.append(runner.wait(30))
    assert sorted(codes) == [0, 75, 75, 75]
    assert (folder / "ran").read_text() == "ran\n"
    assert [report["kind"] for report in site.reports("1.1-a")] == ["started", "finished"]


def test_a_job_folder_that_is_not_on_this_node(site: SiteFolder) -> None:
    with site.start("1.1-gone") as runner:
        _, said = runner.communicate(timeout=30)
    assert runner.returncode == 66 and b"shared disk" in said


def test_what_a_command_leaves_running_is_ended(site: SiteFolder) -> None:
    """In its group, in a session of its own, and as an orphan of an orphan."""
    script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; echo done\n"
    end = site.run("1.1-a", script=script)
    assert end["reason"] == ""
    assert site.strays("1.1-a") == []


def test_a_fork_storm_is_ended(site: SiteFolder) -> None:
    code = (
        "import os, time\n"
        "print('storm', flush=True)\n"
        "end = time.time() + 60\n"
        "while time.time() < end:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "    time.sleep(0.3)\n"
    )
    folder = site.write_job("1.1-a", PYTHON, "-c", code)
    with site.start("1.1-a") as runner:
        wait_for(lambda: len(site.strays("1.1-a")) >= 8, "a storm of eight")
        (folder / "kill").write_text('{"grace_s": 0}')
        runner.wait(60)
    assert site.reports("1.1-a")[-1]["reason"] == "KILLED"
    assert site.strays("1.1-a") == []


def test_a_killed_runner_takes_its_command_with_it(site: SiteFolder) -> None:
    site.write_job("1.1-a", "sh", "-c", "setsid sleep 1000 & echo ready; exec sleep 1000")
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        wait_for(lambda: len(site.strays("1.1-a")) == 2, "both processes")
        runner.kill()
        runner.wait(30)
    wait_for(lambda: site.strays("1.1-a") == [], "the end of both")
    assert [report["kind"] for report in site.reports("1.1-a")] == ["started"]


def test_no_guardian_stays(site: SiteFolder) -> None:
    site.write_job("1.1-a", "sh", "-c", "echo ready; while [ ! -e stop ]; do sleep 0.05; done")
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        session = [int(p) for p in os.listdir("/proc") if p.isdigit() and _runs(int(p), str(site.job("1.1-a")))]
        assert len(session) == 2, "the runner and its guardian"
        (site.job("1.1-a") / "work" / "stop").touch()
        runner.wait(30)
    wait_for(lambda: not any(alive(pid) for pid in session), "the end of the guardian")


def _runs(pid: int, folder: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-3:-1] == [b"run", folder.encode()]
    except OSError:
        return False


# ---- inputs and outputs


def test_inputs_by_link_and_by_copy(site: SiteFolder) -> None:
    cache = site.path / "cache"
    cache.mkdir()
    (cache / "d1").write_text("shared")
    (cache / "d2").mkdir()
    (cache / "d2" / "x").write_text("own")
    (cache / "d2" / "x").chmod(0o444)
    (cache / "d1").chmod(0o444)
    inputs = [
        {"path": "data/one", "source": "cache/d1", "mode": "link"},
        {"path": "two", "source": str(cache / "d2"), "mode": "copy"},
    ]
    end = site.run("1.1-a", "sh", "-c", "cat data/one two/x; echo more >> two/x", inputs=inputs)
    assert end["reason"] == "" and site.log("1.1-a") == "sharedown"
    work = site.job("1.1-a") / "work"
    assert (work / "data/one").is_symlink() and not os.path.isabs(os.readlink(work / "data/one"))
    assert (work / "two/x").read_text() == "ownmore\n" and (cache / "d2" / "x").read_text() == "own"


def test_an_input_that_is_missing(site: SiteFolder) -> None:
    end = site.run("1.1-a", "true", inputs=[{"path": "x", "source": "cache/none", "mode": "link"}])
    assert end["reason"] == "STAGE" and "cache/none" in end["message"]


def test_outputs(site: SiteFolder) -> None:
    script = (
        "mkdir -p m/sub; echo a > m/sub/a; echo b > m/b; echo 1 > out-1.txt; echo 2 > out-2.txt; echo z > '[odd].txt'"
    )
    wanted = [{"path": "m"}, {"path": "out-*.txt"}, {"path": "[odd].txt"}, {"path": "none", "optional": True}]
    end = site.run("1.1-a", "sh", "-c", script, outputs=wanted)
    assert end["reason"] == ""
    found = {output["path"]: output for output in end["outputs"]}
    assert sorted(found) == ["[odd].txt", "m", "out-1.txt", "out-2.txt"]
    assert found["out-1.txt"] == {
        "path": "out-1.txt", "size": 2, "kind": "file", "digest": hashlib.sha256(b"1\n").hexdigest(),
    }  # fmt: skip
    digest, length = canonical.digest(str(site.job("1.1-a") / "work" / "m"))
    assert found["m"] == {"path": "m", "size": length, "kind": "folder", "digest": digest}


def test_a_missing_output(site: SiteFolder) -> None:
    end = site.run("1.1-a", "true", outputs=[{"path": "model.pt"}, {"path": "*.csv"}])
    assert (end["exit_code"], end["reason"], end["code"]) == (0, "OUTPUT", 1)
    assert "'model.pt'" in end["message"] and "'*.csv'" in end["message"]


def test_an_output_that_leads_out_of_the_site(site: SiteFolder) -> None:
    end = site.run("1.1-a", "ln", "-s", "/etc/hostname", "leak", outputs=[{"path": "leak"}])
    assert end["reason"] == "OUTPUT" and "outside" in end["message"]


def test_a_kill_while_outputs_are_read(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "truncate", "-s", "200G", "big", outputs=[{"path": "big"}])
    with site.start("1.1-a") as runner:
        site.wait_report("1.1-a", "started")
        wait_for(lambda: not site.strays("1.1-a"), "the end of the command")
        (folder / "kill").write_text("{}")
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == "KILLED"


def test_a_description_that_is_not_whole(site: SiteFolder) -> None:
    folder = site.write_job("1.1-a", "true")
    (folder / "job.json").write_text('{"key": "1.1-a", "comm')
    with site.start("1.1-a") as runner:
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == "SUBMIT"


# ---- under SLURM, whose scontrol is a stand-in here


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("JobId=7 JobState=RUNNING PreemptTime=2031-01-01T00:00:00 Reason=None", "PREEMPTED"),
        ("JobId=7 JobState=PREEMPTED Reason=None", "PREEMPTED"),
        ("JobId=7 JobState=RUNNING PreemptTime=None Reason=None", "KILLED"),
        ("", "KILLED"),
    ],
)
def test_a_preemption_is_told_from_a_kill(site: SiteFolder, tmp_path: Path, said: str, reason: str) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho '{said}'\n")
    scontrol.chmod(0o755)
    site.write_job("1.1-a", "sh", "-c", "echo ready; exec sleep 60")
    env = {"SLURM_JOB_ID": "7", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    with site.start("1.1-a", env) as runner:
        site.wait_log("1.1-a", "ready")
        runner.terminate()
        runner.wait(30)
    assert site.reports("1.1-a")[-1]["reason"] == reason
    assert site.reports("1.1-a")[0]["native_id"] == "7"


def test_a_signal_to_all_processes_is_an_order_even_if_the_command_ends_first(site: SiteFolder) -> None:
    """As scancel does it. The runner is stopped meanwhile, so that it hears of both at once."""
    site.write_job("1.1-a", "sh", "-c", "echo ready; exec sleep 60")
    with site.start("1.1-a") as runner:
        site.wait_log("1.1-a", "ready")
        [command] = site.strays("1.1-a")
        runner.send_signal(signal.SIGSTOP)
        os.kill(command, signal.SIGTERM)
        wait_for(lambda: not alive(command), "the command's end")
        runner.send_signal(signal.SIGTERM)
        runner.send_signal(signal.SIGCONT)
        runner.wait(30)
    end = site.reports("1.1-a")[-1]
    assert (end["signal"], end["reason"]) == (15, "KILLED")
