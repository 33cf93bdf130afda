"""The archive's programs as a test drives them: proxies over pipes, attempts started as a batch system would."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.runner import command
from isthmus.runner.folder import Folder
from isthmus.runner.keeperfiles import socket_path
from isthmus.sites.archive import archive
from tests.testbed.waiting import wait_for

TOKEN = "frame-4f1d"
OLDEST = (3, 6)


def interpreters() -> dict[str, Path]:
    """Every Python 3.6 or newer on this machine, by version, oldest first; each is asked what it is."""
    places = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    places += [Path("/usr/bin"), Path("/usr/local/bin"), *sorted(Path.home().glob(".pyenv/versions/*/bin"))]
    found: dict[tuple[int, int], Path] = {}
    for place in places:
        for path in place.glob("python3*") if place.is_dir() and "shims" not in place.parts else ():
            if not re.fullmatch(r"python3(\.\d+)?", path.name):
                continue
            asked = [str(path), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
            told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
            if len(told) == 2 and (int(told[0]), int(told[1])) >= OLDEST:
                found.setdefault((int(told[0]), int(told[1])), path)
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


class Refusal(Exception):
    """The proxy answered a request with an error."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(f"{said['code']}: {said['message']}")
        self.code = said["code"]
        self.message = said["message"]
        self.hint = said["hint"]
        self.transient = said["transient"]


class Proxy:
    """A running proxy. A context manager; requests may be sent before earlier ones are answered."""

    def __init__(self, site: SiteFolder, batch: str = "process", env: Mapping[str, str] | None = None) -> None:
        self.site = site
        self.process = subprocess.Popen(
            [*site.program("proxy"), "--batch", batch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        self._number = 0
        self._rest = b""

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, verb: str, **fields: Any) -> int:
        """Send a request; its number."""
        self._number += 1
        self.write(json.dumps({"id": self._number, "verb": verb, **fields}).encode() + b"\n")
        return self._number

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def reply(self, deadline_s: float = 60.0) -> dict[str, Any]:
        """The next reply, whatever noise stands before it."""
        assert self.process.stdout is not None
        token, fd, end = TOKEN.encode(), self.process.stdout.fileno(), time.monotonic() + deadline_s
        while True:
            while b"\n" in self._rest:
                line, self._rest = self._rest.split(b"\n", 1)
                if line.startswith(token) and line.endswith(token) and len(line) > 2 * len(token):
                    return json.loads(line[len(token) : -len(token)])
            assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], "the proxy does not answer"
            data = os.read(fd, 1 << 16)
            if not data:
                raise EOFError("the proxy has ended")
            self._rest += data

    def ask(self, verb: str, **fields: Any) -> Any:
        """The `ok` of the reply; Refusal if it is an error."""
        number = self.send(verb, **fields)
        reply = self.reply()
        assert reply["id"] == number
        if "error" in reply:
            raise Refusal(reply["error"])
        return reply["ok"]

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()

    # ---- what nearly every test does

    def submit(
        self, key: str, *command: str, secrets: Mapping[str, str] | None = None, batch: str = "", **job: Any
    ) -> Any:
        """Submit one attempt; what the proxy said of it."""
        spec = {"key": key, "job_id": 1, "attempt": 1, "command": list(command), "grace_s": 5, "outputs": [], **job}
        item = {"key": key, "job": spec, "secrets": dict(secrets or {}), "batch": batch}
        return self.ask("submit", jobs=[item])["results"][key]

    def seen(
        self, key: str, offset: int = 0, state: str = "", wait_s: float = 10.0, query: bool = True
    ) -> dict[str, Any]:
        """The news of one attempt, {} if there are none."""
        known = {"native_id": key, "reports": offset, "native_state": state}
        return dict(self.ask("poll", attempts={key: known}, wait_s=wait_s, query=query)["attempts"].get(key, {}))

    def finished(self, key: str) -> dict[str, Any]:
        """Wait for the attempt's final report."""
        return self.report(key, "finished")

    def report(self, key: str, kind: str, deadline_s: float = 30.0) -> dict[str, Any]:
        """Wait for a report of this kind; the first of them."""
        end, offset = time.monotonic() + deadline_s, 0
        while time.monotonic() < end:
            seen = self.seen(key, offset, "running", wait_s=2.0, query=False)
            for line in seen.get("reports", "").splitlines():
                if json.loads(line)["kind"] == kind:
                    return dict(json.loads(line))
            if seen:
                offset = seen["from"] + len(seen["reports"].encode())
        raise AssertionError(f"no report {kind!r} of {key}: {self.site.story(key)}")

    def log(self, key: str, name: str = "log") -> str:
        return base64.b64decode(self.ask("logs", key=key, offset=0, limit=1 << 20, name=name)["data"]).decode()


