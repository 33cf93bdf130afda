"""Processes as the kernel tells of them: who is alive, who descends from whom, and how a whole family ends."""

import os
import signal
import time

_boot: list = []
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def boot_id() -> str:
    """A word that differs after each start of this machine."""
    if not _boot:
        try:
            with open("/proc/sys/kernel/random/boot_id") as stream:
                _boot.append(stream.read().strip())
        except OSError:
            _boot.append("")
    return _boot[0]


def stat(pid: int) -> list:
    """The fields of /proc/PID/stat from the state (field 3) on, as bytes; [] if there is no such process."""
    try:
        fd = os.open("/proc/%d/stat" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, 1024)
    except OSError:
        return []
    finally:
        os.close(fd)
    # The command's name may hold spaces and brackets: what counts follows the last bracket.
    return data[data.rfind(b")") + 2 :].split()


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none."""
    fields = stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def alive(pid: int, ticks: int) -> bool:
    """Whether the very process that started at ``ticks`` lives. A zombie does not."""
    fields = stat(pid)
    return len(fields) > 19 and int(fields[19]) == ticks and fields[0] not in (b"Z", b"X")


def session(pid: int) -> int:
    """The session of a process; 0 if there is none."""
    fields = stat(pid)
    return int(fields[3]) if len(fields) > 3 else 0


def children(pid: int) -> list:
    """The children of a process, from all its threads."""
    found: list = []
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return found
    for thread in threads:
        try:
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as stream:
                found.extend(int(word) for word in stream.read().split())
        except OSError:
            if not os.path.exists("/proc/self/task/%d/children" % os.getpid()):
                return _children_by_scan(pid)  # a kernel without CONFIG_PROC_CHILDREN
    return found


def _children_by_scan(pid):
    wanted = b"%d" % pid
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(int(name))
            if len(fields) > 1 and fields[1] == wanted:
                found.append(int(name))
    return found


def family(pid: int) -> list:
    """A process and all that descend from it, parents first."""
    found = [pid]
    for member in found:
        found.extend(children(member))
    return found


def adopt_orphans() -> bool:
    """Make this process the parent of descendants whose own parent dies, so that none escapes. May be refused."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        return libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except (ImportError, OSError, AttributeError):
        return False


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; False if it has no member left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # its members belong to another user by now (a set-user-id program): they are there
    return True


def kill_family(patience_s: float = 5.0) -> bool:
    """Kill all descendants of this process and reap them; whether none is left.

    Each round kills what the last one's orphans left behind, so a family that forks while it is killed ends too:
    its members are stopped first, and a stopped process forks no more. What the kernel holds in an
    uninterruptible wait (a dead file server, say) is left to it after ``patience_s``.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        roots = children(os.getpid())
        members = [pid for root in roots for pid in family(root)]
        living = [pid for pid in members if stat(pid)[:1] not in ([], [b"Z"])]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in living:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        _reap(roots, end)
        if not living:
            return True
    return False


def _reap(pids, end):
    for pid in pids:
        pause = 0.0002
        try:
            while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < end:
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
        except OSError:
            pass


def kill_marked(marks: list) -> int:
    """Kill every process of this user whose environment holds one of ``marks`` (``b"NAME=value"``); how many.

    For those whose parents are gone: nothing else tells to whom they belong.
    """
    wanted = set(marks)
    seen = set()
    for _ in range(50):  # each round finds what was forked during the last one
        found = 0
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open("/proc/%s/environ" % name, "rb") as stream:
                    if wanted.isdisjoint(stream.read().split(b"\0")):
                        continue
                os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue
            found += 1
            seen.add(int(name))
        if not found:
            break
    return len(seen)
