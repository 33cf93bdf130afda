"""A work folder whose runners the tests start themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.proxies import SiteFolder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteFolder]:
    made = SiteFolder(tmp_path / "w")
    yield made
    made.close()
