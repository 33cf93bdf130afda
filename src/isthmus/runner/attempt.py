"""One attempt, from its claim to its final report. Owns the order of things; each step has a module of its own.

claim ─► inputs ─► start ─► watch ─► kill what is left ─► outputs ─► finished
                      └── started      └── metrics, progress, usage, ending
"""

import os
import signal
import socket
import subprocess
import time

from isthmus.runner import claim, command, process, program, reports, verdict
from isthmus.runner import folder as files
from isthmus.runner.errors import Failure, disk_full, from_os
from isthmus.runner.measure import MemoryGroup, Usage
from isthmus.runner.watch import Watch

MYPY = False
if MYPY:  # for the type checker alone: its import would cost a runner more than most of ours
    from typing import Any

REFUSED = 75  # EX_TEMPFAIL: exit code of a runner that found the attempt claimed
FLUSH_S = 5.0  # for what is not yet pushed at the end
REACH_S = 1.0  # how long the first report waits to know whether the node reaches the API
RETRY_S = 1.0
LAST_REPORT_S = 300.0  # how long the final report is tried on a full disk
ENGINES = ("apptainer", "singularity", "podman", "docker", "ch-run")

_node: dict = {}


def node_facts() -> dict:
    """What every first report says of this node; found out once in a process."""
    if not _node:
        _node["node"] = socket.gethostname()
        _node["engines"] = {name.replace("ch-run", "charliecloud"): "" for name in ENGINES if program.which(name)}
    return _node


