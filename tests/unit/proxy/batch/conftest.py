"""Outputs that real servers printed, recorded with the settings of the test bed. They are never edited to fit."""

from collections.abc import Callable
from pathlib import Path

import pytest

RECORDED = Path(__file__).with_name("recorded")


@pytest.fixture
def recorded() -> Callable[[str], str]:
    return lambda name: (RECORDED / name).read_text()
