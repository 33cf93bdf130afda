"""/v1/jobs: submit, list, watch, end, explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Query
from pydantic import AwareDatetime, Discriminator, Tag
from starlette.responses import Response

from isthmus.api import content
from isthmus.api.routes import MAX_ID, STRICT, Id, answer, router
from isthmus.api.services import By, Use
from isthmus.control.artefacts import Download
from isthmus.control.jobs import JobFilter
from isthmus.domain.errors import Invalid, nearest
from isthmus.domain.jobs import JobRequest
from isthmus.domain.states import JobState
from isthmus.domain.users import Event
from isthmus.domain.views import AttemptView, Explanation, JobPage, JobView, OutputView, Series

routes = router("/jobs", "jobs")

MAX_WAIT_S = 300.0
MAX_IDS = 100_000

OneOrMany = Annotated[
    Annotated[JobRequest, Tag("one")] | Annotated[list[JobRequest], Tag("many")],
    Discriminator(lambda value: "many" if isinstance(value, list) else "one"),
]
JobIds = Annotated[list[Annotated[int, Query(ge=1, le=MAX_ID)]], Query(min_length=1, max_length=MAX_IDS)]
Labels = Annotated[tuple[str, ...], Query(description="NAME=VALUE, or NAME= for any value; several must all hold.")]
WaitS = Annotated[float, Query(ge=0, le=MAX_WAIT_S, description="Answer at once, or wait this long for news.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """The jobs that a request is about."""

    __pydantic_config__ = STRICT

    jobs: JobIds


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The jobs whose end to wait for, and how long at most. ``any``: the end of one of them will do."""

    __pydantic_config__ = STRICT

    jobs: JobIds
    wait_s: WaitS = 30.0
    any: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prioritise:
    """The jobs to be given a priority; higher goes first."""

    __pydantic_config__ = STRICT

    jobs: JobIds
    priority: Annotated[int, Query(ge=-1_000_000, le=1_000_000)]


@routes.post("", status_code=201, response_model=list[JobView])
async def submit(
    request: OneOrMany,
    services: Use,
    caller: By,
    idempotency_key: Annotated[
        str, Header(max_length=80, pattern=r"^[\x21-\x7e]*$", description="The same key again: the same jobs.")
    ] = "",
    wait_s: WaitS = 0.0,
) -> Response:
    """Submit a job, an array (one with `array`) or several: all of them or none. With `wait_s`, as they are when every
    one has ended or that time is over."""
    many = request if isinstance(request, list) else [request]
    if not many:
        raise Invalid("There is no job in the list.", place="body")
    jobs = await services.jobs.submit(caller, many, request_key=idempotency_key)
    if wait_s:
        jobs = await services.unless_stopping(services.jobs.wait(caller, [job.id for job in jobs], wait_s))
    return answer(jobs, list[JobView], status=201)


