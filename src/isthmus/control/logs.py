"""Logs: bytes by offset, from what was kept here, and from the site beyond that.

    pushed by the runner ──► log_chunks ──┐
                                          ├─► one log, as the reader sees it
    the job folder at the site ───────────┘

When an attempt ends, what the site has beyond the kept part is brought here, up to a bound, since job folders
are cleaned.
"""

import asyncio

from isthmus.control.sessions import Sessions
from isthmus.db import attempts as attempt_rows
from isthmus.db import logs as log_rows
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import NotFound, SiteError
from isthmus.domain.views import LogSlice
from isthmus.sites.base import Site

KEPT = 16 * 1024 * 1024  # bytes of each attempt's log that are kept here
PIECE = 1024 * 1024
LOOK_S = 1.0  # between looks at a site for a reader that waits


class Logs:
    """Reads logs wherever they are, and keeps them."""

    def __init__(self, db: Database, sessions: Sessions, clock: Clock) -> None:
        self._db = db
        self._sessions = sessions
        self._clock = clock

    async def read(self, job_id: int, *, attempt: int, offset: int, limit: int, name: str, wait_s: float) -> LogSlice:
        """A slice of one attempt's log; attempt 0 is the last one. Waits for bytes while the attempt is live."""
        deadline = self._clock.monotonic() + wait_s
        while True:
            row = await self._row(job_id, attempt)
            if row is None:
                if self._clock.monotonic() >= deadline or attempt:
                    if attempt:
                        raise NotFound(f"Job {job_id} has no attempt {attempt}.", place="attempt")
                    return LogSlice(attempt=0, offset=0, data=b"", size=0, ended=False)
                await self._pause(f"job:{job_id}", deadline)
                continue
            part = await self._slice(row, offset, limit, name)
            left = deadline - self._clock.monotonic()
            if part.data or part.ended or left <= 0:
                return part
            offset = part.offset if offset < 0 else offset
            await self._pause(log_rows.topic(row.id), deadline)

    async def keep(self, row: attempt_rows.AttemptRow, site: Site) -> None:
        """Bring what the site has beyond the kept part, up to the bound. Raises SiteError."""
        begin = int(row.log)
        while begin < KEPT:
            part = await site.logs(row.key, offset=begin, limit=PIECE)
            if not part.data:
                return
            begin = await self._db.write(log_rows.append, row.id, part.offset, part.data)

    async def _row(self, job_id: int, attempt: int) -> attempt_rows.AttemptRow | None:
        rows = await self._db.read(attempt_rows.of_job, job_id)
        if attempt:
            return next((row for row in rows if row.number == attempt), None)
        return rows[-1] if rows else None

    async def _slice(self, row: attempt_rows.AttemptRow, offset: int, limit: int, name: str) -> LogSlice:
        kept = int(row.log) if name == "log" else 0
        if 0 <= offset < kept:
            data = await self._db.read(log_rows.read, row.id, offset, limit)
            return LogSlice(attempt=row.number, offset=offset, data=data, size=kept, ended=False)
        try:
            site = await self._sessions.of(row.site_id, row.user_id)
            part = await site.logs(row.key, offset=offset, limit=limit, name=name)
        except SiteError:
            if row.live:
                raise
            return await self._kept(row, offset, limit, kept)
        if part.size < kept:  # its folder was cleaned
            return await self._kept(row, offset, limit, kept)
        ended = not row.live and part.offset + len(part.data) >= part.size
        return LogSlice(attempt=row.number, offset=part.offset, data=part.data, size=part.size, ended=ended)

    async def _kept(self, row: attempt_rows.AttemptRow, offset: int, limit: int, kept: int) -> LogSlice:
        begin = max(0, kept + offset) if offset < 0 else min(offset, kept)
        data = await self._db.read(log_rows.read, row.id, begin, limit) if begin < kept else b""
        ended = not row.live and begin + len(data) >= kept
        return LogSlice(attempt=row.number, offset=begin, data=data, size=kept, ended=ended)

    async def _pause(self, topic: str, deadline: float) -> None:
        left = max(0.0, deadline - self._clock.monotonic())
        with self._db.watch(topic) as news:
            try:
                async with asyncio.timeout(min(LOOK_S, left)):
                    await news.wait()
            except TimeoutError:
                return
