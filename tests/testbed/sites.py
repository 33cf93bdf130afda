"""The test bed's servers as a control plane is told of them: specs of sites with pinned host keys."""

from __future__ import annotations

from typing import Any

from isthmus.domain.sites import Hop, Reach, SiteSpec
from isthmus.domain.units import Seconds
from tests.testbed.ssh import SshServer
from tests.testbed.users import User


def reach(*servers: SshServer, user: User | None = None) -> Reach:
    """The way to the last of these servers through those before it, as this user (or its first), with its test key."""
    hops = tuple(
        Hop(host=server.host, port=server.port, user=(user or server.user).name, host_key=server.host_key)
        for server in servers
    )
    return Reach(hops=hops, key_file=str(servers[-1].key), connect_timeout=Seconds(10))


def ssh_site(name: str, *servers: SshServer, user: User | None = None, **more: Any) -> SiteSpec:
    """Processes on the machine behind the last server, in a work folder of the site's own."""
    return _site(name, "ssh", servers, user, more)


def slurm_site(name: str, *servers: SshServer, user: User | None = None, **more: Any) -> SiteSpec:
    """The cluster whose login node the last server is. It is asked each second: tests wait for it."""
    return _site(name, "slurm", servers, user, {"poll": Seconds(1), **more})


def gridengine_site(name: str, *servers: SshServer, user: User | None = None, **more: Any) -> SiteSpec:
    """The cell whose login node the last server is."""
    return _site(name, "gridengine", servers, user, {"poll": Seconds(1), **more})


def _site(name: str, kind: str, servers: tuple[SshServer, ...], user: User | None, more: dict[str, Any]) -> SiteSpec:
    way: dict[str, Any] = {}
    if servers:  # else its commands are this machine's
        home = (user or servers[-1].user).home
        way = {"reach": reach(*servers, user=user), "workdir": f"{home}/isthmus-{name}"}
    return SiteSpec(**{"name": name, "kind": kind, **way, **more})
