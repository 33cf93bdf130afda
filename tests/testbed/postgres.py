"""A private PostgreSQL server on a free port, as the user postgres, with everything that makes it durable off."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.testbed import scratch
from tests.testbed.daemon import Daemon, run
from tests.testbed.errors import MissingProgram, program
from tests.testbed.ports import free_port
from tests.testbed.server import Server

DATABASE = "isthmus"
VERSIONS = Path("/usr/lib/postgresql")


class PostgresServer(Server):
    """PostgreSQL with one empty database. A context manager; up in about a second."""

    def __init__(self) -> None:
        self.port = 0
        self._folder = Path()
        self._daemon: Daemon | None = None

    @property
    def url(self) -> str:
        """The database's URL for SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Makes a cluster of databases, starts its server and waits until it answers."""
        self._folder = scratch.folder("postgres")
        shutil.chown(self._folder, "postgres", "postgres")
        data = self._folder / "data"
        self.port = free_port()
        as_postgres = [program("setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        run(
            [*as_postgres, _server_program("initdb"), "-D", str(data), "-A", "trust", "--no-sync", "-U", "postgres",
             "-E", "UTF8", "--locale=C.UTF-8"],
            what="making the PostgreSQL data folder",
        )  # fmt: skip
        self._daemon = Daemon(
            "postgres",
            [*as_postgres, _server_program("postgres"), "-D", str(data), "-p", str(self.port), "-k", str(self._folder),
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off",
             "-c", "max_connections=200"],
            folder=self._folder,
            ready=self._answers,
        )  # fmt: skip
        self._daemon.start()
        self.reset()

    def stop(self) -> None:
        """Stops the server and deletes its data. May be called again."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None
        if self._folder.name:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stop_server(self) -> None:
        """Stops the server and keeps its data: connections break and new ones are refused until `resume`."""
        self._running().stop()

    def resume(self) -> None:
        """Starts the server again on the same port with the same data."""
        self._running().start()

    def restart(self) -> None:
        """Stops and starts the server: open connections break, the data stays."""
        self._running().restart()

    def reset(self) -> None:
        """Throws the database away, whoever is connected to it, and makes an empty one."""
        self.sql(f"drop database if exists {DATABASE} with (force)", database="postgres")
        self.sql(f"create database {DATABASE}", database="postgres")

    def sql(self, statement: str, *, database: str = DATABASE) -> str:
        """Runs one statement with psql and returns its rows, one a line, columns parted by `|`."""
        return run([*self._psql(database), "-c", statement], what="psql").rstrip("\n")

    def _psql(self, database: str) -> list[str]:
        return [program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-XAtq",
                "-v", "ON_ERROR_STOP=1", "-d", database]  # fmt: skip

    def _answers(self) -> bool:
        done = subprocess.run([*self._psql("postgres"), "-c", "select 1"], capture_output=True, check=False)
        return done.returncode == 0

    def _running(self) -> Daemon:
        assert self._daemon is not None, "the PostgreSQL server is not started"
        return self._daemon


def _server_program(name: str) -> str:
    """The path of a program of the newest PostgreSQL server that is installed: Debian keeps them out of PATH."""
    found = sorted(VERSIONS.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise MissingProgram(
            f"the PostgreSQL server ({VERSIONS}/*/bin/{name}) is not installed. "
            "Run scripts/install-system-packages as root (make test does), then run the tests again."
        )
    return str(found[-1])
