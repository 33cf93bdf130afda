"""What jobs report of themselves: their metrics over time, and how far they are."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from isthmus.control.jobs import known
from isthmus.control.rights import require
from isthmus.db import attempts as attempt_rows
from isthmus.db import metrics
from isthmus.db.engine import Database
from isthmus.db.times import moment
from isthmus.domain.users import Caller, Role, Scope
from isthmus.domain.views import Ends, Point, Progress, Series


class Measurements:
    """Reads what runners told. Every method checks what the caller may see."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def series(
        self,
        caller: Caller,
        job_id: int,
        *,
        names: Sequence[str] = (),
        points: int = 1000,
        after: int = 0,
        attempt: int = 0,
        system: bool = False,
        between: tuple[float, float] | None = None,
        by_time: bool = False,
    ) -> list[Series]:
        """The series that its last attempt (or number ``attempt``) reported, thinned to about ``points`` each.

        With ``system`` what its runner measured instead. ``between``: only those with steps (or seconds since 1970,
        with ``by_time``) in this range.
        """
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> list[Series]:
            known(conn, job_id)
            rows = attempt_rows.of_job(conn, job_id)
            chosen = [row for row in rows if not attempt or row.number == attempt]
            if not chosen:
                return []
            last = chosen[-1]
            wanted = names or metrics.names(conn, last.id, system=system)
            return [_one_series(conn, last, name, points, after, between, by_time) for name in wanted]

        return await self._db.read(read)

    async def names(self, caller: Caller, job_id: int, *, attempt: int = 0) -> tuple[tuple[str, ...], ...]:
        """The names of the series of its last attempt (or number ``attempt``): the command's own, and the runner's."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> tuple[tuple[str, ...], ...]:
            rows = [row for row in attempt_rows.of_job(conn, job_id) if not attempt or row.number == attempt]
            if not rows:
                return (), ()
            return tuple(metrics.names(conn, rows[-1].id)), tuple(metrics.names(conn, rows[-1].id, system=True))

        return await self._db.read(read)

    async def ends(self, caller: Caller, job_ids: Sequence[int], name: str = "") -> dict[int, dict[str, Ends]]:
        """For each job the last, lowest and highest value of its metrics, or of one; of its last attempt."""
        require(caller, Role.VIEWER, Scope.READ)

        def read(conn: Connection) -> dict[int, dict[str, Ends]]:
            found: dict[int, dict[str, Ends]] = {}
            for job_id, attempt_id in attempt_rows.last_of(conn, job_ids).items():
                found[job_id] = {}
                for one in [name] if name else metrics.names(conn, attempt_id):
                    ends = metrics.ends(conn, attempt_id, one)
                    if ends is not None:
                        found[job_id][one] = Ends(last=ends[0], low=ends[1], high=ends[2])
            return found

        return await self._db.read(read)

    async def progress(self, caller: Caller) -> dict[int, Progress]:
        """How far the running jobs say they are; those that say nothing are left out."""
        require(caller, Role.VIEWER, Scope.READ)
        rows = await self._db.read(attempt_rows.progress)
        return {row.job_id: Progress(**json.loads(row.progress)) for row in rows}


def _one_series(
    conn: Connection,
    attempt: Any,
    name: str,
    points: int,
    after: int,
    between: tuple[float, float] | None,
    by_time: bool,
) -> Series:
    values, count = metrics.series(conn, attempt.id, name, after=after, points=points, between=between, by_time=by_time)
    return Series(
        name=name,
        attempt=attempt.number,
        points=tuple(Point(at=moment(value.at), value=value.value, step=value.step) for value in values),
        count=count,
        last_id=max((value.id for value in values), default=after),
    )
