"""The command line against a real server: what it prints, what it exits with, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.cli.main import main
from isthmus.client import config
from isthmus.client.config import Config
from tests.testbed.control import ControlPlane
from tests.testbed.waiting import wait_for

HINT = " " * 9  # hints stand below the line that says what is wrong
ISTHMUS = str(Path(sys.executable).with_name("isthmus"))


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


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


def test_a_wrong_line_of_a_job_s_file(isthmus: Isthmus, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("command: [a]\nresources:\n  gpu: 1\n")
    done = isthmus("run", "-f", "job.yaml")
    assert done.code == 2
    assert done.err == (
        "isthmus: job.yaml:3: resources.gpu: There is no field 'gpu' here.\n         Did you mean 'gpus'?\n"
    )


def test_a_wrong_token(isthmus: Isthmus, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_TOKEN", "ist_" + "x" * 43)
    done = isthmus("job", "ps")
    assert done.code == 4
    assert done.err.startswith("isthmus: ")
    monkeypatch.setenv("ISTHMUS_TOKEN", "")


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
