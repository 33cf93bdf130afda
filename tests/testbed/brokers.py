"""Servers that carry or keep what tasks share: NATS with JetStream, and Redis."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from tests.testbed.errors import MissingProgram
from tests.testbed.ports import answers, free_port
from tests.testbed.waiting import wait_for


class _Server:
    """A context manager around one process; its data lies in `folder`."""

    program = ""
    scheme = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self):  # type: ignore[no-untyped-def]
        if shutil.which(self.program) is None:
            raise MissingProgram(f"{self.program} is not installed: run scripts/install-system-packages")
        self.port = free_port()
        self._process = subprocess.Popen(
            [self.program, *self.command()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda: answers("127.0.0.1", self.port), f"{self.program} to answer", deadline_s=60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class NatsServer(_Server):
    program, scheme = "nats-server", "nats"

    def command(self) -> list[str]:
        return ["-js", "-sd", str(self.folder), "-a", "127.0.0.1", "-p", str(self.port)]


class RedisServer(_Server):
    program, scheme = "redis-server", "redis"

    def command(self) -> list[str]:
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
