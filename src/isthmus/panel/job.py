"""One job: where it is and why, its attempts, curves, files, spec, history; and what can be done to it."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from starlette.responses import Response, StreamingResponse

from isthmus import codec
from isthmus.control.jobs import JobFilter
from isthmus.documents import written
from isthmus.domain.errors import IsthmusError
from isthmus.domain.states import JobState
from isthmus.domain.users import Event
from isthmus.domain.views import JobView, Series
from isthmus.panel import tasks, words
from isthmus.panel.jobs import done_to
from isthmus.panel.logs import tail_of
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

POINTS = 1600  # of a curve, where the browser does not say how wide it is: two for each pixel
MOST_POINTS = 8000
CHARTS = 24  # that are drawn at once; the others when they are asked for


@pages.get("/jobs/{job:int}")
async def job(visitor: Visitor) -> Response:
    """Everything of one job."""
    number = visitor.path["job"]
    jobs, caller = visitor.services.jobs, visitor.caller
    found = await jobs.get(caller, number)
    attempts = await jobs.attempts(caller, number)
    history = await jobs.history(caller, number)
    outputs = await jobs.outputs(caller, number)
    shown = visitor.number("attempt") or (attempts[-1].number if attempts else 0)
    own, system = await visitor.services.measurements.names(caller, number, attempt=shown)
    explanation = None
    if found.state is JobState.QUEUED or visitor.query.get("explain"):
        explanation = await jobs.explain(caller, number)
    return visitor.page(
        "job.html",
        job=found,
        attempts=attempts,
        shown=shown,
        attempt=next((one for one in attempts if one.number == shown), None),
        history=history,
        journey=journey(found, history),
        outputs=outputs,
        metrics=tasks.curves(own),
        has_tasks=any(name.startswith(tasks.PREFIX) for name in own),
        system=_system_charts(system),
        charts=CHARTS,
        spec=_spec(found),
        explanation=explanation,
        log=await tail_of(visitor, number, shown),
        family=await _family(visitor, found),
        mine=found.user == caller.user.name or visitor.may("admin"),
    )


@pages.get("/jobs/{job:int}/series")
async def series(visitor: Visitor) -> Response:
    """A curve as JSON: x, the values, and where to go on. `x` is step or time; `from` and `to` look closer."""
    query = visitor.query
    by_time = query.get("x", "") == "time"
    between = None
    if query.get("from") and query.get("to"):
        between = (codec.read(float, query["from"]), codec.read(float, query["to"]))
    found = await visitor.services.measurements.series(
        visitor.caller,
        visitor.path["job"],
        names=query.getlist("name")[:50],
        points=min(max(visitor.number("points", POINTS), 4), MOST_POINTS),
        after=visitor.number("after"),
        attempt=visitor.number("attempt"),
        between=between,
        by_time=by_time,
    )
    return Response(codec.write_json([_curve(one, by_time) for one in found]), media_type="application/json")


@pages.get("/jobs/{job:int}/series-names")
async def series_names(visitor: Visitor) -> Response:
    """Which curves there are by now."""
    number = visitor.path["job"]
    own, system = await visitor.services.measurements.names(visitor.caller, number, attempt=visitor.number("attempt"))
    return Response(
        json.dumps({"own": tasks.curves(own), "system": _system_charts(system)}), media_type="application/json"
    )


@pages.get("/jobs/{job:int}/spec.yaml")
async def spec(visitor: Visitor) -> Response:
    """The spec as a file."""
    found = await visitor.services.jobs.get(visitor.caller, visitor.path["job"])
    headers = {"content-disposition": f'attachment; filename="job-{found.id}.yaml"'}
    return Response(_spec(found), media_type="application/yaml", headers=headers)


@pages.get("/jobs/{job:int}/metrics.csv")
async def metrics(visitor: Visitor) -> Response:
    """Every value of every metric, a row each."""
    number = visitor.path["job"]
    own, _ = await visitor.services.measurements.names(visitor.caller, number)

    async def rows() -> AsyncIterator[str]:
        yield "name,step,at,value\r\n"
        for name in own:
            (found,) = await visitor.services.measurements.series(visitor.caller, number, names=[name], points=0)
            text = io.StringIO()
            write = csv.writer(text).writerow
            for point in found.points:
                write([safe_cell(name), point.step, point.at.isoformat(), point.value])
            yield text.getvalue()

    headers = {"content-disposition": f'attachment; filename="job-{number}-metrics.csv"'}
    return StreamingResponse(rows(), media_type="text/csv; charset=utf-8", headers=headers)


def safe_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _curve(one: Series, by_time: bool) -> dict[str, Any]:
    """A series in columns, in order of x, which browsers draw as they are."""
    steps = not by_time and all(point.step is not None for point in one.points) and bool(one.points)
    points = (
        sorted(
            (point.step if steps and point.step is not None else point.at.timestamp(), point.value)
            for point in one.points
        )
        if steps
        else [(point.at.timestamp(), point.value) for point in one.points]
    )
    return {
        "name": one.name,
        "attempt": one.attempt,
        "count": one.count,
        "last_id": one.last_id,
        "by": "step" if steps else "time",
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
    }


@pages.post("/jobs/{job:int}/{verb}")
async def act(visitor: Visitor) -> Response:
    """Kill it, try it again, give it another priority."""
    number, verb = visitor.path["job"], visitor.path["verb"]
    back = f"/jobs/{number}"
    try:
        said = await done_to(visitor, verb, [number], await visitor.form())
    except IsthmusError as error:
        return visitor.go(back, error=error)
    return visitor.go(back, said=said)


async def _family(visitor: Visitor, found: JobView) -> dict[str, int]:
    """How many jobs of its array are in each state."""
    if found.array is None:
        return {}
    page = await visitor.services.jobs.list(visitor.caller, JobFilter(array=found.array, limit=1000))
    counts: dict[str, int] = {}
    for one in page.jobs:
        counts[one.state.value] = counts.get(one.state.value, 0) + 1
    return counts


def _spec(found: JobView) -> str:
    """The spec as a person would write it: it can be submitted again with `isthmus run -f`."""
    return written(codec.changed(found.spec))


def _system_charts(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Charts of what the runner measured, each of one or more series in one unit."""
    charts = []
    if "system/cpu_s" in names:
        charts.append({"title": "CPU, cores in use", "names": ["system/cpu_s"], "unit": "slope"})
    if "system/mem_bytes" in names:
        charts.append({"title": "Memory", "names": ["system/mem_bytes"], "unit": "bytes"})
    util = [name for name in names if name.endswith("_util")]
    if util:
        charts.append({"title": "GPU in use", "names": util, "unit": "share"})
    memory = [name for name in names if name.startswith("system/gpu") and name.endswith("_mem_bytes")]
    if memory:
        charts.append({"title": "GPU memory", "names": memory, "unit": "bytes"})
    return charts


