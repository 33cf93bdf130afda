"""Regions that are the same for all who ask at the same moment: made once, told to each.

After one piece of news a hundred open pages ask for the same region. Whoever comes while it is made, or a moment
after, gets what the first one got.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable

from starlette.responses import HTMLResponse, Response

FRESH_S = 1.0  # as long as news is gathered: older than that nobody may be told
MOST = 500  # regions that are kept


class Shared:
    """Keeps regions for a moment. What is kept under a key must hold nothing of who asks but what the key says."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, asyncio.Future[Response]]] = {}

    async def of(self, key: Hashable, make: Callable[[], Awaitable[Response]]) -> Response:
        """The region under this key. Raises what making it raises."""
        began, making = self._kept.get(key, (0.0, None))
        if making is None or time.monotonic() - began > FRESH_S or (making.done() and making.exception()):
            if len(self._kept) >= MOST:
                self._kept.clear()
            making = asyncio.ensure_future(make())
            self._kept[key] = (time.monotonic(), making)
        return HTMLResponse((await asyncio.shield(making)).body)
