"""The real app on SQLite, without a supervisor, spoken to in this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from isthmus.app import App
from isthmus.settings import Settings


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    settings = Settings(data=tmp_path / "data", supervisor=False, local_site=False, max_body=100_000, max_chunk=200_000)
    async with App.opened(settings) as opened:
        yield opened


@pytest.fixture
async def http(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP to it, as the admin."""
    headers = {"Authorization": f"Bearer {app.token}"}
    transport = httpx.ASGITransport(app.api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
        yield client
