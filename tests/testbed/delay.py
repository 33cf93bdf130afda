"""A link with latency between this machine and a host: a pair of TAP devices and a relay that holds frames back.

The kernel's own way (netem) is a module that not every machine has; this needs /dev/net/tun alone.

Run as a program, it is the relay: `delay.py NETNS DEVICE THERE HERE DELAY_MS`.
"""

from __future__ import annotations

import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.testbed.daemon import Daemon
    from tests.testbed.network import Host

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
MOST_WAITING = 20_000  # frames held back each way; beyond that they are lost, as on a real link
FRAME_BYTES = 65536
READY = "both ends are up"


class DelayLink:
    """A second way to `host`, on which every frame takes `delay_ms` each way: a round trip takes twice that.

    A context manager. The host's servers that listen on all addresses (an `SshServer` on a host does) answer at
    `address` with the delay, and at the host's own address without.
    """

    def __init__(self, host: Host, delay_ms: float) -> None:
        self.host, self.delay_ms = host, delay_ms
        self.address = ""
        """The host's address at the far end of the slow link."""
        self._daemon: Daemon | None = None

    def __enter__(self) -> DelayLink:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the relay and waits until the link carries packets."""
        from tests.testbed import scratch
        from tests.testbed.daemon import Daemon
        from tests.testbed.network import free_subnets

        subnet = free_subnets(1)[0]
        self.address = f"{subnet}.2"
        self._daemon = daemon = Daemon(
            "delay",
            [sys.executable, "-I", "-S", os.path.realpath(__file__), self.host.netns, f"isd{os.urandom(3).hex()}",
             f"{self.address}/24", f"{subnet}.1/24", f"{self.delay_ms:g}"],
            folder=scratch.folder("delay"),
            ready=lambda: READY in daemon.log.read_text(),
        )  # fmt: skip
        daemon.start()

    def stop(self) -> None:
        """Removes the link. May be called again."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None


def _tap(device: str, address: str) -> int:
    """A TAP device in this thread's network namespace; it goes away with the file descriptor."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TAP_NO_PI))
    subprocess.check_call(["ip", "addr", "add", address, "dev", device])
    subprocess.check_call(["ip", "link", "set", device, "up"])
    return file


def _tap_in(netns: str, device: str, address: str) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{netns}", os.O_RDONLY)
    for target, act in ((there, True), (here, False)):
        if libc.setns(target, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"entering the network namespace {netns}")
        if act:
            file = _tap(device, address)
    return file


def relay(ends: tuple[int, int], delay_s: float) -> None:
    """Passes frames between two TAP devices for ever, each `delay_s` after it came."""
    waiting: dict[int, collections.deque[tuple[float, bytes]]] = {end: collections.deque() for end in ends}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    while True:
        due = [queue[0][0] for queue in waiting.values() if queue]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select(ends, [], [], timeout)
        for end in readable:
            queue = waiting[other[end]]
            while True:
                try:
                    frame = os.read(end, FRAME_BYTES)
                except BlockingIOError:
                    break
                if len(queue) < MOST_WAITING:
                    queue.append((time.monotonic() + delay_s, frame))
        now = time.monotonic()
        for end, queue in waiting.items():
            while queue and queue[0][0] <= now:
                os.write(end, queue.popleft()[1])


def main() -> None:
    netns, device, there, here, delay_ms = sys.argv[1:]
    os.environ["PATH"] = "/usr/sbin:/sbin:/usr/bin:/bin"
    ends = _tap_in(netns, device, there), _tap(device, here)
    print(READY, flush=True)
    relay(ends, float(delay_ms) / 1000)


if __name__ == "__main__":
    main()
