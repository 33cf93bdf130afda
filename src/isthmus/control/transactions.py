"""The supervisor's transactions: what it takes in as changed, the attempts that it begins, and what it notes beside.

Each is one function of an open connection. It decides nothing: what is to be done has been planned, and here it is
checked once more against the rows as they are now. Only the leading supervisor calls these to write.
"""

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.live import SHARE, SIZED, STOPS, Live, as_sized, read_spec
from isthmus.control.needs import Mark
from isthmus.control.needs import mark as needs_mark
from isthmus.control.recording import Record
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db import sites as site_rows
from isthmus.db.notifications import tell
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health
from isthmus.domain.states import AttemptState, JobState
from isthmus.placement.needs import Need
from isthmus.placement.plan import Assignment


class Start(NamedTuple):
    """An assignment with what its attempt needs beside the job's row."""

    assignment: Assignment
    need: Need
    site_id: int
    gpu_share: float = 0.0  # what the part of a GPU comes to that the job asks for


# ---- what changed


def marked(conn: Connection) -> tuple[Sequence[Any], Sequence[Any], Mark]:
    """The jobs and sites that are marked as changed, and how far the needs have come."""
    return job_rows.marked(conn), site_rows.marked(conn), needs_mark(conn)


def take_marks(conn: Connection) -> tuple[Sequence[Any], Sequence[Any], Mark]:
    """The same, and the marks are gone."""
    return job_rows.take_attention(conn), site_rows.take_attention(conn), needs_mark(conn)


# ---- attempts


def begin(
    conn: Connection,
    starts: Sequence[Start],
    credential_of: Callable[[int, int], int],
    token_hash: Callable[[str], str],
    now: float,
) -> list[Live]:
    """A new attempt for each job that is still queued. ``credential_of(site_id, user_id)`` says as whom it runs."""
    rows = job_rows.many(conn, [start.assignment.job for start in starts])
    stops = attempt_rows.stops_of(conn, [start.assignment.job for start in starts if start.assignment.gpus])
    unit = Record(conn, now)
    begun: list[Live] = []
    values: list[dict[str, Any]] = []
    for one, need, site_id, share in starts:
        row = rows.get(one.job)
        if row is None or row.state != JobState.QUEUED or row.kill_by:
            continue
        number = row.attempts + 1
        key = f"{row.id}.{number}-{secrets.token_hex(2)}"
        more: dict[str, float] = {SHARE: round(share, 6)} if share else {}
        if one.gpus:
            need = dataclasses.replace(need, gpus=one.gpus)
            more = {SIZED: one.gpus, STOPS: stops.get(row.id, 0)}
        live = Live(
            id=0,
            key=key,
            job_id=row.id,
            number=number,
            site_id=site_id,
            site=one.site,
            user_id=credential_of(site_id, row.user_id),
            owner=row.user_name,
            spec=as_sized(read_spec(row.spec), more),
            need=need,
            mem_bytes=row.mem_bytes,
            plan=places.plan_of(need, one.queue, one.node, **more),
        )
        begun.append(live)
        values.append(
            {
                "key": key,
                "job_id": row.id,
                "number": number,
                "site_id": site_id,
                "user_id": live.user_id,
                "state": AttemptState.CREATED.value,
                "plan": json.dumps(live.plan),
                "created_at": now,
                "token_hash": token_hash(key),
            }
        )
        unit.job(
            row.id,
            JobState.QUEUED,
            JobState.STAGING,
            Reason.NONE,
            f"to {one.site}",
            attempts=number,
            site_id=site_id,
            node="",
            exit_code=None,
            attention=False,
        )
    if values:
        for live, number in zip(begun, attempt_rows.insert(conn, values), strict=True):
            live.id = number
    unit.flush()
    return begun


def mark_stopped(conn: Connection, live: Live, now: float) -> None:
    """Keep that an attempt is stopped by plan, so that its end is no kill."""
    attempt_rows.change(conn, [{"id": live.id, "plan": json.dumps(live.plan)}])
    unit = Record(conn, now)
    unit.event(
        "attempt", live.key, "stop", job_id=live.job_id, message="to go on with another number of GPUs, or later"
    )
    unit.flush()


def note_waiting(conn: Connection, changes: Sequence[dict[str, Any]]) -> None:
    """Why jobs wait: only for those that still do."""
    states = job_rows.states(conn, [change["id"] for change in changes])
    still = [change for change in changes if states.get(change["id"]) == JobState.QUEUED]
    job_rows.change(conn, still)
    tell(conn, *(f"job:{change['id']}" for change in still[:20]))


# ---- sites


def keep_facts(conn: Connection, site_id: int, facts: Mapping[str, object]) -> None:
    """What a runner saw of its node, where no probe has found it out."""
    row = site_rows.by_id(conn, site_id)
    inventory = places.read_inventory(row.inventory)
    engines = facts.get("engines")
    reaches = facts.get("reaches_api")
    if isinstance(engines, Mapping) and not inventory.engines:
        inventory = dataclasses.replace(inventory, engines={str(k): str(v) for k, v in engines.items()})
    if isinstance(reaches, bool) and inventory.nodes_reach_api is None:
        inventory = dataclasses.replace(inventory, nodes_reach_api=reaches)
    site_rows.change(conn, site_id, inventory=places.write_inventory(inventory), attention=True)


def set_health(conn: Connection, site_id: int, health: Health, message: str, now: float) -> None:
    """Whether a site answers; an event where that is news."""
    before = site_rows.by_id(conn, site_id)
    columns: dict[str, Any] = {"health": health.value, "health_message": message}
    if health is Health.UP:
        columns["seen_at"] = now
    site_rows.change(conn, site_id, **columns)
    if before.health != health:
        unit = Record(conn, now)
        unit.event("site", before.name, "health", before=before.health, after=health.value, message=message)
        unit.flush()
