"""A proxy whose answers are a test's, behind the package's own fake transport."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from isthmus.sites.archive import Archive
from isthmus.sites.launch import MISSING, Launch
from isthmus.testing import FakeProgram, FakeTransport

ARCHIVE = Archive(b"PK the archive", "0123456789ab")
HELLO = {
    "version": "0.1.0",
    "host": "login1",
    "user": "alice",
    "python": "3.6.15",
    "workdir": "/home/alice/.isthmus/1",
    "free_bytes": 10,
    "architecture": "x86_64",
}
Answer = Callable[[FakeProgram, dict[str, Any]], Awaitable[Any]]


class Said(Exception):
    """The proxy says no."""

    def __init__(self, code: str, message: str, transient: bool = False) -> None:
        self.body = {"code": code, "message": message, "hint": "", "transient": transient}


class ScriptedProxy:
    """Runs what the session starts. `answers[verb]` makes the `ok` of a reply, or breaks; `requests` are all seen."""

    def __init__(self, *, installed: bool = True, limit: int = 6) -> None:
        self.installed = installed
        self.installs = 0
        self.starts = 0
        self.start: Callable[[FakeProgram], Awaitable[int | None]] | None = None
        self.answers: dict[str, Answer] = {}
        self.requests: list[dict[str, Any]] = []
        self.programs: Counter[str] = Counter()
        self.noise = b"Welcome to login1\nno newline here "
        self.other: dict[str, Callable[[FakeProgram, str], Awaitable[int]]] = {}
        self.transport = FakeTransport(self.run, limit=limit)
        self.launch = Launch(ARCHIVE, "~/.isthmus/1")

    async def run(self, program: FakeProgram) -> int:
        if "cat > " in program.argv[2]:
            data = await program.read()
            self.installs += 1
            self.installed = data == ARCHIVE.data
            return 0 if self.installed else 1
        if not self.installed:
            return MISSING
        name, token = program.argv[8], program.argv[10]
        self.programs[name] += 1
        if name != "proxy":
            return await self.other[name](program, token)
        self.starts += 1
        if self.start is not None:
            status = await self.start(program)
            if status is not None:
                return status
        program.write(self.noise)
        while line := await program.readline():
            request = json.loads(line)
            self.requests.append(request)
            try:
                if request["verb"] == "hello" and "hello" not in self.answers:
                    reply = {"ok": HELLO}
                else:
                    reply = {"ok": await self.answers[request["verb"]](program, request)}
            except Said as no:
                reply = {"error": no.body}
            program.write(frame(token, {"id": request["id"], **reply}))
        return 0

    def verbs(self) -> list[str]:
        return [request["verb"] for request in self.requests]


def frame(token: str, value: Any) -> bytes:
    return f"{token}{json.dumps(value)}{token}\n".encode()


def always(value: Any) -> Answer:
    async def answer(program: FakeProgram, request: dict[str, Any]) -> Any:
        return value

    return answer