def journey(found: JobView, history: list[Event]) -> list[dict[str, Any]]:
    """The states that the job went through, each with its stretch of time and why it was entered."""
    stretches: list[dict[str, Any]] = []
    for event in history:
        if event.noun != "job" or event.verb not in ("created", "state"):
            continue
        if stretches:
            stretches[-1]["end"] = event.at
        stretches.append(
            {
                "state": event.after,
                "begin": event.at,
                "end": None,
                "reason": event.reason,
                "message": event.message if event.verb == "state" else "",  # else it is the job's name
            }
        )
    now = datetime.now(stretches[0]["begin"].tzinfo) if stretches else None
    total = 0.0
    for one in stretches:
        ended = JobState(one["state"]).ended
        last = one["begin"] if ended and one["end"] is None else one["end"] or now
        one["seconds"] = max(0.0, (last - one["begin"]).total_seconds())
        one["tone"] = words.tone(one["state"])
        total += one["seconds"]
    # Drawn by the root of their length: a wait of hours must not hide a run of minutes.
    roots = [one["seconds"] ** 0.5 for one in stretches]
    whole = sum(roots) or 1.0
    place = 0.0
    for one, root in zip(stretches, roots, strict=True):
        one["x"], one["width"] = place, root / whole * 100
        place += one["width"]
    return stretches
