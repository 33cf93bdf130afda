"""Normal users of this machine for the tests to log in as, each with a fresh home.

The accounts (isthmus-u1, isthmus-u2, …) are made on first use and stay: making one takes a second. While a test
process holds one, no other test process gets it.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import engines
from tests.testbed.daemon import run
from tests.testbed.errors import ServerError, program

PREFIX = "isthmus-u"
LOCKS = Path("/run/isthmus-testbed")
MOST = 60

# Held until this process ends: closing one gives the user back.
_locks: list[int] = []

PROFILE = """\
# Written by the test bed. `ssh HOST COMMAND` reads .bashrc; a login shell reads this file, after /etc/profile has
# set PATH anew. TESTBED_* come from the server that was logged in to.
[ -z "$TESTBED_PATH" ] || PATH="$TESTBED_PATH:$PATH"
[ -z "$TESTBED_NOISE" ] || cat "$TESTBED_NOISE"
"""


@dataclass(frozen=True)
class User:
    """A normal user with a home folder and no password."""

    name: str
    uid: int
    gid: int
    home: Path

    def command(self, *argv: str) -> list[str]:
        """`argv` as a command that root runs to have this user run it."""
        return [
            program("setpriv"), f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--reset-env",
            "--", *argv,
        ]  # fmt: skip


def lease(count: int) -> list[User]:
    """`count` users that no other test process uses until this process ends, with emptied homes."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    leased: list[User] = []
    for number in range(1, MOST + 1):
        if len(leased) == count:
            break
        name = f"{PREFIX}{number}"
        lock = os.open(LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _locks.append(lock)
        leased.append(_fresh(name))
    if len(leased) < count:
        raise ServerError(f"all {MOST} users of the test bed are in use: are many test runs going on at once?")
    return leased


def _fresh(name: str) -> User:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        # Accounts are made one at a time: useradd locks /etc/passwd and fails rather than waits.
        with open(LOCKS / "useradd", "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            run(
                # "*" is a password that none matches, but, unlike the "!" of a fresh account, not a locked account:
                # sshd refuses those even with a key.
                [program("useradd"), "--create-home", "--shell", "/bin/bash", "--password", "*", name],
                what=f"making the user {name}",
            )
        entry = pwd.getpwnam(name)
    home = Path(entry.pw_dir)
    if home.exists():
        shutil.rmtree(home)
    # What podman keeps outside of the home, of containers that are no more.
    for left in ("podman-run", "storage-run", "containers-user"):
        shutil.rmtree(f"/tmp/{left}-{entry.pw_uid}", ignore_errors=True)
    home.mkdir(mode=0o755)
    for file in (".bashrc", ".profile"):
        (home / file).write_text(PROFILE)
        os.chown(home / file, entry.pw_uid, entry.pw_gid)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    engines.configure_podman(home, entry.pw_uid, entry.pw_gid)
    return User(name, entry.pw_uid, entry.pw_gid, home)
