"""Contract tests: one suite for every kind of part that stands behind the same interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.db.engine import Database
from tests.testbed.fixtures import *  # noqa: F403


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: a file, or one of a real PostgreSQL server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'isthmus.db'}"
    return str(request.getfixturevalue("postgres").url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """An open database with empty tables."""
    database = await Database.open(database_url)
    yield database
    await database.close()