class SiteFolder:
    """A work folder with the archive in it. `close` ends the keeper that was started there, and all it started."""

    def __init__(self, path: Path, python: Path | str = sys.executable) -> None:
        self.path = path
        self.python = str(python)
        packed = archive()
        self.archive = path / "bin" / packed.name
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        self.archive.write_bytes(packed.data)

    def program(self, name: str, *options: str) -> list[str]:
        """The command that starts one of the archive's programs as the control plane does."""
        words = [self.python, "-I", "-S", str(self.archive), name, "--token", TOKEN, "--workdir", str(self.path)]
        return [*words, *options]

    def proxy(self, batch: str = "process", env: Mapping[str, str] | None = None, **options: Any) -> Proxy:
        """Start a proxy, greeted already."""
        made = Proxy(self, batch, env)
        made.ask("hello", options=options)
        return made

    def job(self, key: str) -> Path:
        return self.path / "jobs" / key

    def write_job(self, key: str, *command: str, **job: Any) -> Path:
        """The folder of an attempt as a submission leaves it, for a runner that a test starts itself."""
        folder = self.job(key)
        folder.mkdir(parents=True)
        spec = {"key": key, "job_id": 1, "attempt": 1, "command": list(command), "grace_s": 5, "outputs": [], **job}
        if isinstance(spec.get("script"), str):
            (folder / "script").write_text(spec["script"])
            spec["script"] = True
        (folder / "job.json").write_text(json.dumps(spec))
        return folder

    def start(self, key: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the runner of an attempt as a batch system does."""
        return subprocess.Popen(
            [self.python, "-I", "-S", str(self.archive), "run", str(self.job(key))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )

    def run(self, key: str, *command: str, env: Mapping[str, str] | None = None, **job: Any) -> dict[str, Any]:
        """Run one attempt to its end in a runner of its own; the final report, with the runner's `code`."""
        self.write_job(key, *command, **job)
        with self.start(key, env) as runner:
            runner.wait(60)
        return {**self.reports(key)[-1], "code": runner.returncode}

    def reports(self, key: str) -> list[dict[str, Any]]:
        """The reports in an attempt's folder by now."""
        path = self.job(key) / "reports"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def wait_report(self, key: str, kind: str) -> dict[str, Any]:
        """Wait until there is a report of this kind."""

        def first() -> dict[str, Any]:
            return next((report for report in self.reports(key) if report["kind"] == kind), {})

        return wait_for(first, f"a report {kind!r} of {key}", story=lambda: self.story(key))

    def log(self, key: str) -> str:
        path = self.job(key) / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_log(self, key: str, text: str) -> str:
        """Wait until the attempt's log has this text; the whole log."""
        return wait_for(lambda: text in self.log(key) and self.log(key), f"{text!r} in the log of {key}")

    def story(self, key: str) -> str:
        """What is known of an attempt, for a failed test."""
        keeper = self.path / "keeper.log"
        said = keeper.read_text() if keeper.exists() else ""
        return f"reports {self.reports(key)}\nlog {self.log(key)!r}\nkeeper {said}"

    def keeper(self) -> int:
        """The process id of the keeper that serves this folder; 0 if there is none."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(socket_path(str(self.path)))
                connection.sendall(b'{"do": "hello"}\n')
                with connection.makefile("rb") as answer:
                    line = answer.readline()
            except (FileNotFoundError, ConnectionError):
                return 0
        return int(json.loads(line)["pid"]) if line else 0

    def workers(self) -> list[int]:
        """The keeper's children that run attempts, or wait for some."""
        keeper = self.keeper()
        return [pid for pid in self._keepers() if parent(pid) == keeper]

    def _keepers(self) -> list[int]:
        return [pid for pid, words in processes() if words[-3:] == ["keeper", "--workdir", str(self.path)]]

    def strays(self, key: str) -> list[int]:
        """The processes of an attempt that are alive, wherever they are."""
        return marked(self.job(key))

    def close(self) -> None:
        for pid in self._keepers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in marked(*(self.path / "jobs").glob("*")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.path, ignore_errors=True)


def processes() -> list[tuple[int, list[str]]]:
    """Every process that lives, with its words. Zombies have none."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")[:-1]
            except OSError:
                continue
            found.append((int(name), [os.fsdecode(word) for word in words]))
    return found


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def marked(*folders: Path) -> list[int]:
    """The living processes whose environment says that they belong to one of these attempts."""
    wanted = {f"{command.MARK}={command.mark(Folder(str(folder)))}".encode() for folder in folders}
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if not wanted.isdisjoint(environment) and alive(int(name)):
                found.append(int(name))
    return found
