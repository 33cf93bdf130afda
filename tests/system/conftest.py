"""The system tests run against the real servers of `tests.testbed`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testbed.fixtures import *  # noqa: F403
from tests.testbed.fixtures import APPTAINER_MISSING


@pytest.fixture(autouse=True)
def _folders_that_users_reach(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Several users take part: the folders above a test's own let them pass, however deep it lies."""
    folder = tmp_path_factory.getbasetemp()
    while folder.name and folder.parent.name:
        folder.chmod(0o755)
        folder = folder.parent


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