@routes.get("", response_model=JobPage)
async def list_jobs(
    services: Use,
    caller: By,
    state: Annotated[tuple[str, ...], Query(description="States, or: waiting, running, live, ended.")] = (),
    user: Annotated[str, Query(max_length=100)] = "",
    site: Annotated[str, Query(max_length=100)] = "",
    name: Annotated[str, Query(max_length=220, description="A part of the name.")] = "",
    label: Labels = (),
    array: Annotated[int, Query(ge=0, le=MAX_ID, description="The array's first job.")] = 0,
    since: Annotated[AwareDatetime | None, Query(description="Submitted at this time or later.")] = None,
    queue: Annotated[
        bool, Query(description="QUEUED ones only, as they will be placed; beside it user and name count.")
    ] = False,
    before: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """A page of jobs, the newest first."""
    which = JobFilter(
        states=states_of(state),
        user=user,
        site=site,
        name=name,
        label=tuple(label_of(each) for each in label),
        array=array,
        since=since,
        queue=queue,
        before=before,
        limit=limit,
    )
    return answer(await services.jobs.list(caller, which))


@routes.post("/wait", response_model=list[JobView])
async def wait(request: Wait, services: Use, caller: By) -> Response:
    """The jobs, as soon as every one has ended or the time is over; with `any` those that have ended, once one has."""
    waiting = services.jobs.wait_any if request.any else services.jobs.wait
    jobs = await services.unless_stopping(waiting(caller, request.jobs, request.wait_s))
    return answer(jobs, list[JobView])


@routes.post("/kill", response_model=list[JobView])
async def kill(request: Which, services: Use, caller: By) -> Response:
    """Ask for the end of jobs: SIGTERM, and SIGKILL after their grace. What has ended is left as it is."""
    return answer(await services.jobs.kill(caller, request.jobs), list[JobView])


@routes.post("/retry", response_model=list[JobView])
async def retry(request: Which, services: Use, caller: By) -> Response:
    """Queue failed or killed jobs again."""
    return answer(await services.jobs.retry(caller, request.jobs), list[JobView])


@routes.post("/priority", response_model=list[JobView])
async def set_priority(request: Prioritise, services: Use, caller: By) -> Response:
    """Give jobs another priority."""
    jobs = await services.jobs.set_priority(caller, request.jobs, request.priority)
    return answer(jobs, list[JobView])


@routes.post("/explain", response_model=Explanation)
async def preview(request: JobRequest, services: Use, caller: By) -> Response:
    """What each site would say to a job that is not submitted."""
    return answer(await services.jobs.preview(caller, request))


@routes.get("/{job}", response_model=JobView)
async def get(job: Id, services: Use, caller: By, wait_s: WaitS = 0.0) -> Response:
    """One job; with `wait_s`, as soon as it has ended or the time is over."""
    if wait_s:
        (found,) = await services.unless_stopping(services.jobs.wait(caller, [job], wait_s))
        return answer(found)
    return answer(await services.jobs.get(caller, job))


@routes.get("/{job}/attempts", response_model=list[AttemptView])
async def attempts(job: Id, services: Use, caller: By) -> Response:
    """Its tries, the first one first."""
    return answer(await services.jobs.attempts(caller, job), list[AttemptView])


@routes.get("/{job}/history", response_model=list[Event])
async def history(job: Id, services: Use, caller: By) -> Response:
    """What happened to it, by whom and why."""
    return answer(await services.jobs.history(caller, job), list[Event])


@routes.get("/{job}/explain", response_model=Explanation)
async def explain(job: Id, services: Use, caller: By) -> Response:
    """Why it is where it is, and what each site says to it."""
    return answer(await services.jobs.explain(caller, job))


LOG_HEADERS: dict[str, Any] = {
    "Isthmus-Attempt": {"description": "Number of the attempt.", "schema": {"type": "integer"}},
    "Isthmus-Offset": {"description": "Of the first byte here.", "schema": {"type": "integer"}},
    "Isthmus-Size": {"description": "Of the whole log by now.", "schema": {"type": "integer"}},
    "Isthmus-Ended": {"description": "No more will follow.", "schema": {"enum": ["true", "false"]}},
}


@routes.get(
    "/{job}/log",
    response_class=Response,
    responses={
        200: {
            "description": "Bytes of the log.",
            "headers": LOG_HEADERS,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def log(
    job: Id,
    services: Use,
    caller: By,
    attempt: Annotated[int, Query(ge=0, le=MAX_ID, description="0: the last one.")] = 0,
    offset: Annotated[int, Query(ge=-(2**40), le=MAX_ID, description="Below 0: from the end.")] = 0,
    limit: Annotated[int, Query(ge=1, le=8 << 20)] = 1 << 20,
    name: Annotated[str, Query(pattern=r"^(log|batch\.log)$")] = "log",
    wait_s: WaitS = 0.0,
) -> Response:
    """Bytes of an attempt's log from `offset` on. To follow it: ask again from offset + length, with `wait_s`."""
    part = await services.unless_stopping(
        services.jobs.logs(caller, job, attempt=attempt, offset=offset, limit=limit, name=name, wait_s=wait_s)
    )
    headers = {
        "Isthmus-Attempt": str(part.attempt),
        "Isthmus-Offset": str(part.offset),
        "Isthmus-Size": str(part.size),
        "Isthmus-Ended": "true" if part.ended else "false",
    }
    return Response(part.data, media_type="application/octet-stream", headers=headers)


@routes.get("/{job}/metrics", response_model=list[Series])
async def metrics(
    job: Id,
    services: Use,
    caller: By,
    name: Annotated[tuple[str, ...], Query(description="None: all of them.")] = (),
    points: Annotated[int, Query(ge=1, le=100_000, description="Of each, at most; more are thinned.")] = 1000,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="`last_id` of the answer before.")] = 0,
    attempt: Annotated[int, Query(ge=0, le=MAX_ID, description="0: the last one.")] = 0,
    system: Annotated[bool, Query(description="What its runner measured instead: cpu_s, mem_bytes, GPUs.")] = False,
) -> Response:
    """What the command reported, over time."""
    series = await services.measurements.series(
        caller, job, names=name, points=points, after=after, attempt=attempt, system=system
    )
    return answer(series, list[Series])


@routes.get("/{job}/outputs", response_model=list[OutputView])
async def outputs(job: Id, services: Use, caller: By) -> Response:
    """The files and folders that it left."""
    return answer(await services.jobs.outputs(caller, job), list[OutputView])


@routes.get("/{job}/outputs/{output}/content", response_class=Response, responses=content.DOCUMENTED)
async def output_content(job: Id, output: Id, services: Use, caller: By, header: content.Range = "") -> Response:
    """The bytes of an output, whole or a range of them; from the site, where it was not collected."""

    async def open_at(offset: int, length: int | None) -> Download:
        return await services.artefacts.output(caller, job, output, offset=offset, length=length)

    return await content.serve(header, open_at)


GROUPS = {
    "waiting": (JobState.QUEUED, JobState.STAGING, JobState.PENDING),
    "running": (JobState.RUNNING, JobState.COLLECTING),
    "ended": (JobState.COMPLETED, JobState.FAILED, JobState.KILLED),
    "live": (JobState.QUEUED, JobState.STAGING, JobState.PENDING, JobState.RUNNING, JobState.COLLECTING),
}


def states_of(words: Sequence[str]) -> tuple[str, ...]:
    """The states that words such as ``FAILED``, ``failed`` or ``ended`` mean. Raises Invalid."""
    found: list[str] = []
    for word in words:
        if word.lower() in GROUPS:
            found.extend(state.value for state in GROUPS[word.lower()])
        elif word.upper() in JobState.__members__:
            found.append(word.upper())
        else:
            known = [*JobState.__members__, *GROUPS]
            raise Invalid(
                f"{word[:40]!r} is not a state of jobs.",
                place="query.state",
                hint=nearest(word.upper(), JobState.__members__) or "There is: " + ", ".join(known) + ".",
            )
    return tuple(dict.fromkeys(found))


def label_of(text: str) -> tuple[str, str]:
    """``NAME=VALUE``. Raises Invalid."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"{text[:40]!r} is not a label.", place="query.label", hint="Write it like team=vision.")
    return name, value
