"""How an attempt ended: from the command's exit and what was seen on the way, to a reason and a sentence."""

import os
import signal

from isthmus.runner import folder as files
from isthmus.runner import launcher
from isthmus.runner.errors import Failure

TAIL_BYTES = 16 * 1024
FULL_BYTES = 1 << 20  # less room than this on the disk, and a failure is the disk's


class Ended(object):
    """The end of an attempt, as its final report tells it."""

    def __init__(self, exit_code=None, number=None, reason: str = "", message: str = "", found=()):
        self.exit_code = exit_code
        self.signal = number
        self.reason = reason
        self.message = message
        self.outputs = list(found)

    def code_for_batch(self) -> int:
        """The runner's own exit code, from which the batch system and its accounting see how it went."""
        if self.signal:
            return 128 + self.signal
        if self.exit_code:
            return self.exit_code
        return 1 if self.reason else 0


def failed(failure):
    """The end of an attempt whose command never ran, or whose runner met trouble."""
    return Ended(reason=failure.reason, message=failure.message)


def judge(attempt, watch, status: int, memory):
    """The end of an attempt whose command has ended with this wait status. Checks the outputs if it ended well."""
    if os.WIFSIGNALED(status):
        ended = Ended(number=os.WTERMSIG(status))
    else:
        ended = Ended(exit_code=os.WEXITSTATUS(status))
    if watch.why:
        ended.reason, ended.message = _told_to_end(attempt, watch)
    elif ended.signal or ended.exit_code:
        ended.reason, ended.message = _gone_wrong(attempt, ended, memory)
    elif attempt.reports.lost:
        ended.reason = "DISK_FULL"
        ended.message = "The disk became full while it ran: not all of what it reported could be kept."
    elif attempt.job.get("outputs"):
        from isthmus.runner import outputs

        try:
            ended.outputs = outputs.collect(attempt.folder, attempt.job["outputs"], watch.during_outputs)
        except Failure as failure:
            ended.reason, ended.message = failure.reason, failure.message
    return ended


def _told_to_end(attempt, watch):
    job = attempt.job
    if watch.why == "time":
        return "TIMEOUT", "It ran for %.0f s; its limit is %g s." % (watch.elapsed(), float(job.get("time_s") or 0))
    if watch.why == "memory":
        return "OOM", "It and what it started used %s of memory; it asked for %s." % (
            _bytes(attempt.usage.peak_mem_bytes),
            _bytes(int(job["mem_bytes"])),
        )
    if not watch.outside:
        return "KILLED", "It was ended because somebody asked for it."
    if _preempted(attempt.base):
        return "PREEMPTED", "The batch system preempted it: it sent SIGTERM to give its place to another job."
    return "KILLED", "The batch system, or somebody there, ended it with SIGTERM."


def _gone_wrong(attempt, ended, memory):
    code, number = ended.exit_code, ended.signal
    # In a memory group of the job's own every kill is this job's; in a common one only that of its command is.
    killed = number == signal.SIGKILL or code == 128 + signal.SIGKILL
    if memory.killed() and (killed or attempt.base.get("SLURM_JOB_ID")):
        return "OOM", "The node's kernel killed it, or a part of it, because it used more memory than it may."
    tail = _tail(attempt.folder)
    engine = (attempt.job.get("container") or {}).get("engine") or ""
    if engine and code is not None:
        from isthmus.runner import containers

        told = containers.explain(engine, code, tail)
        if told:
            return told
    free = _free(attempt.folder.at(files.WORK))
    if attempt.reports.full or (free is not None and free < FULL_BYTES):
        return "DISK_FULL", "It failed (%s) while the disk at the site was full." % _how(code, number)
    rank = launcher.first_failure(tail) if attempt.argv[:1] == ["srun"] else None
    if rank:
        ended.exit_code = code = rank[0] or code
        return "EXIT_CODE", "The first rank to fail: %s" % rank[1]
    last = tail.decode("utf-8", "replace").strip().splitlines()[-1:]
    said = " It said last: %s" % last[0].strip()[:300] if last else ""
    if number:
        return "SIGNAL", "The command was ended by %s.%s" % (_how(code, number), said)
    return "EXIT_CODE", "The command ended with %s.%s" % (_how(code, number), said)


def _how(code, number):
    if not number:
        return "exit code %d" % code
    try:
        return "signal %d, %s" % (number, signal.Signals(number).name)
    except ValueError:
        return "signal %d" % number


def _tail(folder):
    try:
        with open(folder.at(files.LOG), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            return log.read(TAIL_BYTES)
    except OSError:
        return b""


def _free(path):
    """Bytes that this user can still write to the disk of a folder; None if it is not known."""
    try:
        room = os.statvfs(path)
    except OSError:
        return None
    # Some file systems tell no sizes at all.
    return room.f_bavail * room.f_frsize if room.f_blocks else None


def _preempted(env):
    """Whether SLURM says that it preempts the job that this runs in."""
    if not env.get("SLURM_JOB_ID"):
        return False
    import subprocess

    try:
        told = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", env["SLURM_JOB_ID"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=3,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    words = dict(word.partition(b"=")[::2] for word in told.split())
    return words.get(b"JobState") == b"PREEMPTED" or words.get(b"PreemptTime", b"None") not in (b"None", b"N/A")


def _bytes(count):
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if count >= unit:
            return "%.1f %s" % (count / float(unit), name)
    return "%d bytes" % count
