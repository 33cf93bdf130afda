"""Several jobs side by side: the parameters that differ, curves over each other, last and best values."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from isthmus import codec
from isthmus.control.jobs import JobFilter
from isthmus.domain.errors import Invalid
from isthmus.domain.views import Ends, JobView
from isthmus.panel.job import safe_cell
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()

MOST = 60  # jobs beside each other; more are no picture
CHARTS = 12

# What is another in every job, and no parameter of its own.
_LEFT_OUT = ("name", "env.ISTHMUS_ARRAY_INDEX", "script", "priority", "after")


@pages.get("/compare")
async def compare(visitor: Visitor) -> Response:
    """The jobs that the query names, or those of an array."""
    jobs, more = await _asked(visitor)
    values = await visitor.services.measurements.ends(visitor.caller, [job.id for job in jobs])
    names = sorted({name for ends in values.values() for name in ends})
    parameters, same = differing(jobs)
    return visitor.page(
        "compare.html",
        jobs=jobs,
        more=more,
        most=MOST,
        values=values,
        metrics=names,
        charts=CHARTS,
        parameters=parameters,
        same=same,
        axes=_axes(jobs, parameters, values, names),
        query=str(visitor.query),
    )


@pages.get("/compare.csv")
async def as_csv(visitor: Visitor) -> Response:
    """The table as CSV: a row for each job."""
    jobs, _ = await _asked(visitor)
    values = await visitor.services.measurements.ends(visitor.caller, [job.id for job in jobs])
    names = sorted({name for ends in values.values() for name in ends})
    parameters, _same = differing(jobs)
    text = io.StringIO()
    write = csv.writer(text).writerow
    columns = [f"{name} {which}" for name in names for which in ("last", "lowest", "highest")]
    write(["job", "name", "state", "site", *map(safe_cell, parameters), *map(safe_cell, columns)])
    for number, job in enumerate(jobs):
        row: list[Any] = [job.id, safe_cell(job.name), job.state.value, job.site]
        row.extend(safe_cell(column[number]) for column in parameters.values())
        for name in names:
            ends = values.get(job.id, {}).get(name)
            row.extend((ends.last, ends.low, ends.high) if ends else ("", "", ""))
        write(row)
    headers = {"content-disposition": 'attachment; filename="compare.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


async def _asked(visitor: Visitor) -> tuple[list[JobView], bool]:
    """The jobs, and whether there would be more."""
    ids: list[int] = []
    for text in visitor.query.getlist("job"):
        if not text.isdecimal() or len(text) > 15:
            raise Invalid(f"{text[:40]!r} is not a job's number.", place="job")
        ids.append(int(text))
    array = visitor.number("array")
    if array:
        page = await visitor.services.jobs.list(visitor.caller, JobFilter(array=array, limit=1000))
        ids.extend(sorted(job.id for job in page.jobs))
    ids = list(dict.fromkeys(ids))
    return await visitor.services.jobs.many(visitor.caller, ids[:MOST]), len(ids) > MOST


def differing(jobs: Sequence[JobView]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The parameters that are not the same in all, with each job's value; and those that are."""
    flat = [parameters_of(job) for job in jobs]
    names = list(dict.fromkeys(name for one in flat for name in one))
    found: dict[str, list[str]] = {}
    same: dict[str, str] = {}
    for name in names:
        column = [one.get(name, "") for one in flat]
        if len(set(column)) > 1:
            found[name] = column
        else:
            same[name] = column[0]
    return found, same


def parameters_of(job: JobView) -> dict[str, str]:
    """What was said of a job, by name: its variables, the options of its command, its resources and the rest."""
    assert job.spec is not None
    plain = codec.changed(job.spec)
    found: dict[str, str] = {}
    for name, value in _flat("", plain):
        if name in _LEFT_OUT or name.startswith(("command", "retry", "labels")):
            continue
        found[name.removeprefix("env.")] = value
    found.update(options_of(job.spec.command))
    return found


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for name, each in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, each)]
    if isinstance(value, list):
        return [pair for number, each in enumerate(value) for pair in _flat(f"{prefix}[{number}]", each)]
    return [(prefix, str(value))]


def options_of(command: Sequence[str]) -> dict[str, str]:
    """`--lr 0.1 --flag --depth=3 x` as {lr: 0.1, flag: yes, depth: 3}, and other words by their place."""
    found: dict[str, str] = {}
    words = list(command)
    number = 0
    while number < len(words):
        word = words[number]
        number += 1
        if word.startswith("--") and "=" in word:
            name, _, value = word[2:].partition("=")
        elif word.startswith("--") and len(word) > 2:
            name, value = word[2:], "yes"
            if number < len(words) and not _is_option(words[number]):
                value = words[number]
                number += 1
        else:
            name, value = f"word {number}", word
        found[name] = value
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and _number(word) is None


def _axes(
    jobs: Sequence[JobView],
    parameters: Mapping[str, Sequence[str]],
    values: Mapping[int, Mapping[str, Ends]],
    names: Sequence[str],
) -> dict[str, Any]:
    """Parallel coordinates: an axis for each parameter that differs and each metric's last value."""
    axes: list[dict[str, Any]] = []
    for name, column in parameters.items():
        numbers = [_number(text) for text in column]
        if all(number is not None for number in numbers):
            axes.append({"name": name, "metric": False, "values": numbers})
        elif len(set(column)) <= 12:
            words = sorted(set(column))
            axes.append(
                {"name": name, "metric": False, "words": words, "values": [words.index(text) for text in column]}
            )
    for name in names:
        lasts = [values.get(job.id, {}).get(name) for job in jobs]
        axes.append({"name": name, "metric": True, "values": [ends.last if ends else None for ends in lasts]})
    axes = axes[:14]
    chosen = next((number for number, axis in enumerate(axes) if axis["metric"]), 0)
    return {
        "axes": axes,
        "colour": chosen,
        "jobs": [{"id": job.id, "name": job.name or f"job {job.id}"} for job in jobs],
    }


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None
