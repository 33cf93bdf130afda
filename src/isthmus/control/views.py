"""From rows to what people see."""

import json
from typing import Any

from isthmus.control import places
from isthmus.control.live import read_spec
from isthmus.data import digests
from isthmus.db.times import moment
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Health, SiteState
from isthmus.domain.states import AttemptState, JobState
from isthmus.domain.views import AttemptView, JobView, OutputView, Progress, SiteView, Usage


def job_view(row: Any, *, spec: bool = False) -> JobView:
    """A job from a row of `isthmus.db.jobs.many`; with its spec only where one job is shown."""
    whole = read_spec(row.spec) if spec else None
    return JobView(
        id=row.id,
        name=row.name,
        user=row.user_name,
        state=JobState(row.state),
        reason=Reason(row.reason),
        message=row.message,
        priority=row.priority,
        deadline=moment(row.deadline),
        array=row.array_id,
        index=row.array_index,
        submitted_at=moment(row.submitted_at),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        wake_at=moment(row.wake_at),
        attempts=row.attempts,
        site=row.site_name or "",
        node=row.node,
        exit_code=row.exit_code,
        waiting_for=row.waiting_for,
        kill_by=row.kill_by or "",
        progress=Progress(**json.loads(row.progress)) if row.progress else None,
        labels=json.loads(row.spec).get("labels", {}),
        spec=whole,
    )


def attempt_view(row: Any) -> AttemptView:
    """An attempt from a row of `isthmus.db.attempts`."""
    return AttemptView(
        key=row.key,
        job=row.job_id,
        number=row.number,
        site=row.site_name,
        state=AttemptState(row.state),
        live=row.live,
        reason=Reason(row.reason),
        message=row.message,
        plan=json.loads(row.plan),
        native_id=row.native_id,
        native_state=row.native_state,
        nodes=row.nodes,
        exit_code=row.exit_code,
        signal=row.signal,
        created_at=moment(row.created_at),
        submitted_at=moment(row.submitted_at),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        heard_at=moment(row.heard_at),
        log_bytes=row.log,
        usage=_usage(json.loads(row.usage)),
        progress=Progress(**json.loads(row.progress)) if row.progress else None,
    )


def _usage(usage: dict[str, Any]) -> Usage:
    gpus = usage.get("gpu") or []
    return Usage(
        mem_bytes=int(usage.get("mem_bytes") or 0),
        peak_mem_bytes=int(usage.get("peak_mem_bytes") or 0),
        cpu_s=float(usage.get("cpu_s") or 0.0),
        wall_s=float(usage.get("wall_s") or 0.0),
        gpu_util=tuple(float(gpu.get("util") or 0.0) for gpu in gpus),
        gpu_mem_bytes=tuple(int(gpu.get("mem_bytes") or 0) for gpu in gpus),
    )


def output_view(row: Any) -> OutputView:
    """An output from a row of `isthmus.db.attempts.outputs_of`."""
    return OutputView(
        id=row.id,
        job=row.job_id,
        attempt=row.attempt_number,
        path=row.path,
        kind=row.kind,
        size=row.size,
        digest=digests.name_of(digests.hex_of(row.digest)) if row.digest else "",  # runners say the digits alone
        collected=row.collected,
        site=row.site_name,
    )


def site_view(row: Any, *, running: int = 0, waiting: int = 0) -> SiteView:
    """A site from its row."""
    spec = places.read_site(row.spec)
    return SiteView(
        name=row.name,
        kind=spec.kind,
        state=SiteState(row.state),
        health=Health(row.health),
        health_message=row.health_message,
        spec=spec,
        inventory=places.read_inventory(row.inventory),
        probed_at=moment(row.probed_at),
        seen_at=moment(row.seen_at),
        retry_at=moment(row.retry_at),
        created_at=moment(row.created_at),
        running=running,
        waiting=waiting,
    )
