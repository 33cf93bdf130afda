"""What a command and all that it started use: memory and CPU time, read from /proc and its memory cgroup.

Memory is what the family really holds: the resident set, and where several processes share pages (forked workers,
common libraries) the proportional set, in which a page of n processes counts for each as one n-th.
"""

import os

from isthmus.runner import process

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = float(os.sysconf("SC_CLK_TCK"))
SHARING_MATTERS = 64 << 20  # below this much memory the exact sum is not worth its cost


_oom: list = []  # the file that counts kills for memory; found once in a process


class Usage(object):
    """The running account of one command."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.mem_bytes = 0
        self.peak_mem_bytes = 0
        self.cpu_s = 0.0
        self._own = _resident_peak(os.getpid())

    def look(self, extra=()):
        """Measure now. ``extra``: processes outside the family that belong to it (a container daemon's children)."""
        total = 0
        ticks = 0
        members = process.family(self.pid)
        for root in extra:
            members.extend(process.family(root))
        for pid in members:
            fields = process.stat(pid)
            if len(fields) > 21:
                # utime, stime, and those of its children that it has waited for
                ticks += sum(int(word) for word in fields[11:15])
                total += int(fields[21]) * PAGE
        if len(members) > 1 and total > SHARING_MATTERS:
            total = sum(_proportional(pid) for pid in members)
        self.mem_bytes = total
        self.peak_mem_bytes = max(self.peak_mem_bytes, total, _resident_peak(self.pid))
        self.cpu_s = max(self.cpu_s, round(ticks / TICKS, 2))

    def ended(self, rusage):
        """Take the kernel's own account of the ended command, which is exact for CPU time."""
        self.cpu_s = max(self.cpu_s, round(rusage.ru_utime + rusage.ru_stime, 3))
        resident = rusage.ru_maxrss * 1024
        # A process begins as a copy of its parent, and the kernel counts that too: a smaller peak is hidden by it.
        if resident > self._own:
            self.peak_mem_bytes = max(self.peak_mem_bytes, resident)
        self.mem_bytes = 0


def _status(pid, name):
    try:
        with open("/proc/%d/status" % pid, "rb") as stream:
            for line in stream:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _resident_peak(pid):
    return _status(pid, b"VmHWM:")


def _proportional(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid, "rb") as stream:
            for line in stream:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _status(pid, b"VmRSS:")  # a kernel before 4.14, or a process of another user


class MemoryGroup(object):
    """The memory cgroup that this process is in, version 1 or 2: whether the kernel killed something in it."""

    def __init__(self):
        if not _oom:
            _oom.append(_oom_file())
        self._file = _oom[0]
        self._before = self._kills()

    def killed(self) -> bool:
        """Whether a process of the group was killed for memory since this object was made."""
        return self._kills() > self._before

    def _kills(self):
        if not self._file:
            return 0
        try:
            with open(self._file, "rb") as stream:
                for line in stream:
                    words = line.split()
                    if words[:1] == [b"oom_kill"]:
                        return int(words[1])
        except (OSError, ValueError, IndexError):
            pass
        return 0


def _oom_file():
    try:
        with open("/proc/self/cgroup") as stream:
            groups = [line.rstrip("\n").split(":", 2) for line in stream]
    except OSError:
        return ""
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            places = ["/sys/fs/cgroup/memory%s/memory.oom_control" % path]
        elif not controllers:
            places = ["/sys/fs/cgroup%s/memory.events" % path, "/sys/fs/cgroup/unified%s/memory.events" % path]
        else:
            continue
        for place in places:
            if os.path.exists(place):
                return place
    return ""
