"""Cleaning: the folders of attempts that ended long ago go from their sites.

Kept are those whose outputs lie at the site alone, and checkpoints of jobs that may be tried again.
"""

import logging
from typing import Any

from isthmus.control.sessions import Sessions
from isthmus.db import attempts as attempt_rows
from isthmus.db.engine import Database
from isthmus.domain.errors import IsthmusError
from isthmus.domain.states import JobState

log = logging.getLogger(__name__)

AT_ONCE = 200


async def sweep(db: Database, sessions: Sessions, now: float, keep_s: float) -> int:
    """Remove what ended more than ``keep_s`` seconds ago; how many. A site that fails is left for later."""
    cleaned = 0
    failed: set[tuple[int, int]] = set()
    while True:
        rows = await db.read(lambda conn: attempt_rows.to_clean(conn, before=now - keep_s, limit=AT_ONCE))
        places: dict[tuple[int, int], list[Any]] = {}
        for row in rows:
            if (row.site_id, row.user_id) not in failed:
                places.setdefault((row.site_id, row.user_id), []).append(row)
        if not places:
            return cleaned
        for (site_id, user_id), there in places.items():
            checkpoints = {row.job_id for row in there if row.job_state == JobState.COMPLETED}
            try:
                site = await sessions.of(site_id, user_id)
                await site.clean([row.key for row in there], checkpoints=sorted(checkpoints))
            except IsthmusError as error:
                log.info("site %s is not cleaned now: %s", site_id, error)
                failed.add((site_id, user_id))
                continue
            changes = [{"id": row.id, "cleaned_at": now} for row in there]
            await db.write(attempt_rows.change, changes)
            cleaned += len(there)
