"""Watching the running command: its end, requests to stop it, its time and memory, and what it says of itself."""

import os
import resource
import signal
import subprocess
import time

from isthmus.runner import folder as files
from isthmus.runner import launcher, metrics, process
from isthmus.runner.errors import Failure
from isthmus.runner.signals import ENDING

MYPY = False
if MYPY:  # for the type checker alone: its import would cost a runner more than most of ours
    from typing import Any

LOOK_S = 1.0  # between looks at the kill file, the metrics and, where it is limited, the memory
FIRST_LOOK_S = 0.2
FIRST_USAGE_S = 2.0
GRACE_LOOK_S = 0.1  # between looks at whether the processes that have outlived the command are gone
SAME_SIGNAL_S = 0.2  # within which one signal to all processes reaches each of them
SIGNAL_S = 20.0  # for the batch system to send a signal to ranks on other nodes


class Watch(object):
    """Watches one attempt's command from its start to its end."""

    def __init__(self, attempt) -> None:
        self.attempt = attempt
        self.folder = attempt.folder
        self.reports = attempt.reports
        self.why = ""  # why it was told to end: kill, time, memory
        self.outside = False  # the batch system told it, not we
        self._status: Any = None
        self._rusage: Any = None
        self._grace_end: Any = None
        self._started = time.monotonic()
        self._said: dict = {}
        self._tails: list = []
        self._daemon = 0

    def stop_asked(self, starting: bool = False) -> bool:
        """Whether somebody asked for the end. ``starting``: the command does not run yet, and never will: Failure."""
        numbers = self.attempt.signals.take()
        for number in numbers:
            if number not in ENDING and number != signal.SIGCHLD and not starting:
                if number == signal.SIGUSR2 and "SGE_ROOT" in self.attempt.base:
                    numbers = [signal.SIGTERM]  # Grid Engine's notice that it is about to kill
                else:
                    process.signal_group(self.attempt.pid, number)
        killed = self.folder.has(files.KILL)
        asked = killed or any(number in ENDING for number in numbers)
        if asked:
            self.outside = not killed
        if asked and starting:
            raise Failure("KILLED", "It was told to end before its command had started.")
        return asked

    def until_end(self) -> tuple:
        """Block until the command has ended; its wait status and resource usage."""
        job = self.attempt.job
        now = self._started = time.monotonic()
        limit_s = float(job.get("time_s") or 0)
        time_end = now + limit_s if limit_s > 0 else None
        look = now + FIRST_LOOK_S
        heartbeat_s = max(0.1, float(job.get("heartbeat_s") or 10.0))
        heartbeat = now + min(heartbeat_s, FIRST_USAGE_S)
        self._open_tails()
        while not self.ended():
            dues = [due for due in (time_end, look, heartbeat, self._grace_end) if due is not None]
            self.attempt.wait(min(dues) - time.monotonic())
            if self.ended():
                break
            now = time.monotonic()
            if self._grace_end is not None and now >= self._grace_end:
                self._grace_end = None
                self._kill()
            if not self.why and self.stop_asked():
                self._end(self._who_asked(now))
            if time_end is not None and now >= time_end:
                time_end = None
                self._end("time")
            if now >= look:
                if look - self._started < LOOK_S:  # the first look: what ends sooner needs none of this
                    self.reports.reserve()
                    self._look()
                look = now + LOOK_S
                self._check_memory()
                self.read_metrics()
            if now >= heartbeat:
                heartbeat = now + heartbeat_s
                self._tell_usage()
        if not self.why:
            self._ended_by_the_same()
        self._leave_grace()
        return self._status, self._rusage

    def _ended_by_the_same(self):
        """Batch systems end a job by a signal to all its processes. The command may be gone before this one has heard
        of it: then it was ended by order all the same, and not by itself."""
        if os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) in ENDING:
            self.attempt.wait(SAME_SIGNAL_S)
        if self.stop_asked():
            self.why = self._who_asked(time.monotonic())

    def _leave_grace(self):
        """The command has ended. What it started may still be using its grace: a shell dies of SIGTERM at once, while
        the program that it waited for writes its checkpoint."""
        while self._grace_end is not None and time.monotonic() < self._grace_end:
            self._reap()
            # Not those that made themselves daemons: nobody told them, and podman leaves one that never ends.
            own = [pid for pid in process.children(os.getpid()) if process.session(pid) == self.attempt.pid]
            if not own and not process.signal_group(self.attempt.pid, 0):
                return
            self.attempt.wait(min(GRACE_LOOK_S, self._grace_end - time.monotonic()))

    def _reap(self):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def ended(self) -> bool:
        """Whether the command has ended. Reaps it, and orphans that have become this process's children."""
        while self._status is None:
            try:
                pid, status, rusage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                # It can't be: somebody else has waited for it. Its end is a fact, its status is not known.
                self._status, self._rusage = 255 << 8, resource.getrusage(resource.RUSAGE_CHILDREN)
                break
            if pid == 0:
                return False
            if pid == self.attempt.pid:
                self._status, self._rusage = status, rusage
        return True

    def read_metrics(self, last: bool = False) -> None:
        """Turn what the command has said since the last look into reports. ``last``: half a line counts too."""
        if not self._tails:
            self._open_tails()
        for tail, parse in self._tails:
            for line in tail.lines(last):
                for kind, fields in parse(line).items():
                    self.reports.add(kind, **fields)

    def during_outputs(self) -> None:
        """Called while outputs are read, which may take long: a request to stop ends that too."""
        self.ended()
        if not self.why and self.stop_asked():
            self._end(self._who_asked(time.monotonic()))
            raise Failure("KILLED", "It was told to end while its outputs were read.")

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def _open_tails(self):
        self._tails = [
            (metrics.Tail(self.folder.at(files.METRICS)), metrics.parse_json),
            (metrics.Tail(self.attempt.stdout_path(), metrics.MARK), metrics.parse_text),
        ]

    def _who_asked(self, now):
        if not self.outside:
            return "kill"
        limit_s = float(self.attempt.job.get("time_s") or 0)
        # Batch systems tell of the time limit some time before it: by the grace that we asked for, in SLURM up to
        # a minute earlier.
        early_s = float(self.attempt.job.get("grace_s") or 0) + 60.0
        if limit_s and now - self._started >= limit_s - early_s:
            return "time"
        return "kill"

    def _end(self, why):
        """Tell the command to end; after the grace it is killed."""
        if self.why:
            return
        self.why = why
        grace_s = float(self.attempt.job.get("grace_s") or 0)
        if why == "kill":
            asked = self.folder.read_json(files.KILL).get("grace_s")
            grace_s = grace_s if asked is None else float(asked)
        self.reports.add("ending", why=why)
        if why == "memory" or grace_s <= 0:
            self._kill()
            return
        self._grace_end = time.monotonic() + grace_s
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped one could not obey

    def _kill(self):
        self._signal(signal.SIGKILL)
        process.signal_group(self.attempt.pid, signal.SIGKILL)

    def _signal(self, number):
        """Send a signal to the command, wherever its ranks are."""
        words = launcher.signal_steps(self.attempt.argv, self.attempt.base, number)
        if words:
            try:
                sent = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=SIGNAL_S)
                if sent.returncode == 0:
                    return
            except (OSError, subprocess.SubprocessError):
                pass  # the controller is down: what is here at least is told
        process.signal_group(self.attempt.pid, number)

    def _look(self):
        usage = self.attempt.usage
        roots = [pid for pid in process.children(os.getpid()) if pid != self.attempt.pid]
        spec = self.attempt.job.get("container") or {}
        if spec.get("engine") == "docker":
            roots += self._daemon_child()
        usage.look(roots)

    def _daemon_child(self):
        """The first process of a docker container, which is its daemon's child and not ours."""
        if not self._daemon:
            name = self.attempt.cleanup[-1]
            words = [self.attempt.cleanup[0], "inspect", "--format", "{{.State.Pid}}", name]
            try:
                told = subprocess.run(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
                )
                self._daemon = int(told.stdout)
            except (OSError, subprocess.SubprocessError, ValueError):
                return []
        return [self._daemon] if self._daemon else []

    def _check_memory(self):
        limit = int(self.attempt.job.get("mem_bytes") or 0)
        if limit <= 0 or self.why == "memory":
            return
        self._look()
        if self.attempt.usage.mem_bytes > limit:
            if self.why:
                self._kill()
            self._end("memory")

    def _tell_usage(self):
        self._look()
        usage = self.attempt.usage
        said = {
            "mem_bytes": usage.mem_bytes,
            "peak_mem_bytes": usage.peak_mem_bytes,
            "cpu_s": usage.cpu_s,
            "log_bytes": self.folder.size(files.LOG),
        }
        if int(self.attempt.job.get("gpus") or 0) > 0 or self.attempt.job.get("gpu"):
            said["gpu"] = self._gpus()
        if said != self._said:
            self._said = said
            self.reports.add("usage", **said)

    def _gpus(self):
        from isthmus.runner import gpu

        return gpu.shared().usage(gpu.visible(self.attempt.base))
