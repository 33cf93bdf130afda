"""A work folder with the archive in it, as the control plane leaves it at a site."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.proxies import SiteFolder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteFolder]:
    made = SiteFolder(tmp_path / "w")
    yield made
    made.close()


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[SiteFolder]:
    """A work folder on a disk of its own of 4 MB. Mounting needs root; elsewhere the test fails, not vanishes."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "testbed", str(place)], check=True)
    made = SiteFolder(place / "w")
    yield made
    made.close()
    subprocess.run(["umount", "--lazy", str(place)], check=True)
