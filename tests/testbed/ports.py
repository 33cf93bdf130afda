"""Free TCP ports for servers that must be told their port before they start."""

from __future__ import annotations

import os
import random
import socket


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that nobody listens on.

    They are taken below the kernel's ephemeral range (32768 and up on Linux), where no outgoing connection can grab
    one between this answer and the server's start, and at random, so that test beds side by side stay apart.
    """
    numbers = random.Random(os.urandom(8))
    found: list[int] = []
    while len(found) < count:
        port = numbers.randrange(15000, 32000)
        if port in found:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        found.append(port)
    return found


def free_port() -> int:
    """One TCP port that nobody listens on."""
    return free_ports(1)[0]


def answers(address: str, port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((address, port)) == 0
