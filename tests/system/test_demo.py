"""`make demo`, as a person and as a script run it: whole, in a terminal; interrupted on the way; and again."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.forecast.server import Server
from tests.testbed.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "examples.forecast.demo"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY),
    "ISTHMUS_URL": "http://127.0.0.1:9",
    "TERM": "xterm-256color",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that stays for all runs here; what still runs on it is stopped at the end."""
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    Server(folder / "demo-data").stop()


def at_work(folder: Path, word: str = "") -> list[str]:
    """The command lines of processes that work in the folder or on it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
            if (str(folder) in line or process.joinpath("cwd").readlink().is_relative_to(folder)) and word in line:
                found.append(line)
    return found


def test_an_interrupt_leaves_nothing_running(folder: Path) -> None:
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            COMMAND, cwd=folder, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_for(
                lambda: process.poll() is not None or re.search(r"RUNNING [1-9]", (folder / "out").read_text()),
                "the first job to report its progress",
                deadline_s=90,
            )
            assert process.poll() is None, (folder / "out").read_text()
            assert at_work(folder, "examples.forecast.train")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    told = (folder / "out").read_text()
    assert "Nothing is left running" in told
    assert "Traceback" not in told
    assert Server(folder / "demo-data").pid() is None
    wait_for(lambda: not at_work(folder), "the last process to be gone", story=lambda: str(at_work(folder)))


def in_a_terminal(folder: Path) -> tuple[int, str]:
    """Run the demo as a person does: its exit code, and what it wrote to the terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        COMMAND, cwd=folder, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # EIO: the other end was closed
        while piece := os.read(ours, 1 << 16):
            written += piece
    os.close(ours)
    return process.wait(30), written.decode()


def test_the_whole_of_it_on_what_the_interrupted_run_left(folder: Path) -> None:
    code, told = in_a_terminal(folder)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", told)
    assert code == 0, plain
    assert any("\u2800" < char <= "\u28ff" for char in told), "no chart was drawn"
    for words in (
        "5,031 trading days, 1999-01-04 to 2018-12-31",
        "Volatility can be forecast.",
        "The winner made",
        "Returns are another matter",
        "Mind the limits",
        "isthmus job ps",
        "--stop",
    ):
        assert words in plain

    # The server goes on, and the words that were printed find it.
    data = folder / "demo-data"
    assert "  . demo-data/env" in plain
    listed = subprocess.run(
        ["sh", "-c", ". demo-data/env; isthmus job ps -a -o json"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    states = [job["state"] for job in json.loads(listed.stdout)]
    assert states.count("COMPLETED") == 9
    # The interrupted run's job was killed by us, and is told as that.
    assert states.count("KILLED") == 1
    results = sorted(data.glob("results/*/metrics.json"))
    assert len(results) == 9

    stopped = subprocess.run(
        [*COMMAND, "--stop"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert stopped.stdout == "Stopped.\n"
    assert Server(data).pid() is None
    wait_for(lambda: not at_work(folder), "the last process to be gone", story=lambda: str(at_work(folder)))
