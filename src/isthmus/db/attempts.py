"""Rows of attempts, and of the outputs that they left."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, literal, select, update

from isthmus.db.schema import attempts, jobs, outputs, sites, users, uses
from isthmus.db.statements import SOME, change_by_id, in_parts

# A row of `attempts` with the columns of its job that `_with_job` adds.
AttemptRow = Any


_INSERT = attempts.insert().returning(attempts.c.id, sort_by_parameter_order=True)
_WITH_JOB = (
    select(
        attempts,
        jobs.c.state.label("job_state"),
        jobs.c.kill_by,
        jobs.c.spec.label("job_spec"),
        jobs.c.name.label("job_name"),
        jobs.c.mem_bytes.label("job_mem_bytes"),
        jobs.c.zones.label("job_zones"),
        jobs.c.user_id.label("owner_id"),
        users.c.name.label("owner"),
        sites.c.name.label("site_name"),
    )
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .join(users, users.c.id == jobs.c.user_id)
    .join(sites, sites.c.id == attempts.c.site_id)
)
_BY_KEYS = _WITH_JOB.where(attempts.c.key.in_(SOME))
_LOADS = (
    select(sites.c.name.label("site"), users.c.name.label("user"), attempts.c.state, attempts.c.plan)
    .join(sites, sites.c.id == attempts.c.site_id)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .join(users, users.c.id == jobs.c.user_id)
    .where(attempts.c.live)
)


def insert(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Add live attempts; their ids in order. The database refuses a second live one of a job."""
    return [row.id for row in conn.execute(_INSERT, list(rows))]


def live(conn: Connection) -> Sequence[AttemptRow]:
    """Every live attempt with its job's spec, user and site, for a supervisor that starts."""
    return conn.execute(_WITH_JOB.where(attempts.c.live).order_by(attempts.c.id)).all()


def by_keys(conn: Connection, keys: Sequence[str]) -> dict[str, AttemptRow]:
    """Attempts by key, with what is needed of their jobs."""
    return {row.key: row for row in in_parts(conn, _BY_KEYS, keys)}


def of_job(conn: Connection, job_id: int) -> Sequence[AttemptRow]:
    """All tries of a job, the first first."""
    return conn.execute(_WITH_JOB.where(attempts.c.job_id == job_id).order_by(attempts.c.number)).all()


def change(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of attempts: each row has an ``id`` and what changes."""
    change_by_id(conn, attempts, rows)


def load_of_sites(conn: Connection) -> Sequence[Any]:
    """Live attempts as (site name, user name, state, plan): what placement must count."""
    return conn.execute(_LOADS).all()


def to_clean(conn: Connection, *, before: float, limit: int) -> Sequence[Any]:
    """Ended attempts whose folder at the site may go: (id, key, job_id, job_state, site_id, user_id).

    They ended before that time, their site is still there, nothing that they left lies at the site alone, and no
    live attempt reads any of it (there, perhaps).
    """
    alone = select(outputs.c.id).where(outputs.c.attempt_id == attempts.c.id, outputs.c.collected.is_(False))
    reader = attempts.alias("reader")
    read = (
        select(outputs.c.id)
        .join(uses, uses.c.digest.in_([outputs.c.digest, literal("sha256:") + outputs.c.digest]))
        .join(reader, reader.c.id == uses.c.attempt_id)
        .where(outputs.c.attempt_id == attempts.c.id, reader.c.live)
    )
    statement = (
        select(
            attempts.c.id,
            attempts.c.key,
            attempts.c.job_id,
            attempts.c.site_id,
            attempts.c.user_id,
            jobs.c.state.label("job_state"),
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(sites, sites.c.id == attempts.c.site_id)
        .where(
            attempts.c.live.is_(False),
            attempts.c.cleaned_at.is_(None),
            attempts.c.ended_at < before,
            sites.c.state != "REMOVED",
            ~alone.exists(),
            ~read.exists(),
        )
        .order_by(attempts.c.id)
        .limit(limit)
    )
    return conn.execute(statement).all()


def live_at(conn: Connection, site_id: int) -> int:
    """How many live attempts are at a site."""
    statement = select(func.count()).where(attempts.c.site_id == site_id, attempts.c.live)
    return int(conn.execute(statement).scalar_one())


def add_outputs(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        conn.execute(outputs.insert(), list(rows))


def outputs_of(conn: Connection, job_id: int) -> Sequence[Any]:
    """What the job's last successful attempt left, with the attempt's key and site."""
    statement = (
        select(
            outputs,
            attempts.c.key,
            attempts.c.number.label("attempt_number"),
            attempts.c.site_id,
            attempts.c.user_id,
            sites.c.name.label("site_name"),
        )
        .join(attempts, attempts.c.id == outputs.c.attempt_id)
        .join(sites, sites.c.id == attempts.c.site_id)
        .where(outputs.c.job_id == job_id)
        .order_by(outputs.c.path)
    )
    return conn.execute(statement).all()


def outputs_of_attempt(conn: Connection, attempt_id: int) -> Sequence[Any]:
    """What the runner of one attempt found of its outputs."""
    return conn.execute(select(outputs).where(outputs.c.attempt_id == attempt_id).order_by(outputs.c.id)).all()


def owner_of(conn: Connection, attempt_id: int) -> int:
    """The id of the user whose job it is."""
    statement = select(jobs.c.user_id).join(attempts, attempts.c.job_id == jobs.c.id)
    return int(conn.execute(statement.where(attempts.c.id == attempt_id)).scalar_one())


def mark_collected(conn: Connection, ids: Sequence[int]) -> None:
    if ids:
        conn.execute(update(outputs).where(outputs.c.id.in_(ids)).values(collected=True))