class Attempt(object):
    """Runs one attempt in this process.

    ``base`` is the environment that the command gets what it asks for on top of. ``listeners`` are called after each
    report; ``poked`` when there is input where ``signals`` watches besides.
    """

    def __init__(self, folder: files.Folder, native_id: str, signals, base: dict, listeners=(), poked=None):
        self.folder = folder
        self.native_id = native_id
        self.signals = signals
        self.base = base
        self.poked = poked
        self.job: dict = {}
        self.reports = reports.Reports(folder)
        self.reports.listeners.extend(listeners)
        self.push: Any = None  # imported where there is an API only
        self.usage: Any = None
        self.pid = 0
        self.argv: list = []
        self.cleanup: list = []
        self.alone = True
        self.reported = False
        self.began = time.monotonic()

    def run(self) -> int:
        """The whole attempt; the exit code for the batch system. Whatever goes wrong, it ends with a report."""
        try:
            if not claim.take(self.folder, self.native_id):
                return REFUSED
            self.reports.open()
        except OSError as error:
            if not disk_full(error):
                raise
            # Nothing could be written, so nothing was begun: the batch system sees a runner that failed.
            return 74  # EX_IOERR
        try:
            ended = self._live()
        except Failure as failure:
            ended = verdict.failed(failure)
        except OSError as error:
            ended = verdict.failed(from_os(error, "Running the attempt", "UNKNOWN"))
        except Exception as error:  # noqa: BLE001  (a fault of ours: it is told as any other end)
            ended = verdict.failed(Failure("UNKNOWN", "The runner failed: %s: %s." % (type(error).__name__, error)))
        self._kill_rest()
        self._finish(ended)
        return ended.code_for_batch()

    def wait(self, seconds: float) -> None:
        """Wait until something happens, ``seconds`` at most."""
        if self.signals.wait(seconds) and self.poked is not None:
            self.poked()

    def _live(self):
        self.job = self.folder.read_json(files.SPEC)
        if not self.job:
            raise Failure("SUBMIT", "The job's description %s is missing or not whole." % self.folder.at(files.SPEC))
        secrets = self.folder.read_json(files.SECRETS)
        if secrets:
            self.folder.remove(files.SECRETS)
        token = secrets.pop("", "")
        if self.job.get("api") and token:
            self._start_push(token)
        watch = Watch(self)
        watch.stop_asked(starting=True)
        self._prepare()
        wrapped = command.build(self.job, secrets, self.folder, self.base)
        secrets.clear()
        memory = MemoryGroup()
        watch.stop_asked(starting=True)
        self._start(wrapped)
        self.usage = Usage(self.pid)
        self._report_start(watch)
        status, rusage = watch.until_end()
        self.usage.ended(rusage)
        if os.WIFEXITED(status) and not watch.why:
            self.cleanup = []  # an engine that came to its own end has cleaned up itself
        self._kill_rest()
        watch.read_metrics(last=True)
        return verdict.judge(self, watch, status, memory)

    def _prepare(self):
        """The work folder, with its inputs, and the checkpoint folder."""
        try:
            os.makedirs(self.folder.at(files.WORK), mode=0o700, exist_ok=True)
            if self.job.get("checkpoint"):
                os.makedirs(self.folder.resolve(self.job["checkpoint"]), mode=0o700, exist_ok=True)
        except OSError as error:
            raise from_os(error, "Making the work folder", "STAGE")
        if self.job.get("inputs"):
            from isthmus.runner import inputs

            inputs.place(self.folder, self.job["inputs"])

    def _start(self, wrapped):
        work = self.folder.at(files.WORK)
        path = command.search(wrapped.argv, wrapped.env, work)
        out = err = None
        try:
            out = self._sink(self.job.get("stdout"))
            err = self._sink(self.job.get("stderr")) if self.job.get("stderr") else None
            if not err and self.job.get("stdout"):
                err = self._sink("")
            started = subprocess.Popen(
                wrapped.argv,
                executable=path,
                env=wrapped.env,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if err is not None else out,
                start_new_session=True,
            )
        except OSError as error:
            raise self._start_failure(error, path, wrapped.argv)
        finally:
            for fd in (out, err):
                if fd is not None:
                    os.close(fd)
        started.returncode = 0  # this process waits for it itself, together with its orphans
        self.pid = started.pid
        self.alone = False
        self.argv = wrapped.argv
        self.cleanup = wrapped.cleanup

    def _start_failure(self, error, path, argv):
        if disk_full(error):
            return from_os(error, "Opening the log", "DISK_FULL")
        hint = ""
        if error.errno == 8:  # ENOEXEC
            hint = " Does its first line name its interpreter, such as #!/bin/sh?"
        return Failure(
            "COMMAND", "%s can't be started: %s.%s" % (command.shown([path] + argv[1:]), error.strerror, hint)
        )

    def _sink(self, name):
        """Open where a stream of the command goes: a file of the work folder, or the log."""
        path = self.folder.at(files.LOG)
        if name:
            path = os.path.join(self.folder.at(files.WORK), name)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def stdout_path(self) -> str:
        """Where the command's stdout goes."""
        name = self.job.get("stdout")
        return os.path.join(self.folder.at(files.WORK), name) if name else self.folder.at(files.LOG)

    def _report_start(self, watch):
        facts = dict(node_facts())
        if self.push is not None:
            # The command runs already; only the report waits, and not after the command's end.
            end = time.monotonic() + REACH_S
            while not self.push.first_try.wait(0.01) and time.monotonic() < end and not watch.ended():
                pass
            facts["reaches_api"] = self.push.reached
        self.reports.add(
            "started",
            durable=True,
            pid=self.pid,
            start=process.start_ticks(self.pid),
            native_id=self.native_id,
            cpus=len(os.sched_getaffinity(0)),
            gpus=[
                name
                for name in (self.base.get("RCUDA_DEVICE_0") or self.base.get("CUDA_VISIBLE_DEVICES", "")).split(",")
                if name
            ],
            **facts,
        )

    def _start_push(self, token):
        from isthmus.runner.push import Push

        self.push = Push(self.folder, self.job["api"], token)
        self.reports.listeners.append(self.push.notify)
        self.push.start()

    def _kill_rest(self):
        """End what the command left running: nothing of an attempt outlives it. May be called again."""
        if self.alone:
            return
        process.signal_group(self.pid, signal.SIGKILL)
        cleanup, self.cleanup = self.cleanup, []
        if cleanup:
            try:
                subprocess.run(
                    cleanup, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
                )
            except (OSError, subprocess.SubprocessError):
                pass  # the engine has forgotten the container already
        self.alone = process.kill_family()

    def _finish(self, ended):
        usage = self.usage
        fields = {
            "exit_code": ended.exit_code,
            "signal": ended.signal,
            "reason": ended.reason,
            "message": ended.message,
            "wall_s": round(time.monotonic() - self.began, 3),
            "cpu_s": usage.cpu_s if usage else 0.0,
            "peak_mem_bytes": usage.peak_mem_bytes if usage else 0,
            "log_bytes": self.folder.size(files.LOG),
            "outputs": ended.outputs,
        }
        end = time.monotonic() + LAST_REPORT_S
        self.reported = self.reports.add("finished", durable=True, **fields)
        while not self.reported and time.monotonic() < end:
            # Room may come: other jobs end too. Without this line nobody learns how the attempt ended.
            self.wait(RETRY_S)
            self.signals.take()
            self.reported = self.reports.add("finished", durable=True, **fields)
        self.reports.release()
        self.reports.close()
        if self.push is not None:
            self.push.stop(FLUSH_S)


def native_id(env: dict, key: str) -> str:
    """The batch system's own id of the job that this process runs in; the key where there is none."""
    for name in ("ISTHMUS_NATIVE_ID", "SLURM_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID"):
        if env.get(name):
            return env[name]
    return key
