"""Live attempts as the leading supervisor keeps them in memory."""

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from isthmus.domain.jobs import JobSpec
from isthmus.domain.states import AttemptState
from isthmus.placement.needs import Need

# In an attempt's plan, beside what placement counts:
SIZED = "sized"  # the number of GPUs that a policy chose for it
STOPPED = "stopped"  # a policy has stopped it, to go on elsewhere or with another number of GPUs
SHARE = "gpu_share"  # how much of a GPU its part of one comes to
STOPS = "stops"  # how many of the job's attempts were, before it: they are no failures

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


@lru_cache(maxsize=512)
def read_spec(text: str) -> JobSpec:
    """A spec as the database keeps it."""
    return _SPEC.validate_json(text)


def write_spec(spec: JobSpec) -> str:
    """The text that the database keeps: only what differs from the defaults, so that it stays small."""
    return _SPEC.dump_json(spec, exclude_defaults=True).decode()


def as_sized(spec: JobSpec, plan: dict[str, Any]) -> JobSpec:
    """The spec of one attempt: with the number of GPUs that a policy chose for it, if one did."""
    if not plan.get(SIZED):
        return spec
    return replace(spec, resources=replace(spec.resources, gpus=int(plan[SIZED])))


@dataclass(slots=True, eq=False)
class Live:
    """One live attempt. Only its worker and the supervisor touch it, in one event loop."""

    id: int
    key: str
    job_id: int
    number: int
    site_id: int
    site: str
    user_id: int  # whose credential it runs under
    owner: str
    spec: JobSpec
    need: Need
    state: AttemptState = AttemptState.CREATED
    native_id: str = ""
    native_state: str = ""
    reports: int = 0
    mem_bytes: int = 0
    plan: dict[str, Any] = field(default_factory=dict)
    kill_requested: bool = False
    kill_sent: bool = False
    log_bytes: int = 0  # as last reported
    tries: int = 0  # to stage and submit it that failed
    waits_for: str = ""  # why it is not submitted yet, as written down
    doubted_since: float | None = None  # monotonic; it seems to have ended
    began: float | None = None  # when it was seen to run, in seconds since the epoch

    @classmethod
    def of_row(cls, row: Any, need: Need) -> "Live":
        """From a row of `isthmus.db.attempts`."""
        plan = json.loads(row.plan)
        return cls(
            id=row.id,
            key=row.key,
            job_id=row.job_id,
            number=row.number,
            site_id=row.site_id,
            site=row.site_name,
            user_id=row.user_id,
            owner=row.owner,
            spec=as_sized(read_spec(row.job_spec), plan),
            need=need,
            state=AttemptState(row.state),
            native_id=row.native_id,
            native_state=row.native_state,
            reports=row.reports,
            mem_bytes=row.job_mem_bytes,
            plan=plan,
            kill_requested=bool(row.kill_by or plan.get(STOPPED)),
            began=row.started_at,
        )
