"""The system tests run against the real servers of `tests.testbed`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.testbed.control import ControlPlane
from tests.testbed.fixtures import *  # noqa: F403
from tests.testbed.fixtures import APPTAINER_MISSING
from tests.testbed.slurm import SlurmCluster
from tests.testbed.waiting import wait_for

_FAILED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def _folders_that_users_reach(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Several users take part: the folders above a test's own let them pass, however deep it lies."""
    folder = tmp_path_factory.getbasetemp()
    while folder.name and folder.parent.name:
        folder.chmod(0o755)
        folder = folder.parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def _a_test_that_failed_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Its sites and its jobs go: it may run again, and no other test waits behind what it held."""
    plane = request.getfixturevalue("plane") if "plane" in request.fixturenames else None
    if not isinstance(plane, ControlPlane):  # a test's own may be anything
        plane = None
    slurm: SlurmCluster | None = request.getfixturevalue("slurm") if "slurm" in request.fixturenames else None
    sites = plane.sites() if plane else set()
    jobs = slurm.jobs() if slurm else set()
    yield
    if not request.node.stash.get(_FAILED, False):
        return
    if plane:
        with plane.client() as client:
            for site in plane.sites() - sites:
                client.jobs.kill(*(job.id for job in client.jobs.list(site=site, limit=200).jobs))
                client.sites.remove(site, force=True)
    if slurm and (left := slurm.jobs() - jobs):
        slurm.command("scancel", *left)
        wait_for(lambda: not left & slurm.jobs(), "what a failed test left in the queue to end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(APPTAINER_MISSING in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests did not run: {APPTAINER_MISSING}", red=True)
