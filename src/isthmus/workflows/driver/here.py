"""This machine as a place for steps: folders, files, processes and containers, started by the driver itself.

A step that stays where the driver runs costs a folder and a process, not a journey through a queue.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from isthmus.workflows.driver import images
from isthmus.workflows.driver.guardian import Guardian
from isthmus.workflows.locations import path_of
from isthmus.workflows.work import Ended, Folders, Need, Placed, StepFailed, Work

LOG_BYTES = 4000
STDOUT, STDERR = "stdout.log", "stderr.log"
GRACE_S = 5.0


class Here:
    """Runs work on this machine. ``root`` holds a folder for each step."""

    def __init__(self, root: str, *, engine: str = "", guardian: Guardian | None = None) -> None:
        self.root = root
        self.cpus = float(len(os.sched_getaffinity(0)))
        self.mem = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._guardian = guardian
        self._images = images.Images(engine)
        self._path = os.environ.get("PATH", os.defpath)
        self._running: set[int] = set()
        self._programs: dict[tuple[str, str], str] = {}

    @property
    def contained(self) -> bool:
        """Whether a container engine is there."""
        return bool(self._images.engine)

    def refusal(self, need: Need) -> str:
        """Why this machine can never run it; "" if it can."""
        if need.cpus > self.cpus:
            return f"It needs {need.cpus:g} cores; this machine has {self.cpus:g}."
        if need.mem > self.mem:
            return f"It needs {need.mem >> 20} MiB of memory; this machine has {self.mem >> 20}."
        if need.gpus and need.gpus > len(_gpus()):
            return f"It needs {need.gpus} GPUs; this machine has {len(_gpus())}."
        return ""

    def folders(self, name: str) -> Folders:
        """Where a step runs."""
        base = f"{self.root}/{name}"
        return Folders(f"{base}/work", f"{base}/tmp", f"{base}/in")

    def folder(self, name: str) -> str:
        """The step's folder."""
        return f"{self.root}/{name}"

    def work_folder(self, name: str) -> str:
        """The step's work folder on this machine, whatever its command calls it."""
        return f"{self.root}/{name}/work"

    async def run(self, name: str, work: Work) -> Ended:
        """Run it to its end. Raises StepFailed where it can't be started."""
        base = f"{self.root}/{name}"
        folders = self.folders(name)
        try:
            os.makedirs(folders.work, mode=0o755)
        except FileExistsError:  # an earlier try of it
            shutil.rmtree(base)
            os.makedirs(folders.work, mode=0o755)
        os.mkdir(folders.tmp, 0o755)
        binds = self._place(work, folders)
        env = {"PATH": self._path, **work.env}
        argv = list(work.argv)
        cleanup: list[str] = []
        if work.image is not None:
            argv, env, cleanup = await self._images.wrap(name, base, work, folders, binds)
        pid, began = self._start(base, folders, work, argv, env, contained=work.image is not None)
        if self._guardian is not None:
            self._guardian.started(pid, cleanup)
        self._running.add(pid)
        try:
            return await self._until_end(pid, began, base, work, cleanup)
        finally:
            self._running.discard(pid)
            if self._guardian is not None:
                self._guardian.ended(pid)

    def tidy(self, name: str) -> None:
        """Remove what only the command needed."""
        base = f"{self.root}/{name}"
        for folder in (f"{base}/tmp", f"{base}/in"):
            try:
                os.rmdir(folder)  # empty, as a rule
            except FileNotFoundError:
                pass
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
        for log in (STDOUT, STDERR):
            path = f"{base}/{log}"
            try:
                if os.stat(path).st_size == 0:
                    os.unlink(path)
            except OSError:
                pass

    def remove(self, name: str) -> None:
        """Remove all of a step."""
        shutil.rmtree(f"{self.root}/{name}", ignore_errors=True)

    # ---- before

    def _place(self, work: Work, folders: Folders) -> list[list[str]]:
        """Put everything in its place; what a container must see besides its own folders: source, target, mode."""
        binds: list[list[str]] = [[path, path, "ro"] for path in work.reads] if work.image is not None else []
        own = work.work or folders.work
        for each in work.placed:
            target = each.target
            if target == own or target.startswith(own + "/"):
                target = folders.work + target[len(own) :]
            elif not target.startswith(folders.inputs + "/"):
                source = self._outside(each, folders, private=_gives_away(work, each))
                binds.append([source, target, "rw" if each.writable or each.in_place else "ro"])
                continue
            try:
                self._put(each, target, private=_gives_away(work, each))
            except OSError as error:
                raise StepFailed(f"{os.path.basename(target)} can't be put in place: {error.strerror}.") from None
            path = path_of(each.location or "")
            if work.image is not None and path and not each.writable:
                binds.append([os.path.realpath(path), path, "rw" if each.in_place else "ro"])
        return binds

    def _outside(self, each: Placed, folders: Folders, *, private: bool) -> str:
        """Something whose place is elsewhere in the container: its content on this machine."""
        path = path_of(each.location or "")
        if path and not each.writable:
            return path
        copy = replace(each, target=f"{folders.inputs}/outside{each.target}")
        self._put(copy, copy.target, private=private)
        return copy.target

    def _put(self, each: Placed, target: str, *, private: bool = False) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if each.text is not None:
            with open(target, "w", encoding="utf-8", opener=_for_me if private else None) as stream:
                stream.write(each.text)
            return
        if each.location is None:
            os.makedirs(target, exist_ok=True)
            return
        path = path_of(each.location)
        if not path:
            _fetch(each.location, target)
        elif not os.path.exists(path):
            raise StepFailed(f"There is no {path}.")
        elif each.writable:
            _copy(path, target)
        else:
            os.symlink(path, target)

    # ---- the process

    def _start(
        self, base: str, folders: Folders, work: Work, argv: list[str], env: Mapping[str, str], *, contained: bool
    ) -> tuple[int, float]:
        handles = []
        try:
            stdin = self._stdin(work, folders)
            handles.append(stdin)
            out = self._sink(base, folders, work.stdout, STDOUT)
            handles.append(out)
            err = out if work.stderr and work.stderr == work.stdout else self._sink(base, folders, work.stderr, STDERR)
            if err is not out:
                handles.append(err)
            began = time.monotonic()
            started = subprocess.Popen(
                argv,
                executable=self._program(argv[0], env),
                env=env,
                cwd=None if contained else folders.work,
                stdin=stdin,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise StepFailed(f"There is no command {argv[0]!r} on this machine. PATH is {self._path}.") from None
        except OSError as error:
            raise StepFailed(f"{argv[0]} can't be started: {error.strerror}.") from None
        finally:
            for handle in handles:
                os.close(handle)
        started.returncode = 0  # waited for here, for what it used
        return started.pid, began

    def _program(self, name: str, env: Mapping[str, str]) -> str:
        """The path of a command, looked for once; the name itself where it is a path or is not found."""
        path = env.get("PATH", "")
        if "/" in name:
            return name
        found = self._programs.get((name, path))
        if found is None:
            found = self._programs[(name, path)] = shutil.which(name, path=path) or name
        return found

    def _stdin(self, work: Work, folders: Folders) -> int:
        if not work.stdin:
            return os.open(os.devnull, os.O_RDONLY)
        path = work.stdin
        own = work.work or folders.work
        if path.startswith(own + "/"):
            path = folders.work + path[len(own) :]
        path = os.path.join(folders.work, path)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StepFailed(f"Its stdin {work.stdin} can't be read: {error.strerror}.") from None

    def _sink(self, base: str, folders: Folders, name: str, log: str) -> int:
        path = f"{base}/{log}"
        if name:
            path = os.path.join(folders.work, name)
            if "/" in name:
                os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    async def _until_end(self, pid: int, began: float, base: str, work: Work, cleanup: list[str]) -> Ended:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        handle = os.pidfd_open(pid)
        loop.add_reader(handle, _resolve, ended)
        timed_out = False
        timer = loop.call_later(work.need.time, os.killpg, pid, signal.SIGKILL) if work.need.time else None
        try:
            await ended
        except asyncio.CancelledError:
            await self._stop(pid, ended)
            self._clean(cleanup)
            raise
        finally:
            loop.remove_reader(handle)
            os.close(handle)
            if timer is not None:
                timed_out = time.monotonic() - began >= work.need.time
                timer.cancel()
            _, status, usage = os.wait4(pid, 0)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it left running
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        timed_out = timed_out and number == signal.SIGKILL
        if number or timed_out:
            self._clean(cleanup)
        code = os.waitstatus_to_exitcode(status) if not number else 128 + number
        log, rest = self._log(base, work) if code else ("", "")
        return Ended(
            exit_code=code,
            signal=number,
            timed_out=timed_out,
            wall_s=time.monotonic() - began,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_mem=usage.ru_maxrss * 1024,
            log=log,
            rest=rest,
        )

    async def _stop(self, pid: int, ended: "asyncio.Future[None]") -> None:
        """End a step that nobody waits for any more: it may say goodbye first."""
        try:
            os.killpg(pid, signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            return
        waiting = asyncio.get_running_loop().create_future()
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            await asyncio.wait([waiting], timeout=0.02)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def _clean(self, cleanup: list[str]) -> None:
        if cleanup:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # what it can't remove, the engine keeps
                subprocess.run(cleanup, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)

    def _log(self, base: str, work: Work) -> tuple[str, str]:
        """The end of what it said, and where all of it is."""
        for name, log in ((work.stderr, STDERR), (work.stdout, STDOUT)):
            path = os.path.join(f"{base}/work", name) if name else f"{base}/{log}"
            try:
                with open(path, "rb") as stream:
                    stream.seek(max(0, os.fstat(stream.fileno()).st_size - LOG_BYTES))
                    text = stream.read().decode("utf-8", "replace").strip()
            except OSError:
                continue
            if text:
                return text, path
        return "", ""


def _gives_away(work: Work, each: Placed) -> bool:
    return each.text is not None and work.hidden is not None and work.hidden.within(each.text)


def _for_me(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _resolve(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def _copy(source: str, target: str) -> None:
    if os.path.isdir(source):
        shutil.copytree(source, target, dirs_exist_ok=True)
        for folder, _, _ in os.walk(target):
            os.chmod(folder, os.stat(folder).st_mode | 0o200)
    else:
        shutil.copyfile(source, target)
        os.chmod(target, os.stat(source).st_mode | 0o200)


def _fetch(url: str, target: str) -> None:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=60) as answer, open(target, "wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 20)
    except (URLError, ValueError) as error:
        raise StepFailed(f"{url} can't be fetched: {error}.") from None


def _gpus() -> list[str]:
    return sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))
