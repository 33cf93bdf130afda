"""A private sshd: its own port, host key and configuration, and a key that its users log in with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.testbed import scratch
from tests.testbed.daemon import Daemon, run
from tests.testbed.errors import program
from tests.testbed.network import Host
from tests.testbed.ports import answers, free_port
from tests.testbed.server import Server
from tests.testbed.users import User

NOISE = "*** Welcome. Scheduled maintenance on the 1st. ***\nLoading module gcc/12 ... done\n"
BANNER = "Unauthorised use is prohibited.\nYour quota: 41% of 100 GB.\n"


class SshServer(Server):
    """An sshd that `users` may log in to with `key`, each to its own account and home.

    host: the host it runs on (see `network`); None means this machine, at 127.0.0.1.
    env: what its sessions have in their environment (a cluster's `login_env()`, say).
    banner: text that is sent before a login.
    noise: text that the shell prints at each start, also before the output of `ssh HOST COMMAND`.
    max_sessions: how many channels one connection may have at a time (sshd's own default is 10).

    A context manager; up in 0.1 s. What users start goes on over `restart` and `stop_listening`; `stop` kills it.
    """

    def __init__(
        self,
        users: Sequence[User],
        *,
        host: Host | None = None,
        env: Mapping[str, str] | None = None,
        banner: str | None = None,
        noise: str | None = None,
        max_sessions: int = 10,
    ) -> None:
        self.users = list(users)
        self._where = host
        self._env = dict(env or {})
        self._banner, self._noise, self._max_sessions = banner, noise, max_sessions
        self._folder = Path()
        self._daemon: Daemon | None = None
        self.host = host.address if host else "127.0.0.1"
        """The address to connect to."""
        self.port = 0

    # What a client needs to know

    @property
    def user(self) -> User:
        """The first of the users."""
        return self.users[0]

    @property
    def key(self) -> Path:
        """The private key that every user of this server may log in with."""
        return self._folder / "id_ed25519"

    @property
    def host_key(self) -> str:
        """The server's public host key: its type and its base64 text."""
        return " ".join((self._folder / "host_ed25519.pub").read_text().split()[:2])

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file that holds this server's host key."""
        return self._folder / "known_hosts"

    @property
    def config(self) -> Path:
        """An ssh_config with which `ssh -F` needs no further options (see also `write_config`)."""
        return self._folder / "ssh_config"

    def authorized_keys(self, user: User) -> Path:
        """The file of the public keys that the user may log in with. It may be changed at any time."""
        return self._folder / "authorized" / user.name

    def command(self, command: str, *, user: User | None = None) -> list[str]:
        """The OpenSSH client's argv to run `command` through the user's shell over there."""
        name = (user or self.user).name
        return [program("ssh"), "-F", str(self.config), "-l", name, "testbed", command]

    def run(self, command: str, *, user: User | None = None) -> str:
        """Runs `command` through the user's shell over there and returns its stdout. ServerError if it fails."""
        return run(self.command(command, user=user), what=f"{command!r} over ssh")

    # Start and stop

    def start(self) -> None:
        """Makes the keys and the configuration, starts sshd and waits until it takes connections."""
        self._folder = scratch.folder("ssh")
        self.port = free_port()
        authorized = self._folder / "authorized"
        authorized.mkdir(mode=0o755)
        for name in ("id_ed25519", "host_ed25519"):
            run(
                [
                    program("ssh-keygen"),
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    "testbed",
                    "-f",
                    str(self._folder / name),
                ],
                what="making a key",
            )
        public = self.key.with_suffix(".pub").read_text()
        for user in self.users:
            self.authorized_keys(user).write_text(public)
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {self.host_key}\n")
        self.write_config(self.config)
        (self._folder / "sshd_config").write_text(self._sshd_config())
        Path("/run/sshd").mkdir(exist_ok=True)  # compiled into Debian's sshd: where it locks up its helpers
        argv = [program("sshd"), "-D", "-e", "-f", str(self._folder / "sshd_config")]
        self._daemon = Daemon(
            "sshd",
            self._where.command(*argv) if self._where else argv,
            folder=self._folder,
            # Without what is set here for the tests: sshd hands its own PATH and such on to nobody.
            env={"PATH": os.defpath},
            ready=self._listens,
        )
        self._daemon.start()

    def stop(self) -> None:
        """Stops sshd and kills all that its users have started through it. May be called again."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop_listening(self) -> None:
        """Ends sshd and all open connections: what users left running goes on. `resume` undoes it."""
        self._running().stop()
        self.drop_connections()

    def resume(self) -> None:
        """Starts sshd again on the same port, with the same host key."""
        self._running().start()

    def restart(self) -> None:
        """Ends sshd and all open connections, and starts it again: what users left running goes on."""
        self.stop_listening()
        self.resume()

    def drop_connections(self) -> None:
        """Kills the process behind each open connection; sshd itself goes on."""
        daemon = self._running()
        for pid in daemon.below():
            with contextlib.suppress(OSError):
                # sshd before OpenSSH 9.8, sshd-session since.
                if pid != daemon.pid and Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)

    def new_host_key(self) -> None:
        """Gives the server another host key, as an attacker or a reinstalled machine has. Ends all connections."""
        self.stop_listening()
        for name in ("host_ed25519", "host_ed25519.pub"):
            (self._folder / name).unlink()
        run(
            [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / "host_ed25519")],
            what="making a key",
        )
        self.resume()

    def write_config(self, path: Path, *, alias: str = "testbed", jump: SshServer | None = None) -> None:
        """Writes an ssh_config for this server under the name `alias`, through the server `jump` if given."""
        text = self._client_section(alias)
        if jump is not None:
            text += f"  ProxyJump {alias}-jump\n" + jump._client_section(f"{alias}-jump")
        path.write_text(text)

    def _client_section(self, alias: str) -> str:
        return (
            f"Host {alias}\n  HostName {self.host}\n  Port {self.port}\n  User {self.user.name}\n"
            f"  IdentityFile {self.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
            "  StrictHostKeyChecking yes\n  BatchMode yes\n  LogLevel ERROR\n"
        )

    def _running(self) -> Daemon:
        assert self._daemon is not None, "the ssh server is not started"
        return self._daemon

    def _listens(self) -> bool:
        if self._where is None:
            return answers(self.host, self.port)
        # Behind a gate, this machine can't connect: ask the kernel of that network instead.
        argv = self._where.command(program("ss"), "-Hltn", f"sport = :{self.port}")
        return bool(run(argv, what="looking for sshd's port").strip())

    def _sshd_config(self) -> str:
        env = dict(self._env)
        if self._noise is not None:
            (self._folder / "noise").write_text(self._noise)
            env["TESTBED_NOISE"] = str(self._folder / "noise")
        lines = {
            "Port": self.port,
            # On a host of its own it listens on all addresses: a link may be added later.
            "ListenAddress": "0.0.0.0" if self._where else self.host,
            "HostKey": self._folder / "host_ed25519",
            "PidFile": "none",
            "AuthorizedKeysFile": f"{self._folder}/authorized/%u",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "AllowUsers": " ".join(user.name for user in self.users),
            "MaxStartups": "100:30:200",
            "MaxSessions": self._max_sessions,
            "Subsystem": "sftp internal-sftp",
            "PrintMotd": "no",
            "LogLevel": "VERBOSE",
        }
        if self._banner is not None:
            (self._folder / "banner").write_text(self._banner)
            lines["Banner"] = self._folder / "banner"
        if env:
            # One SetEnv line alone counts; its words may be quoted.
            lines["SetEnv"] = " ".join(f'"{name}={value}"' for name, value in env.items())
        return "".join(f"{key} {value}\n" for key, value in lines.items())
