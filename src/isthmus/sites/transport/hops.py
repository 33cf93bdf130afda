"""The way to a machine by SSH: through each jump host in turn, every host key pinned, one error a person can act on.

    this machine ──► hops[0] ──tunnel──► hops[1] ──tunnel──► … the login node

Keys are offered in this order: the pair made here for the user, the key file, the agent's. ~/.ssh/config is not
read: what a site's `reach` says is all that counts.
"""

import asyncio
import contextlib
import getpass
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.domain.errors import IsthmusError, Unavailable, Unreachable
from isthmus.domain.sites import Hop, Reach
from isthmus.sites import keys
from isthmus.sites.base import HostKey, Identity

try:
    import asyncssh
except ModuleNotFoundError as error:
    raise Unavailable(
        "A site over SSH needs the library asyncssh, which is not installed.",
        hint="Install it with: pip install 'isthmus[ssh]'",
        code="extra-missing",
    ) from error

# It tells of each connection and command, which is its users' business to tell or not.
logging.getLogger("asyncssh").setLevel(logging.WARNING)

KEEPALIVE_S = 10.0  # of silence before the far side is asked whether it is there
KEEPALIVES = 3  # that go unanswered before the connection counts as cut
GOODBYE_S = 2.0


@dataclass
class Way:
    """An open connection to the last hop, and those to the jump hosts that it goes through."""

    where: str
    connections: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    guards: list["HostKeyGuard"] = field(default_factory=list)

    @property
    def last(self) -> asyncssh.SSHClientConnection:
        return self.connections[-1]

    @property
    def open(self) -> bool:
        return not any(guard.closed for guard in self.guards)

    @property
    def why_lost(self) -> str:
        """Why it was lost: the nearest hop knows best, since the others only saw their tunnel break."""
        return next((guard.why for guard in self.guards if guard.why), "the other side closed it")

    async def close(self) -> None:
        """Say goodbye to each hop, the last one first; who does not answer soon is left."""
        for connection in reversed(self.connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                for connection in reversed(self.connections):
                    await connection.wait_closed()
        for connection in self.connections:
            connection.abort()


class HostKeyGuard(asyncssh.SSHClient):
    """Compares the key that a hop shows with the pinned one, and remembers why the connection ended."""

    def __init__(self, pinned: str) -> None:
        self.pinned = pinned
        self.shown = ""
        self.closed = False
        self.why = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = keys.normal(key.export_public_key("openssh").decode())
        return self.shown == self.pinned

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if exc is not None:
            self.why = str(exc)


async def connect(reach: Reach, identity: Identity, *, keepalive_s: float = KEEPALIVE_S) -> Way:
    """Log in to the last hop, through the others.

    Raises Unreachable, whose code says what a person can do: `host-key-unknown`, `host-key-changed`,
    `key-not-authorised`, `no-key`, `name-unknown`, `refused`, `timeout`, `tunnel-refused`, `connect-failed`.
    """
    way = Way(place(reach.hops[-1]))
    try:
        for number in range(len(reach.hops)):
            await _log_in(way, reach, identity, number, keepalive_s)
    except BaseException:
        await asyncio.shield(way.close())
        raise
    return way


async def host_keys(reach: Reach, identity: Identity) -> tuple[HostKey, ...]:
    """The keys that all hops show, for a person to compare and to pin. Logs in to the jump hosts alone.

    A hop whose key is pinned must show that one. Raises Unreachable as `connect` does.
    """
    way = Way(place(reach.hops[-1]))
    found: list[HostKey] = []
    try:
        for number, hop in enumerate(reach.hops):
            shown = await _shown_key(way, reach, number)
            pinned = _pinned(hop, identity)
            if pinned and pinned != shown:
                raise _changed(_label(reach, number), hop, pinned, shown)
            found.append(HostKey(hop.host, hop.port, shown, keys.fingerprint(shown)))
            if number < len(reach.hops) - 1:
                trusting = Identity(identity.user, identity.private_key, {place(hop): shown})
                await _log_in(way, reach, trusting, number, KEEPALIVE_S)
    finally:
        await asyncio.shield(way.close())
    return tuple(found)


def place(hop: Hop) -> str:
    """`host:port`, by which keys are pinned."""
    return f"{hop.host}:{hop.port}"


async def _log_in(way: Way, reach: Reach, identity: Identity, number: int, keepalive_s: float) -> None:
    hop, label = reach.hops[number], _label(reach, number)
    user = _user(reach, identity, number)
    pinned = _pinned(hop, identity)
    if not pinned:
        shown = await _shown_key(way, reach, number)
        raise Unreachable(
            f"The host key of {label} is not pinned yet; it shows {keys.fingerprint(shown)}.",
            hint="Compare it with what the site's administrators publish, then accept it.",
            code="host-key-unknown",
        )
    guard = HostKeyGuard(pinned)
    private, agent = _offered(reach, identity, label)

    async def attempt() -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            **_address(hop, way),
            client_factory=lambda: guard,
            # Not None, which would trust anybody: no key is known, so that each comes before the guard.
            known_hosts=([], [], []),
            server_host_key_algs=_algorithms(pinned),
            username=user,
            client_keys=private,
            agent_path=agent,
            preferred_auth=("publickey",),
            # Otherwise certificates are looked for in ~/.ssh, and Kerberos is tried.
            x509_trusted_certs=None,
            x509_trusted_cert_paths=None,
            gss_kex=False,
            gss_auth=False,
            keepalive_interval=keepalive_s,
            keepalive_count_max=KEEPALIVES,
        )

    try:
        connection = await _timed(attempt, reach, label)
    except asyncssh.HostKeyNotVerifiable as error:
        raise _changed(label, hop, pinned, guard.shown or "none that we can read") from error
    except asyncssh.PermissionDenied as error:
        raise _denied(label, user, identity, error) from error
    way.connections.append(connection)
    way.guards.append(guard)


