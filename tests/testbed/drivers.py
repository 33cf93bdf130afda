"""Drivers of workflows as processes that can be killed at any moment, and are there again in the next.

A process that has imported everything forks them: fifty starts of an interpreter would cost far more.
Run as a program, it is that process: it reads {"words", "cwd", "env", "log"} or {"wait": pid}, a JSON line each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]


def workflow(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`isthmus workflow WORDS…` in a folder, which has its data too."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("isthmus"), "workflow", *words],
        cwd=folder,
        env={**os.environ, "ISTHMUS_DATA": str(folder / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Drivers:
    """Starts `isthmus WORDS…` in a folder, again and again. A context manager: at its end the last one is killed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.log = folder / "driver.log"
        self.pid = 0
        self._folder, self._env = folder, env
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Drivers:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.testbed.drivers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server is not None
        if self.pid:
            self.kill()
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)

    def start(self, *words: str) -> None:
        """Start one; it has a process group of its own."""
        order = {"words": words, "cwd": str(self._folder), "env": self._env, "log": str(self.log)}
        self.pid = self._ask(order)

    def ended(self) -> bool:
        """Whether it is a zombie or gone, which `wait` then tells more of."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    def wait(self) -> int:
        """Its exit code, when it has ended; minus the signal that ended it."""
        code = os.waitstatus_to_exitcode(self._ask({"wait": self.pid}))
        self.pid = 0
        return code

    def kill(self) -> int:
        """SIGKILL; its exit code, which is another where it had come to its end."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def _ask(self, order: dict[str, object]) -> int:
        assert self._server is not None and self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def main() -> None:
    from isthmus.cli import workflows  # noqa: F401 - imported once, for every fork
    from isthmus.cli.main import main as command
    from isthmus.workflows import running  # noqa: F401
    from isthmus.workflows.cwl import opening, results  # noqa: F401
    from isthmus.workflows.driver import remembering  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitpid(order["wait"], 0)[1]
        else:
            answer = os.fork()
            if answer == 0:
                os.setsid()
                log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                nothing = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((nothing, 0), (log, 1), (log, 2)):
                    os.dup2(source, target)
                os.chdir(order["cwd"])
                os.environ.clear()
                os.environ.update(order["env"])
                sys.argv = ["isthmus", *order["words"]]
                code: object = 1
                try:
                    code = command()
                except SystemExit as end:
                    code = end.code
                finally:
                    sys.stdout.flush()
                    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
