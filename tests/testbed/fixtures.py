"""The real servers as pytest fixtures, for a conftest to import whole.

Each starts when the first test asks for it, and serves the whole session. A test that breaks a server beyond mending,
or needs another shape of it, starts its own from `tests.testbed`: most are up within a second. What a test did to a
fixture's server (`break_squeue`, `cut`) it undoes itself.

A missing package fails the tests that need it, with the command that installs it. Apptainer alone may be missing, since
not every machine can get it: those tests are skipped, and `tests/system/conftest.py` has the run's last lines say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import engines, images, scratch
from tests.testbed.control import ControlPlane
from tests.testbed.gridengine import GridEngineCell
from tests.testbed.network import Network
from tests.testbed.postgres import PostgresServer
from tests.testbed.slurm import SlurmCluster
from tests.testbed.ssh import SshServer
from tests.testbed.users import User, lease

APPTAINER_MISSING = "apptainer is not installed (scripts/install-apptainer)"


@pytest.fixture(scope="session")
def users() -> list[User]:
    """Three normal users with fresh homes, which no other test run has."""
    return lease(3)


@pytest.fixture(scope="session")
def user(users: list[User]) -> User:
    """The first of the users."""
    return users[0]


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """A SLURM cluster on this machine: two nodes with two typed GPUs each, partitions gpu and debug, sacct off."""
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_dbd() -> Iterator[SlurmCluster]:
    """A SLURM cluster with slurmdbd, one node, and GPUs without a type."""
    with SlurmCluster(nodes=1, gpu_type=None, accounting="dbd") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_isolated() -> Iterator[SlurmCluster]:
    """A SLURM cluster whose two nodes have no route to this machine: only its head has."""
    with SlurmCluster(isolated=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ssh_server(users: list[User]) -> Iterator[SshServer]:
    """An sshd on this machine: a host without a batch system."""
    with SshServer(users) as server:
        yield server


@pytest.fixture(scope="session")
def slurm_login(slurm: SlurmCluster, users: list[User]) -> Iterator[SshServer]:
    """The login node of the cluster `slurm`."""
    with SshServer(users, env=slurm.login_env()) as server:
        yield server


@pytest.fixture(scope="session")
def slurm_isolated_login(slurm_isolated: SlurmCluster, users: list[User]) -> Iterator[SshServer]:
    """The login node of the cluster `slurm_isolated`."""
    with SshServer(users, host=slurm_isolated.head, env=slurm_isolated.login_env()) as server:
        yield server


@pytest.fixture(scope="session")
def gridengine() -> Iterator[GridEngineCell]:
    """A Grid Engine cell with four slots and two GPUs."""
    with GridEngineCell() as cell:
        yield cell


@pytest.fixture(scope="session")
def gridengine_login(gridengine: GridEngineCell, users: list[User]) -> Iterator[SshServer]:
    """The login node of the cell `gridengine`."""
    with SshServer(users, env=gridengine.login_env()) as server:
        yield server


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Two hosts on a bridge with this machine."""
    with Network(hosts=2) as hosts:
        yield hosts


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> PostgresServer:
    """The PostgreSQL server with an empty database."""
    postgres_server.reset()
    return postgres_server


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane on SQLite with the site `local`; tests add sites of names that no other test uses."""
    with ControlPlane(scratch.folder("plane")) as running:
        yield running


@pytest.fixture(scope="session")
def image_folder() -> Path:
    """Where the images below lie: readable by every user."""
    engines.prepare_machine()
    return scratch.folder("images")


@pytest.fixture(scope="session")
def rootfs(image_folder: Path) -> Path:
    """A folder that is a root file system with python3."""
    return images.rootfs(image_folder / "root")


@pytest.fixture(scope="session")
def sqfs(rootfs: Path, image_folder: Path) -> Path:
    """The same as a SquashFS file."""
    return images.squashfs(rootfs, image_folder / "root.sqfs")


@pytest.fixture(scope="session")
def oci_archive(rootfs: Path, image_folder: Path) -> Path:
    """The same as an OCI archive, which podman loads as localhost/testbed:1."""
    return images.oci_archive(rootfs, image_folder / "root.tar")


@pytest.fixture(scope="session")
def sif(rootfs: Path, image_folder: Path) -> Path:
    """The same as an Apptainer image. Skips where there is no Apptainer."""
    if not images.apptainer_installed():
        pytest.skip(APPTAINER_MISSING)
    return images.sif(rootfs, image_folder / "root.sif")