async def _shown_key(way: Way, reach: Reach, number: int) -> str:
    hop, label = reach.hops[number], _label(reach, number)
    pinned = hop.host_key
    # The key of the pinned type if there is one, else the best that the machine has.
    algorithms = _algorithms(keys.normal(pinned)) if pinned else _algorithms("")
    key = await _timed(
        lambda: asyncssh.get_server_host_key(**_address(hop, way), server_host_key_algs=algorithms), reach, label
    )
    if key is None:
        raise Unreachable(f"{label} shows no host key.", code="connect-failed")
    return keys.normal(key.export_public_key("openssh").decode())


async def _timed(attempt: Callable[[], Awaitable[Any]], reach: Reach, label: str) -> Any:
    limit = int(reach.connect_timeout) or None
    try:
        async with asyncio.timeout(limit):
            return await attempt()
    except (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied):
        raise
    except TimeoutError as error:
        raise Unreachable(
            f"{label} did not answer within {limit} s.",
            hint="Is it up, and does a firewall or a VPN stand in the way?",
            code="timeout",
        ) from error
    except asyncssh.ChannelOpenError as error:
        raise Unreachable(
            f"The jump host before it could not connect to {label}: {error.reason}.",
            hint="Is the name right as seen from the jump host, and does it allow forwarding?",
            code="tunnel-refused",
        ) from error
    except ConnectionRefusedError as error:
        raise Unreachable(
            f"{label} refuses connections.", hint="Is sshd running there, on this port?", code="refused"
        ) from error
    except OSError as error:
        code = "name-unknown" if type(error).__name__ == "gaierror" else "connect-failed"
        raise Unreachable(f"{label} can't be reached: {error.strerror or error}.", code=code) from error
    except asyncssh.Error as error:
        raise Unreachable(f"{label} can't be reached: {error.reason or error}.", code="connect-failed") from error
    except ValueError as error:  # a name that can't be one, or nobody knows who runs this process
        raise Unreachable(f"{label} can't be reached: {error}.", code="connect-failed") from error


def _address(hop: Hop, way: Way) -> dict[str, Any]:
    return {"host": hop.host, "port": hop.port, "tunnel": way.last if way.connections else None, "config": None}


def _label(reach: Reach, number: int) -> str:
    here = place(reach.hops[number])
    return here if number == len(reach.hops) - 1 else f"the jump host {here}"


def _user(reach: Reach, identity: Identity, number: int) -> str:
    hop = reach.hops[number]
    # The spec is everybody's, the identity is this user's: at the site itself the latter wins.
    names = (identity.user, hop.user) if number == len(reach.hops) - 1 else (hop.user, identity.user)
    return names[0] or names[1] or getpass.getuser()


def _pinned(hop: Hop, identity: Identity) -> str:
    line = hop.host_key or identity.host_keys.get(place(hop), "")
    return keys.normal(line) if line else ""


def _algorithms(pinned: str) -> Sequence[str]:
    """Signature algorithms, those of the pinned key first: so a machine with several keys shows that one."""
    known = [name.decode() for name in asyncssh.public_key.get_default_public_key_algs()]
    if not pinned:
        return known
    first = [name.decode() for name in asyncssh.import_public_key(pinned).sig_algorithms]
    return first + [name for name in known if name not in first]


def _offered(reach: Reach, identity: Identity, label: str) -> tuple[list[asyncssh.SSHKey], str | None]:
    private: list[asyncssh.SSHKey] = []
    if identity.private_key is not None:
        private.append(asyncssh.import_private_key(identity.private_key))
    if reach.key_file:
        private.append(_read_key(Path(reach.key_file).expanduser()))
    agent = os.environ.get("SSH_AUTH_SOCK") if reach.agent else None
    if reach.agent and not agent:
        raise Unreachable(
            f"No agent runs for the control plane, so there is no key for {label}.",
            hint="Start it where SSH_AUTH_SOCK is set, or give the site a key_file.",
            code="no-key",
        )
    if not private and not agent:
        raise Unreachable(
            f"There is no key to log in to {label} with.",
            hint="Give the site a key_file, set agent: true, or have a pair made.",
            code="no-key",
        )
    return private, agent


def _read_key(path: Path) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path)
    except OSError as error:
        raise Unreachable(
            f"The key file {path} can't be read: {error.strerror}.", hint="Correct key_file.", code="no-key"
        ) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Unreachable(
            f"The key file {path} can't be used: {error}.",
            hint="A key with a passphrase belongs into an agent: set agent: true.",
            code="no-key",
        ) from error


def _denied(label: str, user: str, identity: Identity, error: asyncssh.PermissionDenied) -> IsthmusError:
    hint = "Is the user name right, and is the public key in ~/.ssh/authorized_keys there?"
    if identity.private_key is not None:
        hint = f"Add this line to ~/.ssh/authorized_keys there: {keys.public_line(identity.private_key)}"
    return Unreachable(f"{label} did not let {user!r} in: {error.reason}.", hint=hint, code="key-not-authorised")


def _changed(label: str, hop: Hop, pinned: str, shown: str) -> IsthmusError:
    seen = keys.fingerprint(shown) if shown.startswith(("ssh-", "ecdsa-", "sk-")) else shown
    return Unreachable(
        f"The host key of {label} has changed: {keys.fingerprint(pinned)} is pinned, it now shows {seen}. "
        "Somebody may be listening in, or the machine was set up anew; nothing was sent.",
        hint=f"Ask the site's administrators. If {seen} is right, set it as the host_key of {hop.host}.",
        code="host-key-changed",
    )
