"""Rows of jobs and of their dependencies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    String,
    Table,
    and_,
    bindparam,
    cast,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSON

from isthmus.db.schema import attempts, dependencies, jobs, sites, users
from isthmus.db.statements import PART, SOME, change_by_id, in_parts

OPEN = ("QUEUED", "STAGING", "PENDING", "RUNNING", "COLLECTING")

# A row of `jobs`; its columns are those that the query names.
JobRow = Any

# What the supervisor keeps of a job is read with these; the spec is left to when it is needed.
_QUEUE_COLUMNS = (
    jobs.c.id,
    jobs.c.user_id,
    jobs.c.state,
    jobs.c.priority,
    jobs.c.submitted_at,
    jobs.c.wake_at,
    jobs.c.mem_bytes,
    jobs.c.zones,
    jobs.c.waiting_for,
    jobs.c.kill_by,
    jobs.c.deadline,
    jobs.c.site_id,
    jobs.c.spec,
)

_INSERT = jobs.insert().returning(jobs.c.id, sort_by_parameter_order=True)
_STATES = select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(SOME))
_SPECS = select(jobs.c.id, jobs.c.spec).where(jobs.c.id.in_(SOME))
_ATTENTION = select(*_QUEUE_COLUMNS).where(jobs.c.attention).order_by(jobs.c.id)
_SEEN = update(jobs).where(jobs.c.id.in_(SOME)).values(attention=False)
_DEPENDENTS = (
    select(dependencies.c.job_id, dependencies.c.on_job_id, dependencies.c.condition)
    .join(jobs, jobs.c.id == dependencies.c.job_id)
    .where(dependencies.c.on_job_id.in_(SOME), dependencies.c.met.is_(False), jobs.c.state == "QUEUED")
)
_NAMED = (
    select(
        jobs,
        users.c.name.label("user_name"),
        sites.c.name.label("site_name"),
        select(attempts.c.progress)
        .where(attempts.c.job_id == jobs.c.id)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .scalar_subquery()
        .label("progress"),  # of the last attempt
    )
    .join(users, users.c.id == jobs.c.user_id)
    .outerjoin(sites, sites.c.id == jobs.c.site_id)
)
_MANY = _NAMED.where(jobs.c.id.in_(SOME))


def insert(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Add jobs; their ids, in the order of the rows."""
    return [row.id for row in conn.execute(_INSERT, list(rows))]


