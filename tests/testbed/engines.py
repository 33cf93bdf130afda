"""What the container engines need of this machine before a test can use them."""

from __future__ import annotations

import os
from pathlib import Path

CONTAINERS_CONF = """\
# Limits that a root without CAP_SYS_RESOURCE may set too; what podman would choose by itself is more than it may.
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
# crun, podman's first choice, does not start where control groups are mounted both ways; there is no systemd either.
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
FUSE = Path("/dev/fuse")


def prepare_machine() -> None:
    """Lets every user mount by FUSE, as udev does on a usual machine: engines mount image files so."""
    if FUSE.exists() and FUSE.stat().st_mode & 0o666 != 0o666:
        FUSE.chmod(0o666)


def configure_podman(home: Path, uid: int, gid: int) -> Path:
    """Writes the configuration with which podman works here into a user's home, and returns its path."""
    folder = home / ".config" / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "containers.conf"
    path.write_text(CONTAINERS_CONF)
    for made in (home / ".config", folder, path):
        os.chown(made, uid, gid)
    return path
