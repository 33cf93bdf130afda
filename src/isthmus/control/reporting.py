"""What runners push: reports and logs, taken in by the attempt's own token."""

from typing import Any

from sqlalchemy import Connection

from isthmus.control.lifecycle import Said, Standing, judge
from isthmus.control.live import read_spec
from isthmus.control.recording import Record
from isthmus.control.tokens import AttemptTokens
from isthmus.db import attempts as attempt_rows
from isthmus.db import logs as log_rows
from isthmus.db.engine import Database
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.domain.clock import Clock
from isthmus.domain.errors import NotFound, Unauthenticated
from isthmus.domain.states import AttemptState


class Reporting:
    """Where runners report to."""

    def __init__(self, db: Database, tokens: AttemptTokens, clock: Clock) -> None:
        self._db = db
        self._tokens = tokens
        self._clock = clock

    async def report(self, key: str, token: str, begin: int, lines: bytes) -> int:
        """Reports pushed by a runner. Answers with the offset wanted next. Raises Unauthenticated, NotFound.

        Reports that a pushed end can't decide alone are left to the supervisor, which asks the site.
        """
        now = self._clock.now().timestamp()

        def write(conn: Connection) -> int:
            row = self._attempt(conn, key, token)
            if begin > row.reports:
                return int(row.reports)
            spec = read_spec(row.job_spec)
            standing = Standing(
                state=AttemptState(row.state),
                reports=row.reports,
                kill_requested=bool(row.kill_by),
                collects=bool(spec.outputs),
                native_state=row.native_state,
            )
            verdict = judge(standing, Said(), begin, lines, now)
            unit = Record(conn, now, actor=row.site_name)
            unit.verdict(row, verdict, spec.retry)
            unit.flush()
            tell(conn, f"job:{row.job_id}", *([SUPERVISOR] if verdict.state is not None else []))
            return max(int(row.reports), begin + len(lines))

        return await self._db.write(write)

    async def push_log(self, key: str, token: str, begin: int, data: bytes) -> int:
        """Bytes of a log pushed by a runner. Answers with the offset wanted next."""

        def write(conn: Connection) -> int:
            row = self._attempt(conn, key, token)
            return log_rows.append(conn, row.id, begin, data)

        return await self._db.write(write)

    def _attempt(self, conn: Connection, key: str, token: str) -> Any:
        row = attempt_rows.by_keys(conn, [key]).get(key)
        if row is None:
            raise NotFound("There is no such attempt.", place="attempt")
        if not row.live or not self._tokens.matches(row.token_hash, token):
            raise Unauthenticated("This token is not good for this attempt any more.", code="attempt-over")
        return row
