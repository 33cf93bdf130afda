"""slurmdbd with a private MariaDB: the accounting of one SLURM cluster."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.testbed.daemon import Daemon, run
from tests.testbed.errors import program
from tests.testbed.network import Host

DATABASE, USER, PASSWORD = "slurm_acct_db", "slurm", "testbed"


class AccountingDaemon:
    """slurmdbd at `address`:`port` of `host` (None: this machine), its database in `folder`/mysql.

    Blocks for some 3 s to start.
    """

    def __init__(
        self, folder: Path, munge_socket: Path, host: Host | None, address: str, port: int, slurm_conf: Path
    ) -> None:
        self._folder, self._munge_socket, self._conf = folder, munge_socket, slurm_conf
        self._host, self._address, self._port = host, address, port
        self._mariadbd: Daemon | None = None
        self._slurmdbd: Daemon | None = None

    def start(self) -> None:
        """Makes the database, starts its server and then slurmdbd, and waits until it answers."""
        self._start_mariadbd()
        conf = self._folder / "etc" / "slurmdbd.conf"
        settings = {
            "DbdHost": socket.gethostname().partition(".")[0],
            "DbdAddr": self._address,
            "DbdPort": self._port,
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self._munge_socket}",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": USER,
            "StoragePass": PASSWORD,
            "StorageLoc": DATABASE,
            "PidFile": f"{self._folder}/run/slurmdbd.pid",
        }
        conf.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        conf.chmod(0o600)  # slurmdbd refuses to start if others may read its password
        self._slurmdbd = Daemon(
            "slurmdbd",
            self._on_host(program("slurmdbd"), "-D"),
            folder=self._folder / "log",
            env={**os.environ, "SLURM_CONF": str(self._conf), "MYSQL_UNIX_PORT": str(self._socket)},
            ready=lambda: self._sacctmgr_succeeds("-n", "list", "cluster"),
        )
        self._slurmdbd.start()

    def add_cluster(self, name: str) -> None:
        """Makes the cluster known: slurmctld does not start before."""
        self.sacctmgr("add", "cluster", name)

    def sacctmgr(self, *words: str) -> str:
        """Runs `sacctmgr --immediate` and returns its stdout."""
        return run(self._sacctmgr(*words), what="sacctmgr", env=self._env())

    def close(self) -> None:
        """Stops both servers. May be called again."""
        for daemon in (self._slurmdbd, self._mariadbd):
            if daemon is not None:
                daemon.close()

    @property
    def _socket(self) -> Path:
        return self._folder / "mysql" / "sock"

    def _env(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self._conf)}

    def _on_host(self, *argv: str) -> list[str]:
        return self._host.command(*argv) if self._host else list(argv)

    def _sacctmgr(self, *words: str) -> list[str]:
        return self._on_host(program("sacctmgr"), "--immediate", *words)

    def _sacctmgr_succeeds(self, *words: str) -> bool:
        done = subprocess.run(self._sacctmgr(*words), env=self._env(), capture_output=True, check=False)
        return done.returncode == 0

    def _start_mariadbd(self) -> None:
        folder = self._folder / "mysql"
        folder.mkdir()
        shutil.chown(folder, "mysql", "mysql")
        data = folder / "data"
        run(
            [program("mariadb-install-db"), "--no-defaults", "--user=mysql", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            what="making the accounting database",
        )  # fmt: skip
        client = [program("mariadb"), "--no-defaults", f"--socket={self._socket}"]
        self._mariadbd = Daemon(
            "mariadbd",
            [program("mariadbd"), "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={self._socket}",
             f"--pid-file={folder}/pid", "--skip-networking", "--innodb-buffer-pool-size=64M",
             # slurmdbd asks for both; nothing here has to outlive a power cut.
             "--innodb-log-file-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0"],
            folder=self._folder / "log",
            ready=lambda: subprocess.run([*client, "-e", "select 1"], capture_output=True, check=False).returncode == 0,
        )  # fmt: skip
        self._mariadbd.start()
        sql = (
            f"create database {DATABASE}; create user '{USER}'@'localhost' identified by '{PASSWORD}'; "
            f"grant all on {DATABASE}.* to '{USER}'@'localhost'"
        )
        run([*client, "-e", sql], what="making the accounting user")
