"""Runs: functions that an agent was asked to run, each by a driver process with a graph of its own."""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from isthmus.domain.errors import Conflict, Forbidden, NotFound, nearest

_KEPT = 1000  # ended runs that can still be asked about
_LOG = 64 * 1024


@dataclass(eq=False)
class Run:
    """One run of a function."""

    id: str
    function: str
    state: str = "RUNNING"  # then COMPLETED, FAILED or CANCELLED
    result: Any = None
    error: str = ""
    begun: float = field(default_factory=time.time)
    ended: float = 0.0
    log: bytes = b""
    process: Any = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def facts(self) -> dict[str, Any]:
        """What is said of it."""
        return {
            "id": self.id,
            "function": self.function,
            "state": self.state,
            "result": self.result,
            "error": self.error,
            "seconds": round((self.ended or time.time()) - self.begun, 3),
            "log": self.log.decode(errors="replace"),
        }


class Runs:
    """Starts them and keeps what they left. `modules`: those whose functions may be asked for."""

    def __init__(self, modules: list[str], environment: dict[str, str]) -> None:
        self.modules = modules
        self.environment = environment  # how a driver reaches its agent
        self._runs: dict[str, Run] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(run.state == "RUNNING" for run in self._runs.values())

    def all(self) -> list[Run]:
        """The runs, newest first."""
        return list(reversed(self._runs.values()))

    def get(self, id: str) -> Run:
        """The run. Raises NotFound."""
        if id not in self._runs:
            raise NotFound(f"There is no run {id!r}.", hint=nearest(id, self._runs))
        return self._runs[id]

    async def start(self, function: str, args: list[Any], kwargs: dict[str, Any]) -> Run:
        """Start ``module:name``. Raises Forbidden where the module is not served."""
        module, separator, name = function.partition(":")
        if not separator or module not in self.modules or not name or name.startswith("_"):
            raise Forbidden(
                f"{function!r} is not served here.",
                place="function",
                hint=f"It is module:name, of: {', '.join(self.modules) or 'none (isthmus agent serve MODULE)'}.",
            )
        run = Run(secrets.token_hex(6), function)
        read, write = os.pipe()
        try:
            run.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "isthmus.agents.driver",
                str(write),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write,),
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self._runs[run.id] = run
        while len(self._runs) > _KEPT:
            oldest = next((one for one in self._runs.values() if one.state != "RUNNING"), None)
            if oldest is None:
                break
            del self._runs[oldest.id]
        request = json.dumps({"function": function, "args": args, "kwargs": kwargs}).encode()
        job = asyncio.create_task(self._follow(run, request, read))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return run

    def cancel(self, id: str) -> None:
        """End the run. Raises Conflict where it has ended."""
        run = self.get(id)
        if run.state != "RUNNING":
            raise Conflict(f"The run {id} is {run.state}.")
        run.state = "CANCELLED"
        _end(run)

    async def close(self) -> None:
        """End those that run."""
        for run in self._runs.values():
            if run.state == "RUNNING":
                run.state = "CANCELLED"
                _end(run)
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _follow(self, run: Run, request: bytes, read: int) -> None:
        with suppress(ConnectionError):
            run.process.stdin.write(request)
            run.process.stdin.close()
        answer = asyncio.create_task(asyncio.to_thread(_read_all, read))
        while piece := await run.process.stdout.read(8192):
            run.log = (run.log + piece)[-_LOG:]
        code = await run.process.wait()
        said = await answer
        run.ended = time.time()
        if run.state == "RUNNING":
            if said:
                found = json.loads(said)
                run.state, run.result, run.error = found["state"], found["result"], found["error"]
            else:
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                run.state, run.error = "FAILED", f"Its driver ended {how}."
        run.over.set()


def _end(run: Run) -> None:
    with suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGKILL)


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()
