"""Rows of attempts, and of the outputs that they left."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Float, cast, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import JSON

from isthmus.db.schema import attempts, jobs, outputs, sites, users, uses
from isthmus.db.statements import SOME, change_by_id, in_parts

# A row of `attempts` with the columns of its job that `_WITH_JOB` adds.
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


def last_of(conn: Connection, job_ids: Sequence[int]) -> dict[int, int]:
    """The id of the last attempt of each of these jobs that has one."""
    statement = select(attempts.c.job_id, func.max(attempts.c.id).label("last")).where(attempts.c.job_id.in_(job_ids))
    return {row.job_id: row.last for row in conn.execute(statement.group_by(attempts.c.job_id))}


def progress(conn: Connection) -> Sequence[Any]:
    """(job_id, progress) of the live attempts that say how far they are."""
    statement = select(attempts.c.job_id, attempts.c.progress).where(attempts.c.live, attempts.c.progress != "")
    return conn.execute(statement).all()


def standing_of(conn: Connection, job_ids: Sequence[int]) -> list[Any]:
    """(job_id, plan, progress, started_at, ended_at) of all attempts of these jobs, the first first."""
    statement = select(
        attempts.c.job_id, attempts.c.plan, attempts.c.progress, attempts.c.started_at, attempts.c.ended_at
    )
    return list(in_parts(conn, statement.where(attempts.c.job_id.in_(SOME)).order_by(attempts.c.id), list(job_ids)))


def gpu_runs(conn: Connection, since: float, *, limit: int = 300) -> list[Any]:
    """Ended attempts with GPUs on one node, (ended_at, job_id, number, state, plan, progress, started_at, spec, site).

    The newest ``limit`` of those that ended after ``since``, the oldest first.
    """
    statement = (
        select(
            attempts.c.ended_at,
            attempts.c.job_id,
            attempts.c.number,
            attempts.c.state,
            attempts.c.plan,
            attempts.c.progress,
            attempts.c.started_at,
            jobs.c.spec,
            sites.c.name.label("site"),
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(sites, sites.c.id == attempts.c.site_id)
        .where(attempts.c.ended_at > since, attempts.c.started_at.is_not(None))
        .where(attempts.c.plan.not_like('%"gpus": 0%'), attempts.c.plan.like('%"gpus": %'))
        .where(attempts.c.plan.like('%"nodes": 1%'), or_(attempts.c.progress != "", attempts.c.state == "COMPLETED"))
        .order_by(attempts.c.ended_at.desc())
        .limit(limit)
    )
    return list(conn.execute(statement).all())[::-1]


def stops_of(conn: Connection, job_ids: Sequence[int]) -> dict[int, int]:
    """How many attempts of each of these jobs a policy has stopped."""
    statement = (
        select(attempts.c.job_id, func.count().label("stops"))
        .where(attempts.c.job_id.in_(SOME), attempts.c.reason == "PREEMPTED", attempts.c.plan.contains('"stopped"'))
        .group_by(attempts.c.job_id)
    )
    return {row.job_id: row.stops for row in in_parts(conn, statement, list(job_ids))}


def silent(conn: Connection, before: float, *, limit: int = 10) -> Sequence[int]:
    """Jobs that run, and whose runner was last heard of before that time; the longest silent first."""
    statement = (
        select(attempts.c.job_id)
        .where(attempts.c.live, attempts.c.state == "RUNNING", func.coalesce(attempts.c.heard_at, 0.0) < before)
        .order_by(attempts.c.heard_at)
        .limit(limit)
    )
    return [row.job_id for row in conn.execute(statement)]


def queued(conn: Connection, *, last: int = 50) -> list[Any]:
    """(site, site_id, plan, submitted_at, started_at, ended_at, reason) of the last attempts that sites were given."""
    found: list[Any] = []
    for site in conn.execute(select(sites.c.id, sites.c.name).where(sites.c.state != "REMOVED")).all():
        statement = (
            select(
                literal(site.name).label("site"),
                attempts.c.site_id,
                attempts.c.plan,
                attempts.c.submitted_at,
                attempts.c.started_at,
                attempts.c.ended_at,
                attempts.c.reason,
            )
            .where(attempts.c.site_id == site.id, attempts.c.submitted_at.is_not(None))
            .order_by(attempts.c.id.desc())
            .limit(last)
        )
        found.extend(conn.execute(statement))
    return found


def usage(conn: Connection, days: Sequence[float], now: float) -> Sequence[Any]:
    """What attempts had reserved: rows of (user, site, kind of node, GPU type that was asked for) with seconds as
    ``cpu0``, ``gpu0``, ``node0``, ``cpu1``, …

    ``days`` are the times at which days begin, numbered from 0; the last one ends at ``now``.
    The counts are those of the placement.
    """
    postgres = conn.dialect.name == "postgresql"
    least, greatest = (func.least, func.greatest) if postgres else (func.min, func.max)

    def said(name: str) -> Any:
        if postgres:
            return cast(attempts.c.plan, JSON)[name].astext
        return func.json_extract(attempts.c.plan, f"$.{name}")

    def planned(name: str, default: int) -> Any:
        return func.coalesce(cast(said(name), Float), default)

    each = (
        select(
            jobs.c.user_id,
            attempts.c.site_id,
            attempts.c.started_at,
            func.coalesce(attempts.c.ended_at, now).label("ended_at"),
            (planned("cpus", 1) * planned("nodes", 1)).label("cpus"),
            (planned("gpus", 0) * planned("nodes", 1) + planned("gpu_share", 0)).label("gpus"),
            planned("nodes", 1).label("nodes"),
            func.coalesce(said("node"), "").label("node"),
            func.coalesce(said("gpu_type"), "").label("gpu_type"),
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.started_at.is_not(None), or_(attempts.c.ended_at >= days[0], attempts.c.live))
        .cte("each")
        .prefix_with("MATERIALIZED")  # else the plan would be parsed once for every sum
    )
    sums = []
    for number, begin in enumerate(days):
        end = days[number + 1] if number + 1 < len(days) else now
        span = greatest(least(each.c.ended_at, end) - greatest(each.c.started_at, begin), 0.0)
        for what, column in (("cpu", each.c.cpus), ("gpu", each.c.gpus), ("node", each.c.nodes)):
            sums.append(func.sum(span * column).label(f"{what}{number}"))
    statement = (
        select(users.c.name.label("user"), sites.c.name.label("site"), each.c.node, each.c.gpu_type, *sums)
        .select_from(each)
        .join(users, users.c.id == each.c.user_id)
        .join(sites, sites.c.id == each.c.site_id)
        .group_by(users.c.name, sites.c.name, each.c.node, each.c.gpu_type)
    )
    return conn.execute(statement).all()


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
