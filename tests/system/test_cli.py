"""The command line against a real server: what it prints, what it exits with, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from isthmus.cli.main import main
from isthmus.client import config
from isthmus.client.config import Config
from tests.testbed.control import ControlPlane
from tests.testbed.ssh import SshServer
from tests.testbed.terminal import Result
from tests.testbed.waiting import wait_for

ISTHMUS = str(Path(sys.executable).with_name("isthmus"))


Isthmus = Callable[..., Result]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("cli")) as opened:
        yield opened


@pytest.fixture
def environment(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of a person who is logged in to the server."""
    for name in [name for name in os.environ if name.startswith("ISTHMUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ISTHMUS_CONFIG", str(tmp_path / "config"))
    config.save(Config(url=plane.url, token=plane.token))
    monkeypatch.chdir(tmp_path)
    return dict(os.environ)


@pytest.fixture
def isthmus(environment: dict[str, str], capfd: pytest.CaptureFixture[str]) -> Isthmus:
    """Runs a command in this process: its exit code and what it printed."""

    def run(*words: object) -> Result:
        capfd.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run


# ---- run


def test_run_shows_the_output_and_exits_with_the_code(isthmus: Isthmus) -> None:
    done = isthmus("run", "--", "sh", "-c", "echo hello; echo there >&2; exit 3")
    assert (done.code, done.out) == (3, "hello\nthere\n")
    assert done.err.splitlines()[-1].endswith("FAILED: The command ended with exit code 3. It said last: there")


def test_run_takes_the_command_s_own_options(isthmus: Isthmus) -> None:
    assert isthmus("run", "--cpus", "1", "echo", "--name", "x").out == "--name x\n"


def test_run_detached_prints_the_id_alone(isthmus: Isthmus) -> None:
    done = isthmus("run", "-d", "-J", "quick", "true")
    job = int(done.out)
    assert isthmus("job", "wait", job).code == 0
    assert isthmus("job", "show", job, "-o", "json").data["name"] == "quick"
    assert [each["name"] for each in isthmus("run", "-d", "-o", "json", "-J", "data", "true").data] == ["data"]


def test_run_waits_quietly(isthmus: Isthmus) -> None:
    done = isthmus("run", "--wait", "echo", "hello")
    assert (done.code, done.out) == (0, "")


@pytest.mark.parametrize(
    ("command", "code"),
    [("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255), ("true", 0)],
)
def test_exit_codes(isthmus: Isthmus, command: str, code: int) -> None:
    assert isthmus("run", "sh", "-c", command).code == code


def test_a_time_limit(isthmus: Isthmus) -> None:
    done = isthmus("run", "--time", "1s", "sleep", "60")
    assert done.code == 124
    assert "FAILED: It ran longer than its time limit." in done.err


def test_run_with_everything(
    isthmus: Isthmus, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "own")
    (tmp_path / "prices.csv").write_text("1\n")
    assert isthmus("dataset", "add", "csv@7", tmp_path / "prices.csv", "--label", "a=b").code == 0
    words = [ISTHMUS, "secret", "set", "key"]
    secret = subprocess.run(words, input="s3cret\n", env=environment, text=True, capture_output=True)
    assert secret.returncode == 0, secret.stderr
    done = isthmus(
        "run", "-c", "1", "--mem", "64MiB", "-t", "5m", "-e", "A=1", "-e", "MINE", "--secret", "KEY=key",
        "-i", "in.csv=csv@7", "-O", "out.txt=made", "--label", "team=x", "--priority", "3", "--retry", "2:OOM",
        "--on", "local", "--checkpoint", "--deadline", "1h", "-J", "all of it",
        "sh", "-c", "cat in.csv; echo $A $MINE ${#KEY}; echo made > out.txt",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "1\n1 own 6\n"), done.err
    job = isthmus("job", "ps", "-a", "--label", "team=x", "-o", "json").data[0]["id"]
    spec = isthmus("job", "show", job, "-o", "json").data["spec"]
    assert spec["resources"]["mem"] == 64 << 20
    assert spec["retry"]["on"] == ["OOM"]
    assert isthmus("dataset", "show", "made", "-o", "json").data["name"] == "made"
    got = isthmus("cp", f"{job}:out.txt", tmp_path / "here.txt")
    assert (got.code, (tmp_path / "here.txt").read_text()) == (0, "made\n")


def test_a_job_s_file_and_options_over_it(isthmus: Isthmus, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("command: [sh, -c, 'echo $A $B']\nenv: {A: file, B: file}\nresources: {cpus: 1}\n")
    assert isthmus("run", "-f", file, "-e", "B=option").out == "file option\n"
    assert isthmus("run", "-f", file, "echo", "instead").out == "instead\n"


def test_a_script(isthmus: Isthmus, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("#!/usr/bin/env python3\nprint(6 * 7)\n")
    assert isthmus("run", "--script", tmp_path / "work.py").out == "42\n"


def test_an_array(isthmus: Isthmus, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("- {lr: 0.1}\n- {lr: 0.2}\n")
    done = isthmus("run", "--array", tmp_path / "sweep.yaml", "-J", "sweep", "sh", "-c", '[ "$lr" = 0.1 ] || exit 4')
    assert done.code == 4
    assert "sweep[0]: COMPLETED" in done.err
    assert "sweep[1]: FAILED: The command ended with exit code 4." in done.err
    first = isthmus("job", "ps", "-a", "--name", "sweep[0]", "-o", "json").data[0]["id"]
    found = isthmus("job", "ps", "--array", first, "-o", "json").data
    assert [job["name"] for job in found] == ["sweep[1]", "sweep[0]"]
    assert isthmus("run", "--array", "2", "--wait", "true").code == 0


def test_a_dry_run_explains(isthmus: Isthmus) -> None:
    done = isthmus("run", "--dry-run", "--cpus", "4096", "true")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["SITE", "FITS", "NOW", "QUEUE", "NODES", "WAIT", "COST", "WHY"]
    assert "it needs 4096 cores on a node" in done.out


def test_an_interrupt_leaves_the_job_and_a_second_ends_it(environment: dict[str, str], isthmus: Isthmus) -> None:
    words = [ISTHMUS, "run", "-J", "to-be-interrupted", "sh", "-c", "echo running; exec sleep 600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"running\n"
        running.send_signal(signal.SIGINT)
        assert running.stderr.readline() == b"\n"
        assert b"will go on. Interrupt again to end it." in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 143, err
    found = isthmus("job", "ps", "-a", "--name", "to-be-interrupted", "-o", "json").data
    assert [job["state"] for job in found] == ["KILLED"]


# ---- jobs


def test_logs_follow_and_kill(environment: dict[str, str], isthmus: Isthmus) -> None:
    job = int(isthmus("run", "-d", "sh", "-c", "echo one; exec sleep 600").out)
    with subprocess.Popen(
        [ISTHMUS, "job", "logs", "-f", str(job)], stdout=subprocess.PIPE, env=environment
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"one\n"
        assert isthmus("job", "kill", job).code == 0
        assert following.wait(60) == 0
    assert isthmus("job", "wait", job).code == 143
    assert isthmus("job", "logs", job).out == "one\n"
    assert isthmus("job", "logs", "--tail", "3", job).out == "ne\n"
    assert isthmus("job", "retry", job).err == f"job {job}: QUEUED\n"
    assert isthmus("job", "kill", job, "-o", "json").data[0]["id"] == job


def test_tables_are_plain_where_no_terminal_is(isthmus: Isthmus) -> None:
    job = int(isthmus("run", "-d", "-J", "listed", "true").out)
    isthmus("job", "wait", job)
    lines = isthmus("job", "ps", "-a", "--name", "listed").out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "USER", "STATE", "SITE", "TIME", "SUBMITTED", "WHY"]
    assert lines[1].split()[:5] == [str(job), "listed", "admin", "COMPLETED", "local"]
    shown = isthmus("job", "show", job).out
    assert "COMPLETED: Exit code 0 and every declared output verified." in shown
    assert "ATTEMPT" in shown
    assert yaml.safe_load(isthmus("job", "ps", "-a", "--name", "listed", "-o", "yaml").out)[0]["id"] == job


def test_explain_priority_metrics_outputs(isthmus: Isthmus) -> None:
    job = int(isthmus("run", "-d", "--wait-for-site", "--gpus", "64", "true").out)
    assert "it needs 64 GPUs" in isthmus("job", "explain", job).out
    assert isthmus("job", "explain", job, "-o", "json").data["sites"][0]["fits"] is False
    assert isthmus("job", "priority", job, "--set", "7").err == f"job {job}: priority 7\n"
    assert isthmus("job", "wait", job, "--timeout", "1s").code == 124
    isthmus("job", "kill", job)
    job = int(isthmus("run", "-d", "echo", "isthmus: loss=0.5 step=1").out)
    isthmus("job", "wait", job)
    assert isthmus("job", "metrics", job).out.splitlines()[1].split() == ["loss", "1", "0.5", "1", "0.5", "0.5"]
    assert isthmus("job", "outputs", job).err == "It left no outputs.\n"


# ---- the other nouns


def test_sites(isthmus: Isthmus) -> None:
    assert isthmus("site", "ls", "-o", "json").data[0]["name"] == "local"
    shown = isthmus("site", "show", "local").out
    assert "nodes reach API" in shown
    assert "QUEUE" in shown
    assert isthmus("site", "test", "local").code == 0
    assert isthmus("site", "drain", "local").err == "local takes no new jobs; 0 are still there.\n"
    assert isthmus("site", "resume", "local").err == "local takes jobs again.\n"
    assert isthmus("site", "add", "second", "local:").code == 0
    assert isthmus("site", "remove", "second").err == "second is removed.\n"


def test_users_tokens_secrets_events(isthmus: Isthmus) -> None:
    made = isthmus("user", "add", "grace", "--role", "viewer")
    assert made.out.startswith("ist_")
    assert "grace" in isthmus("user", "ls").out
    assert isthmus("user", "set", "grace", "--disable").err == "grace is viewer, disabled.\n"
    token = isthmus("token", "add", "ci", "--scope", "jobs", "--expires", "30d")
    assert token.out.startswith("ist_")
    listed = isthmus("token", "ls", "-o", "json").data
    (ci,) = [each for each in listed if each["name"] == "ci"]
    assert ci["scopes"] == ["jobs"]
    assert isthmus("token", "revoke", ci["id"]).code == 0
    assert isthmus("secret", "ls", "-o", "json").code == 0
    assert isthmus("event", "ls", "--noun", "user", "-o", "json").data[-1]["noun_id"] == "grace"
    assert "grace" in isthmus("event", "ls", "--noun", "user").out


def test_the_overview_and_the_doctor(isthmus: Isthmus) -> None:
    job = int(isthmus("run", "-d", "--name", "in the overview", "sh", "-c", "exit 3").out)
    assert isthmus("job", "wait", job).code == 3
    found = isthmus("overview", "--mine", "-o", "json").data
    assert job in [one["id"] for one in found["failed"]]
    assert found["ended"]["FAILED"] >= 1
    shown = isthmus("overview").out
    assert "NEEDS YOU" in shown
    assert "in the overview" in shown
    assert isthmus("overview", "--user", "nobody", "-o", "json").data["failed"] == []
    looked = {one["what"]: one for one in isthmus("doctor", "-o", "json").data}
    assert {"configuration", "token", "database", "supervisor", "store", "disk", "site local"} <= set(looked)
    assert looked["database"]["result"] == "ok"


def test_datasets_and_images(isthmus: Isthmus, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "x").write_text("x")
    assert "sha256:" in isthmus("dataset", "add", "folder-set", folder, "--description", "A set.").out
    assert isthmus("dataset", "ls", "folder-set").out.splitlines()[1].split()[:2] == ["folder-set", "1"]
    assert "(this server)" in isthmus("dataset", "replicas", "folder-set").out
    assert isthmus("dataset", "get", "folder-set", tmp_path / "copy").code == 0
    assert (tmp_path / "copy" / "x").read_text() == "x"
    assert isthmus("cp", folder, "dataset:by-cp@9").out == "dataset:by-cp@9\n"
    assert isthmus("cp", "dataset:by-cp", tmp_path / "again").code == 0
    assert isthmus("dataset", "rm", "by-cp@9").code == 0
    assert isthmus("dataset", "gc", "--dry-run").code == 0
    assert isthmus("image", "ls").code == 0


# ---- what is wrong is told in a line, with what to do


@pytest.mark.parametrize(
    ("words", "code", "said", "hint"),
    [
        ("run --on lokal true", 2, "sites[0]: There is no site 'lokal'.", "Did you mean 'local'?"),
        ("run --image nothing-here true", 3, "image: There is no image 'nothing-here'.", None),
        ("run -i x=nothing true", 3, "inputs[0].dataset: There is no dataset 'nothing'.", None),
        ("run -e 1A=x true", 2, "env.1A: '1A' is not a name of an environment variable.", None),
        ("run --mem lots true", 2, "resources.mem: 'lots' is not a size.", "Write it like 512MiB or 4G."),
        ("run --launcher srn true", 2, "launcher: 'srn' is not one of the choices.", "Did you mean 'srun'?"),
        ("run --gpus two true", 2, "--gpus: 'two' is not a whole number.", None),
        ("run --secret KEY true", 2, "--secret: 'KEY' is not NAME=VALUE.", None),
        ("run --secret KEY=nothing true", 2, "secrets.KEY: You have no secret 'nothing'.", None),
        ("run -O ../x true", 2, "outputs[0].path: '../x' is not a path within the work folder.", None),
        ("run --retry 2:OMM true", 2, "retry.on[0]: 'OMM' is not one of the choices.", "Did you mean 'OOM'?"),
        ("run -f nothing.yaml", 2, "nothing.yaml: There is no such file.", None),
        ("run --script nothing.sh", 2, "--script: There is no file nothing.sh.", None),
        ("run --after 999999 true", 3, None, None),
        ("job show 999999", 3, "job: There is no job 999999.", None),
        ("job ps --state RUNING", 2, "query.state: 'RUNING' is not a state of jobs.", "Did you mean 'RUNNING'?"),
        ("site show lokal", 3, "site: There is no site 'lokal'.", "Did you mean 'local'?"),
        ("site add x slrum+ssh://h", 2, "URL: 'slrum+ssh' is not a kind of site.", "Did you mean 'slurm+ssh'?"),
        ("site add local local:", 1, "name: There is a site 'local' already.", None),
        ("site add far ssh://127.0.0.1:1", 1, None, None),
        ("dataset add x nothing", 2, "path: There is no nothing here.", None),
        ("dataset add x", 2, "PATH: Give one of: a path here, --reference, --server-path.", None),
        ("dataset show nothing", 3, "dataset: There is no dataset 'nothing'.", None),
        ("cp 7x y", 2, "SOURCE: Neither is a job's output, a dataset or an image.", None),
        ("token revoke 999999", 3, None, None),
        ("user set admin --disable", 1, None, None),
    ],
)
def test_what_is_wrong(isthmus: Isthmus, words: str, code: int, said: str | None, hint: str | None) -> None:
    done = isthmus(*words.split())
    assert done.code == code, done.err
    first, *more = done.err.splitlines()
    assert first.startswith("isthmus: ")
    assert "Traceback" not in done.err
    assert said is None or first == f"isthmus: {said}"
    assert hint is None or more == [f"         {hint}"]


def test_more_cores_than_any_site_has(isthmus: Isthmus) -> None:
    done = isthmus("run", "--cpus", "64000", "true")
    assert done.code == 2
    said = "isthmus: resources.cpus: No site can run it. local: it needs 64000 cores on a node, there are "
    assert done.err.startswith(said)


def test_a_wrong_line_of_a_job_s_file(isthmus: Isthmus, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: [a]\nresources:\n  gpuss: 1\n")
    done = isthmus("run", "-f", "job.yaml")
    assert done.code == 2
    assert done.err == (
        "isthmus: job.yaml:3: resources.gpuss: There is no field 'gpuss' here.\n         Did you mean 'gpus'?\n"
    )


def test_a_wrong_token(isthmus: Isthmus, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_TOKEN", "ist_" + "x" * 43)
    done = isthmus("job", "ps")
    assert done.code == 4
    assert done.err == (
        "isthmus: The access token is unknown here.\n"
        "         Get another one from an admin, or make one with `isthmus token add`, then `isthmus login`.\n"
    )


def test_no_server(isthmus: Isthmus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_URL", "http://127.0.0.1:1")
    done = isthmus("job", "ps")
    assert done.code == 5
    assert done.err == (
        "isthmus: No server answers at http://127.0.0.1:1 (from ISTHMUS_URL).\n"
        "         Start it with `isthmus up`, or name another with `isthmus login URL`.\n"
    )


def test_debug_shows_where(environment: dict[str, str]) -> None:
    env = {**environment, "ISTHMUS_DEBUG": "1"}
    done = subprocess.run([ISTHMUS, "job", "show", "999999"], env=env, capture_output=True, text=True)
    assert "Traceback" in done.stderr


def test_a_reader_that_leaves_is_no_fault(environment: dict[str, str], isthmus: Isthmus) -> None:
    job = int(isthmus("run", "-d", "seq", "200000").out)
    assert isthmus("job", "wait", job).code == 0
    done = subprocess.run(
        f"{ISTHMUS} job logs {job} | head -n 1", shell=True, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


# ---- up, login, doctor


def test_up_login_doctor(environment: dict[str, str], tmp_path: Path) -> None:
    env = {**environment, "ISTHMUS_CONFIG": str(tmp_path / "fresh"), "ISTHMUS_DATA": str(tmp_path / "fresh-data")}
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen(
            [ISTHMUS, "up", "--listen", "127.0.0.1:0", "--tls", "self-signed"], env=env, stdout=out, stderr=out
        )
    try:
        wait_for(lambda: "Elsewhere:" in log.read_text(), "the server to listen", story=log.read_text, deadline_s=60)
        said = dict(
            line.split(":", 1) if ":" in line and "https" not in line else ("url", line.rpartition(" ")[2])
            for line in log.read_text().splitlines()
            if line.startswith(("Isthmus is up", "Certificate:", "Access token:", "Data:"))
        )
        assert said["url"].startswith("https://127.0.0.1:")
        assert said["Data"].strip() == str(tmp_path / "fresh-data")
        doctor = subprocess.run([ISTHMUS, "doctor"], env=env, capture_output=True, text=True)
        assert doctor.returncode == 0, doctor.stdout
        assert "site local" in doctor.stdout
        env["ISTHMUS_CONFIG"] = str(tmp_path / "elsewhere")
        token, shown = said["Access token"].strip(), said["Certificate"].strip()
        login = [ISTHMUS, "login", said["url"]]
        plain = subprocess.run(login, env=env, input=token, capture_output=True, text=True)
        assert plain.returncode == 4
        assert f"--fingerprint {shown}" in plain.stderr
        wrong = subprocess.run(
            [*login, "--fingerprint", "SHA256:" + "00" * 32], env=env, input=token, capture_output=True, text=True
        )
        assert wrong.returncode == 4
        assert "shows another certificate" in wrong.stderr
        right = subprocess.run([*login, "--fingerprint", shown], env=env, input=token, capture_output=True, text=True)
        assert right.returncode == 0, right.stderr
        assert right.stderr.startswith("You are admin (admin) at https://")
        assert (tmp_path / "elsewhere" / "config.toml").stat().st_mode & 0o777 == 0o600
        run = subprocess.run([ISTHMUS, "run", "echo", "secure"], env=env, capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (0, "secure\n")
        second = subprocess.run([ISTHMUS, "up"], env=env, capture_output=True, text=True)
        assert second.returncode == 1
        assert "A control plane runs on" in second.stderr
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    down = subprocess.run([ISTHMUS, "doctor"], env=env, capture_output=True, text=True)
    assert down.returncode == 1
    assert "FAIL  server" in down.stdout


def test_up_says_what_is_wrong(environment: dict[str, str], tmp_path: Path, plane: ControlPlane) -> None:
    port = plane.url.rpartition(":")[2]
    for words, code, said in (
        (["--listen", "nowhere"], 2, "isthmus: --listen: 'nowhere' is not an address to listen on."),
        (["--listen", f"127.0.0.1:{port}"], 5, f"isthmus: It can't listen on 127.0.0.1:{port}: "),
        (["--database", "mysql://x"], 2, "isthmus: database: 'mysql' is not a database that Isthmus knows."),
        (["--tls", "self"], 2, "isthmus: --tls: 'self' is no way to TLS."),
        (["--tls-cert", str(tmp_path / "no.pem"), "--listen", "127.0.0.1:0"], 2, "isthmus: tls-cert: "),
    ):
        done = subprocess.run(
            [ISTHMUS, "up", "--data", str(tmp_path / "wrong"), *words],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr.startswith(said)) == (code, True), done.stderr


# ---- adding a site over SSH


def test_a_site_over_ssh_is_added_step_by_step(isthmus: Isthmus, ssh_server: SshServer) -> None:
    where = f"ssh://{ssh_server.user.name}@127.0.0.1:{ssh_server.port}"
    first = isthmus("site", "add", "box", where)
    assert first.code == 1
    assert first.err.startswith("isthmus: reach.hops: The host keys are not known yet: 127.0.0.1:")
    assert "SHA256:" in first.err
    assert first.err.splitlines()[1].strip().endswith("--trust-host-keys.")
    second = isthmus("site", "add", "box", where, "--trust-host-keys")
    assert second.code == 1
    assert "Put this line into ~/.ssh/authorized_keys there, then add the site again: ssh-ed25519 " in second.err
    key = second.err[second.err.index("ssh-ed25519") :].strip()
    authorized = ssh_server.authorized_keys(ssh_server.user)
    authorized.write_text(authorized.read_text() + key + "\n")
    third = isthmus("site", "add", "box", where, "--trust-host-keys")
    assert third.code == 0, third.err
    assert f"{ssh_server.user.name}@127.0.0.1:{ssh_server.port}" in third.out
    ran = isthmus("run", "--on", "box", "whoami")
    assert (ran.code, ran.out) == (0, f"{ssh_server.user.name}\n"), ran.err
    assert isthmus("site", "key", "box").out.split()[1] == key.split()[1]
    # What is said of it changes in place: its pinned host keys stay, and no machine comes in without one.
    spec = isthmus("site", "show", "box", "-o", "json").data["spec"]
    hops = [{name: value for name, value in hop.items() if name != "host_key"} for hop in spec["reach"]["hops"]]
    said = {"kind": "ssh", "labels": {"location": "DE"}, "reach": {**spec["reach"], "hops": hops}}
    Path("box.yaml").write_text(json.dumps({**said, "workdir": spec["workdir"]}))
    changed = isthmus("site", "update", "box", "box.yaml", "-o", "json")
    assert changed.code == 0, changed.err
    assert changed.data["spec"]["labels"] == {"location": "DE"}
    assert changed.data["spec"]["reach"] == spec["reach"]
    ran = isthmus("run", "--on", "box", "whoami")
    assert (ran.code, ran.out) == (0, f"{ssh_server.user.name}\n"), ran.err
    Path("other.yaml").write_text(json.dumps({**said, "reach": {"hops": [{"host": "127.0.0.2"}]}}))
    refused = isthmus("site", "update", "box", "other.yaml")
    assert refused.code != 0 and "reach.hops[0].host_key: The host key of 127.0.0.2:22 is not known." in refused.err
    assert isthmus("site", "remove", "box").code == 0


def test_on_a_terminal_it_asks(environment: dict[str, str], ssh_server: SshServer) -> None:
    where = f"ssh://{ssh_server.user.name}@127.0.0.1:{ssh_server.port}"
    with Terminal([ISTHMUS, "site", "add", "asked", where], environment) as terminal:
        assert "SHA256:" in terminal.until("Are these the site's own keys?")
        terminal.type("y\n")
        said = terminal.until("Is it there now?")
        key = said[said.index("ssh-ed25519") :].split("\r")[0]
        authorized = ssh_server.authorized_keys(ssh_server.user)
        authorized.write_text(authorized.read_text() + key + "\n")
        terminal.type("y\n")
        assert "asked (ssh)" in terminal.rest()
        assert terminal.code() == 0
    with Terminal([ISTHMUS, "job", "ps", "-a"], environment) as terminal:
        assert "COMPLETED" in terminal.rest()
        assert terminal.code() == 0


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._pid, self._screen = pty.fork()
        if self._pid == 0:
            os.execve(words[0], words, {**environment, "TERM": "xterm", "COLUMNS": "200"})
        self._seen = ""
        self._code: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._screen)

    def until(self, text: str) -> str:
        """What it says up to this text."""
        while text not in self._seen:
            self._seen += self._read() or pytest.fail(f"it ended before {text!r}: {self._seen}")
        before, found, self._seen = self._seen.partition(text)
        return before + found

    def rest(self) -> str:
        """What it says until it ends."""
        while more := self._read():
            self._seen += more
        return self._seen

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def code(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _read(self) -> str:
        try:
            return os.read(self._screen, 65536).decode(errors="replace")
        except OSError:  # how Linux tells the end of a terminal
            return ""