def add_dependencies(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        conn.execute(dependencies.insert(), list(rows))


def of_request(conn: Connection, user_id: int, request_keys: Sequence[str]) -> list[int]:
    """Jobs that were accepted under these keys of the client's, in order of their ids."""
    statement = select(jobs.c.id).where(jobs.c.user_id == user_id, jobs.c.request_key.in_(request_keys))
    return [row.id for row in conn.execute(statement.order_by(jobs.c.id))]


def many(conn: Connection, ids: Iterable[int]) -> dict[int, JobRow]:
    """Whole rows by id, with the user's and the site's name; what does not exist is absent."""
    return {row.id: row for row in in_parts(conn, _MANY, list(ids))}


def states(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Only the states: cheap, for waiting."""
    return {row.id: row.state for row in in_parts(conn, _STATES, ids)}


def specs(conn: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Their specs, as JSON texts."""
    return {row.id: row.spec for row in in_parts(conn, _SPECS, ids)}


def page(
    conn: Connection,
    *,
    states: Sequence[str] = (),
    user: str = "",
    site: str = "",
    name: str = "",
    labels: Sequence[tuple[str, str]] = (),
    array: int = 0,
    since: float | None = None,
    before: int = 0,
    limit: int = 50,
) -> Sequence[JobRow]:
    """The newest first, ids below ``before``; all that is given must match. ``name`` is a part of it, a label of the
    value "" one with any value."""
    wanted: list[ColumnElement[bool]] = []
    if name:
        wanted.append(jobs.c.name.contains(name, autoescape=True))
    if array:
        wanted.append(jobs.c.array_id == array)
    if since is not None:
        wanted.append(jobs.c.submitted_at >= since)
    if before:
        wanted.append(jobs.c.id < before)
    for key, value in labels:
        wanted.append(_label(conn, key) == value if value else _label(conn, key).is_not(None))
    owners = [(jobs.c.user_id, _id_of(users, user))] if user else []
    owners += [(jobs.c.site_id, _id_of(sites, site))] if site else []
    found: list[int] = []
    # A state at a time: each is a stretch of an index, in its order. All in one would be sorted for one page.
    for state in dict.fromkeys(states) or ("",):
        # Few are live, many have ended: the one index or the other has fewer to look through.
        by_state = state in OPEN or not owners
        mine = [(func.coalesce(column, 0) if state and by_state else column) == owner for column, owner in owners]
        if state:
            mine.append((jobs.c.state if by_state else func.coalesce(jobs.c.state, "")) == state)
        one = select(jobs.c.id).where(and_(literal(True), *wanted, *mine))
        found.extend(row.id for row in conn.execute(one.order_by(jobs.c.id.desc()).limit(limit)))
    # What is told of each job is looked up for those of the page alone, however they were found.
    rows = many(conn, sorted(found, reverse=True)[:limit])
    return [rows[job_id] for job_id in sorted(rows, reverse=True)]


def queue(conn: Connection, *, user: str = "", name: str = "", behind: int = 0, limit: int = 50) -> Sequence[JobRow]:
    """QUEUED jobs in the order in which they are placed: higher priority first, then the older.

    ``behind``: those that come after this job only.
    """
    wanted = [jobs.c.state == "QUEUED"]
    if user:
        wanted.append(_of_user(user))
    if name:
        wanted.append(jobs.c.name.contains(name, autoescape=True))
    top = select(func.max(jobs.c.priority)).where(jobs.c.state == "QUEUED")
    priority, first = conn.execute(top).scalar(), 0
    if behind:
        row = conn.execute(select(jobs.c.priority).where(jobs.c.id == behind)).first()
        priority, first = (row.priority, behind) if row else (priority, 0)
    found: list[int] = []
    # A priority at a time: each is a stretch of the index, in its order.
    while priority is not None and len(found) < limit:
        one = select(jobs.c.id).where(*wanted, jobs.c.priority == priority, jobs.c.id > first)
        found.extend(row.id for row in conn.execute(one.order_by(jobs.c.id).limit(limit - len(found))))
        priority, first = conn.execute(top.where(jobs.c.priority < priority)).scalar(), 0
    rows = many(conn, found)
    return [rows[job_id] for job_id in found]


def ended_since(
    conn: Connection, since: float, *, states: Sequence[str], user: str = "", limit: int = 10
) -> Sequence[JobRow]:
    """Jobs that ended so at that time or later, the last first."""
    # Kept from the index on states: the one on the end has them too, and is in order.
    wanted = [jobs.c.ended_at >= since, func.coalesce(jobs.c.state, "").in_(states)]
    if user:
        wanted.append(_of_user(user))
    return _in_order(conn, select(jobs.c.id).where(*wanted).order_by(jobs.c.ended_at.desc()).limit(limit))


def open_since(
    conn: Connection, before: float, *, states: Sequence[str], user: str = "", oldest: bool = True, limit: int = 10
) -> Sequence[JobRow]:
    """Jobs in these states that were submitted before that time, the oldest (or the newest) first."""
    found: list[int] = []
    for state in states:  # one at a time, so that each comes from the index in its order
        statement = select(jobs.c.id).where(jobs.c.state == state, jobs.c.submitted_at < before)
        if user:
            statement = statement.where(_of_user(user))
        order = jobs.c.id if oldest else jobs.c.id.desc()
        found.extend(row.id for row in conn.execute(statement.order_by(order).limit(limit)))
    rows = many(conn, sorted(found, reverse=not oldest)[:limit])
    return [rows[job_id] for job_id in sorted(rows, reverse=not oldest)]


def ended_counts(conn: Connection, since: float, *, user: str = "") -> dict[str, int]:
    """How many jobs ended in each way at that time or later."""
    state = func.coalesce(jobs.c.state, "").label("ended_as")  # as in `ended_since`
    statement = select(state, func.count().label("n")).where(jobs.c.ended_at >= since)
    if user:
        statement = statement.where(_of_user(user))
    return {row.ended_as: row.n for row in conn.execute(statement.group_by(state))}


def _in_order(conn: Connection, ids: Any) -> Sequence[JobRow]:
    found = [row.id for row in conn.execute(ids)]
    rows = many(conn, found)
    return [rows[job_id] for job_id in found]


def open_jobs(conn: Connection) -> Iterable[JobRow]:
    """Every job that has not ended, as the supervisor keeps it; in order of id, streamed."""
    statement = select(*_QUEUE_COLUMNS).where(jobs.c.state.in_(OPEN)).order_by(jobs.c.id)
    return conn.execution_options(yield_per=2000).execute(statement)


def marked(conn: Connection) -> Sequence[JobRow]:
    """The jobs that the supervisor must look at."""
    return conn.execute(_ATTENTION).all()


def take_attention(conn: Connection) -> Sequence[JobRow]:
    """The jobs that the supervisor must look at, each once: the mark is taken off."""
    rows = marked(conn)
    ids = [row.id for row in rows]
    for start in range(0, len(ids), PART):
        conn.execute(_SEEN, {"some": ids[start : start + PART]})
    return rows


def change(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of jobs: each row has an ``id`` and what changes."""
    change_by_id(conn, jobs, rows)


def dependents(conn: Connection, ended: Sequence[int]) -> Sequence[Row[Any]]:
    """Who waits for these: (job_id, on_job_id, condition) of dependencies not met yet, where the job is QUEUED."""
    return list(in_parts(conn, _DEPENDENTS, ended))


def meet(conn: Connection, pairs: Sequence[tuple[int, int]]) -> None:
    """Mark dependencies as met and let their jobs wait for one less."""
    if not pairs:
        return
    conn.execute(
        update(dependencies)
        .where(dependencies.c.job_id == bindparam("b_job"), dependencies.c.on_job_id == bindparam("b_on"))
        .values(met=True),
        [{"b_job": job, "b_on": on} for job, on in pairs],
    )
    conn.execute(
        update(jobs).where(jobs.c.id == bindparam("b_job")).values(waiting_for=jobs.c.waiting_for - 1, attention=True),
        [{"b_job": job} for job, _ in pairs],
    )


def counts(conn: Connection, *, user: str = "", states: Sequence[str] = ()) -> dict[str, int]:
    """How many jobs are in each state, or in each of these."""
    statement = select(jobs.c.state, func.count().label("n")).group_by(jobs.c.state)
    if states:
        statement = statement.where(jobs.c.state.in_(states))
    if user:
        statement = statement.where(_of_user(user))
    return {row.state: row.n for row in conn.execute(statement)}


def _of_user(name: str) -> ColumnElement[bool]:
    """Whose it is, kept from the index on users, where another one is in the order of the question."""
    return func.coalesce(jobs.c.user_id, 0) == _id_of(users, name)


def _id_of(table: Table, name: str) -> ColumnElement[int]:
    """The id of the user or site of that name; none is like NULL."""
    return select(table.c.id).where(table.c.name == name).scalar_subquery()


def _label(conn: Connection, key: str) -> Any:
    if conn.dialect.name == "postgresql":
        return cast(jobs.c.spec, JSON)["labels"][key].astext
    path = '$.labels."' + key.replace('"', "") + '"'
    return cast(func.json_extract(jobs.c.spec, path), String)
