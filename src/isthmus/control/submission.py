"""Submission: jobs are read, checked against what there is, and accepted whole or not at all.

    requests ─► expand arrays ─► check each (types, rules, names, a site where it fits) ─► rows, in one transaction

Nothing is written before everything was checked; what may change meanwhile (a dependency that ends) is looked at again
in the transaction.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from isthmus.control.live import write_spec
from isthmus.control.needs import Needs
from isthmus.control.recording import Record
from isthmus.db import attempts as attempt_rows
from isthmus.db import jobs as job_rows
from isthmus.db.notifications import SUPERVISOR, tell
from isthmus.domain.errors import Conflict, Invalid, IsthmusError, NotFound, nearest
from isthmus.domain.jobs import MAX_ID, After, Array, JobRequest, JobSpec, check, expand
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from isthmus.domain.users import Caller
from isthmus.placement import filters
from isthmus.placement.constraints import check as check_constraints
from isthmus.placement.needs import Need
from isthmus.placement.plan import explain
from isthmus.placement.snapshot import SiteSnapshot
from isthmus.sites.kinds import check_site_options

MAX_JOBS = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """What submissions are checked against: read once for all jobs of a request."""

    sites: Mapping[str, SiteSnapshot]
    secrets: frozenset[str]  # names of the caller's
    states: Mapping[int, str]  # of the jobs that are named as dependencies or inputs
    zones: Mapping[int, frozenset[str] | None]  # what their outputs inherit
    now: float  # seconds since the epoch


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """A job that passed every check."""

    spec: JobSpec
    text: str
    zones: frozenset[str] | None
    after: tuple[After, ...]
    array: int | None = None  # number of the request whose array it belongs to
    index: int | None = None


def named_jobs(requests: Sequence[JobRequest]) -> list[int]:
    """The jobs that these requests depend on."""
    ids = {after.job for request in requests for after in request.after}
    ids |= {item.job for request in requests for item in request.inputs if item.job}
    return sorted(job for job in ids if 1 <= job <= MAX_ID)  # the others are refused when they are examined


def examine(requests: Sequence[JobRequest], caller: Caller, needs: Needs, ground: Ground) -> list[Accepted]:
    """Check all; raises the first fault with its place, `jobs[3].resources.cpus` where there are several."""
    accepted: list[Accepted] = []
    for number, request in enumerate(requests):
        try:
            accepted.extend(_examine_one(number, request, caller, needs, ground))
        except IsthmusError as error:
            if len(requests) > 1:
                error.place = f"jobs[{number}]." + error.place if error.place else f"jobs[{number}]"
            raise
        if len(accepted) > MAX_JOBS:
            raise Invalid(f"{len(accepted)} jobs at once are too many.", hint=f"Send at most {MAX_JOBS}.")
    return accepted


def _examine_one(number: int, request: JobRequest, caller: Caller, needs: Needs, ground: Ground) -> list[Accepted]:
    check(request, request.array)
    if request.deadline is not None and request.deadline.timestamp() <= ground.now:
        raise Invalid(
            f"The deadline, {request.deadline:%Y-%m-%d %H:%M:%S %Z}, is over before the job can begin.",
            place="deadline",
            hint="Give a time to come, or none.",
        )
    check_constraints(request.constraints, () if request.wait_for_site else _keys_of(ground.sites.values()))
    for place, name in enumerate(request.sites):
        if name not in ground.sites:
            raise Invalid(f"There is no site {name!r}.", place=f"sites[{place}]", hint=nearest(name, ground.sites))
    for variable, name in request.secrets.items():
        if name not in ground.secrets:
            raise Invalid(
                f"You have no secret {name!r}.",
                place=f"secrets.{variable}",
                hint=nearest(name, ground.secrets) + " Keep one with `isthmus secret set`.",
            )
    check_site_options(request.site_options, {name: str(site.labels["kind"]) for name, site in ground.sites.items()})
    after = _dependencies(request, ground)
    plain = JobSpec(**{field.name: getattr(request, field.name) for field in dataclasses.fields(JobSpec)})
    pinned = _pin(plain, needs)
    zones = _zones(pinned, needs, ground)
    _fits(pinned, caller, needs, zones, ground)
    if request.array is None:
        return [Accepted(pinned, write_spec(pinned), zones, after)]
    return _array(number, pinned, request.array, zones, after)


def _keys_of(sites: Collection[SiteSnapshot]) -> set[str]:
    """The labels and metrics that any site has."""
    return {key for site in sites for key in (*site.labels, *site.metrics)}


def _array(
    number: int, spec: JobSpec, array: Array, zones: frozenset[str] | None, after: tuple[After, ...]
) -> list[Accepted]:
    return [
        Accepted(one, write_spec(one), zones, after, number, index) for index, one in enumerate(expand(spec, array))
    ]


def _dependencies(request: JobRequest, ground: Ground) -> tuple[After, ...]:
    wanted = {(after.job, after.on): f"after[{number}].job" for number, after in enumerate(request.after)}
    for number, item in enumerate(request.inputs):
        if item.job:
            wanted.setdefault((item.job, "completed"), f"inputs[{number}].job")
    for (job, _), place in wanted.items():
        if job not in ground.states:
            raise NotFound(f"There is no job {job}.", place=place)
    return tuple(After(job=job, on=on) for job, on in wanted)


def _pin(spec: JobSpec, needs: Needs) -> JobSpec:
    """The same job with every dataset and image at the version of today."""
    pinned = dict(needs.datasets(spec))
    inputs = tuple(
        dataclasses.replace(item, dataset=pinned[number].label) if number in pinned else item
        for number, item in enumerate(spec.inputs)
    )
    image = needs.image(spec)
    if image is None and spec.image and not _is_reference(spec.image):
        raise NotFound(
            f"There is no image {spec.image!r}.",
            place="image",
            hint="Register it with `isthmus image add`, or name one that the site pulls, like docker://python:3.12.",
        )
    return dataclasses.replace(spec, inputs=inputs, image=image.label if image else spec.image)


def _is_reference(image: str) -> bool:
    return "://" in image or "/" in image


def _zones(spec: JobSpec, needs: Needs, ground: Ground) -> frozenset[str] | None:
    zones = needs.zones(spec)
    for item in spec.inputs:
        inherited = ground.zones.get(item.job) if item.job else None
        if inherited is not None:
            zones = inherited if zones is None else zones & inherited
    if zones is not None and not zones:
        raise Invalid(
            "Its data sets have no zone in common where all of them may be.",
            place="inputs",
            hint="`isthmus dataset show` tells the zones of each.",
        )
    return zones


def _fits(spec: JobSpec, caller: Caller, needs: Needs, zones: frozenset[str] | None, ground: Ground) -> None:
    """Raise Invalid if no site of today could ever run it, unless it asks to wait for one."""
    if spec.wait_for_site:
        return
    need = needs.need(spec, caller.user.id, 0, zones)
    if any(not filters.first(filters.LASTING, need, site) for site in ground.sites.values()):
        return
    if not ground.sites:
        raise Invalid("There is no site yet.", hint="Add one with `isthmus site add`, or say wait_for_site.")
    verdicts = explain(need, ground.sites.values())
    asked = [verdict for verdict in verdicts if not need.sites or verdict.site in need.sites]
    said = "; ".join(f"{verdict.site}: {verdict.why[0]}" for verdict in (asked or verdicts)[:4])
    raise Invalid(
        f"No site can run it. {said}.",
        place=_culprit(need, ground.sites.values()),
        hint="Ask for less, or say wait_for_site to wait for a site that can.",
        code="fits-nowhere",
    )


def _culprit(need: Need, sites: Collection[SiteSnapshot]) -> str:
    """The field to blame, where asking less of it alone would do."""
    candidates: dict[str, dict[str, Any]] = {
        "resources.cpus": {"cpus": 1},
        "resources.mem": {"mem": 0},
        "resources.gpus": {"gpus": 0, "gpu_type": "", "gpu_mem": 0},
        "resources.nodes": {"nodes": 1},
        "resources.time": {"time": 0},
        "constraints": {"constraints": ()},
        "image": {"image": False},
        "sites": {"sites": ()},
    }
    for place, less in candidates.items():
        modest = dataclasses.replace(need, **less)
        if modest != need and any(not filters.first(filters.LASTING, modest, site) for site in sites):
            return place
    return "resources"


def insert(conn: Connection, accepted: Sequence[Accepted], caller: Caller, request_key: str, now: float) -> list[int]:
    """Write the rows; the ids in order. The same request key again gives the ids of the first time."""
    if request_key:
        known = job_rows.of_request(conn, caller.user.id, _keys(request_key, len(accepted) + 1))
        if known:
            specs = job_rows.specs(conn, known)
            if [specs[job_id] for job_id in known] != [one.text for one in accepted]:
                raise Conflict("This request key was used for another request.", place="Idempotency-Key")
            return known
    on = sorted({after.job for one in accepted for after in one.after})
    states = job_rows.states(conn, on)
    keys: Sequence[str | None] = _keys(request_key, len(accepted)) if request_key else [None] * len(accepted)
    rows = [
        _row(one, caller, key, now, sum(1 for after in one.after if not _met(after, states)))
        for one, key in zip(accepted, keys, strict=True)
    ]
    ids = job_rows.insert(conn, rows)
    _link_arrays(conn, accepted, ids)
    job_rows.add_dependencies(
        conn,
        [
            {"job_id": job_id, "on_job_id": after.job, "condition": after.on, "met": _met(after, states)}
            for job_id, one in zip(ids, accepted, strict=True)
            for after in one.after
        ],
    )
    unit = Record(conn, now, caller.user.name)
    for job_id, one in zip(ids, accepted, strict=True):
        unit.event("job", job_id, "created", job_id=job_id, after=JobState.QUEUED.value, message=one.spec.name)
        for after in one.after:
            if _hopeless(after, states):
                message = f"job {after.job} is {states[after.job]}, it waits for {after.on}"
                unit.job(job_id, JobState.QUEUED, JobState.FAILED, Reason.DEPENDENCY_FAILED, message)
                break
    unit.flush()
    tell(conn, SUPERVISOR)
    return ids


def _row(one: Accepted, caller: Caller, key: str | None, now: float, waiting_for: int) -> dict[str, Any]:
    return {
        "user_id": caller.user.id,
        "name": one.spec.name,
        "state": JobState.QUEUED.value,
        "reason": (Reason.DEPENDENCY if waiting_for else Reason.NONE).value,
        "spec": one.text,
        "priority": one.spec.priority,
        "deadline": one.spec.deadline.timestamp() if one.spec.deadline else None,
        "array_index": one.index,
        "submitted_at": now,
        "mem_bytes": int(one.spec.resources.mem),
        "waiting_for": waiting_for,
        "zones": json.dumps(sorted(one.zones)) if one.zones is not None else None,
        "request_key": key,
        "attention": True,
    }


def _link_arrays(conn: Connection, accepted: Sequence[Accepted], ids: Sequence[int]) -> None:
    first: dict[int, int] = {}
    changes = []
    for job_id, one in zip(ids, accepted, strict=True):
        if one.array is not None:
            changes.append({"id": job_id, "array_id": first.setdefault(one.array, job_id)})
    job_rows.change(conn, changes)


def _keys(request_key: str, count: int) -> list[str]:
    return [request_key if number == 0 else f"{request_key}#{number}" for number in range(count)]


def _met(after: After, states: Mapping[int, str]) -> bool:
    state = JobState(states[after.job])
    if not state.ended:
        return False
    return after.on == "ended" or (state is JobState.COMPLETED) == (after.on == "completed")


def _hopeless(after: After, states: Mapping[int, str]) -> bool:
    return JobState(states[after.job]).ended and not _met(after, states)


def inherited_zones(conn: Connection, ids: Sequence[int]) -> dict[int, frozenset[str] | None]:
    """Where the outputs of these jobs may be: where what they read may be."""
    return {
        job_id: None if row.zones is None else frozenset(json.loads(row.zones))
        for job_id, row in job_rows.many(conn, ids).items()
    }


def loads(conn: Connection) -> Sequence[Any]:
    """What the live attempts use, for a view of the sites as they are."""
    return attempt_rows.load_of_sites(conn)
