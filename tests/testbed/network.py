"""Hosts as network namespaces, joined by a bridge: links that can be cut and made slow.

    Network(hosts=2)              Network(hosts=2, gate=True)

    this machine                  this machine --- gate
        | bridge                                     | bridge
     +--+--+                                      +--+--+
     h1    h2                                     h1    h2

Without a gate, this machine and the hosts reach one another. With one, the hosts have no route to this machine nor
it to them: only the gate speaks to both, and it forwards nothing. That is how a cluster's compute nodes stand behind
its login node.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from types import TracebackType

from tests.testbed.daemon import Daemon, run, undo
from tests.testbed.errors import ServerError, program


@dataclass(frozen=True)
class Host:
    """A network namespace that stands for a machine. `address` is what its neighbours reach it by.

    `port` is the far end of its cable: the interface, and where that is, that `cut` takes down.
    """

    name: str
    netns: str
    address: str
    port: str
    port_netns: str | None = None

    def command(self, *argv: str) -> list[str]:
        """`argv` as a command that root runs to have it run on this host (same files, other network)."""
        # Not `ip netns exec`: that replaces /sys, and with it the control groups that container engines need.
        return [program("nsenter"), f"--net=/run/netns/{self.netns}", "--", *argv]


class Network:
    """`hosts` hosts on one bridge, behind a gate if asked for. A context manager; blocks for some 0.1 s to start."""

    def __init__(self, hosts: int = 2, *, gate: bool = False) -> None:
        self._tag = f"is{os.urandom(3).hex()}"
        self._ip = program("ip")
        self._daemon: Daemon | None = None
        self.hosts: list[Host] = []
        self.gate: Host | None = None
        self.address = ""
        """This machine's address, by which the hosts (with a gate: the gate alone) reach it."""
        self._count = hosts
        self._gated = gate

    def __enter__(self) -> Network:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Builds the namespaces and links. Raises ServerError with what `ip` said."""
        outer, inner = free_subnets(2)
        gate = f"{self._tag}g"
        names = [f"{self._tag}h{number}" for number in range(1, self._count + 1)]
        self._daemon = undo(
            "network",
            *([self._ip, "netns", "del", name] for name in [*names, gate]),
            [self._ip, "link", "del", f"{self._tag}b"],
            [self._ip, "route", "del", "unreachable", f"{inner}.0/24"],
        )
        self.address = f"{outer}.1"
        self._add_bridge(f"{self._tag}b", self.address, None)
        if not self._gated:
            for number, name in enumerate(names, start=1):
                self.hosts.append(self._add_host(f"h{number}", name, f"{outer}.{10 + number}", f"{self._tag}b", None))
            return
        # Or packets for the hosts would leave this machine by its default route, and who knows who answers there.
        self._do("route", "add", "unreachable", f"{inner}.0/24")
        self.gate = self._add_host("gate", gate, f"{outer}.2", f"{self._tag}b", None)
        self._add_bridge("inner", f"{inner}.1", gate)
        for number, name in enumerate(names, start=1):
            host = self._add_host(f"h{number}", name, f"{inner}.{10 + number}", "inner", gate)
            # The gate's outer address is what its servers are known by to both sides.
            self._do("route", "add", f"{outer}.2/32", "via", f"{inner}.1", netns=name)
            self.hosts.append(host)

    def _add_bridge(self, name: str, address: str, netns: str | None) -> None:
        self._do("link", "add", name, "type", "bridge", "forward_delay", "0", netns=netns)
        self._do("addr", "add", f"{address}/24", "dev", name, netns=netns)
        self._do("link", "set", name, "up", netns=netns)

    def _add_host(self, name: str, netns: str, address: str, bridge: str, bridge_netns: str | None) -> Host:
        self._do("netns", "add", netns)
        self._do("link", "set", "lo", "up", netns=netns)
        run(
            [program("nsenter"), f"--net=/run/netns/{netns}", program("sysctl"), "-qw", "net.ipv4.ip_forward=0"],
            what=f"keeping {name} from forwarding",
        )
        self._do("link", "add", netns, "type", "veth", "peer", "name", "eth0", "netns", netns, netns=bridge_netns)
        self._do("link", "set", netns, "master", bridge, "up", netns=bridge_netns)
        self._do("addr", "add", f"{address}/24", "dev", "eth0", netns=netns)
        self._do("link", "set", "eth0", "up", netns=netns)
        return Host(name, netns, address, netns, bridge_netns)

    def stop(self) -> None:
        """Removes the namespaces and links. May be called again."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None
        self.hosts, self.gate = [], None

    def cut(self, host: Host) -> None:
        """Pulls the host's cable: packets to and from it vanish, connections stay open and silent."""
        self._do("link", "set", host.port, "down", netns=host.port_netns)

    def mend(self, host: Host) -> None:
        """Puts the cable back."""
        self._do("link", "set", host.port, "up", netns=host.port_netns)

    def limit_rate(self, host: Host, mbit: float | None) -> None:
        """Limits what flows to and from the host to `mbit` megabits a second each way; None lifts the limit."""
        for device, netns in ((host.port, host.port_netns), ("eth0", host.netns)):
            tc = [program("tc")] + (["-n", netns] if netns else [])
            if mbit is None:
                run([*tc, "qdisc", "del", "dev", device, "root"], what=f"lifting the limit of {host.name}")
            else:
                run(
                    [*tc, "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{mbit:g}mbit",
                     "burst", "32kb", "latency", "100ms"],
                    what=f"limiting {host.name} to {mbit:g} Mbit/s",
                )  # fmt: skip

    def _do(self, *words: str, netns: str | None = None) -> None:
        run([self._ip, *(["-n", netns] if netns else []), *words], what="building the network")


def free_subnets(count: int) -> list[str]:
    """The first three numbers of `count` /24 networks that this machine has no address in.

    They come from 198.18.0.0/15, which RFC 2544 sets apart for tests of network devices: no real site uses it.
    """
    known = json.loads(run([program("ip"), "-json", "addr"], what="listing this machine's addresses"))
    taken = {
        address["local"].rpartition(".")[0]
        for link in known
        for address in link.get("addr_info", [])
        if "local" in address
    }
    free = [net for net in (f"198.{second}.{third}" for second in (18, 19) for third in range(256)) if net not in taken]
    if len(free) < count:
        raise ServerError("every network of 198.18.0.0/15 is in use on this machine")
    return random.Random(os.urandom(8)).sample(free, count)
