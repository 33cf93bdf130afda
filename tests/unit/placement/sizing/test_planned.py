"""The plan of a queue as a chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from isthmus.domain.views import PlannedJob, PlannedRun, PlanView
from isthmus.placement.sizing import planned

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def plan(**more: object) -> PlanView:
    runs = (
        PlannedRun(job=1, node=0, gpus=2, start_at=NOW, end_at=NOW + HOUR),
        PlannedRun(job=2, node=0, gpus=1, start_at=NOW + HOUR, end_at=NOW + 2 * HOUR),
    )
    jobs = (
        PlannedJob(job=1, ends_at=NOW + HOUR, deadline=NOW + 2 * HOUR),
        PlannedJob(job=2, ends_at=NOW + 2 * HOUR, deadline=NOW + HOUR, late_s=3600.0),
    )
    values = {"site": "s", "queue": "q", "node": "n", "gpu_type": "a100", "nodes": 1, "gpus": 2, "at": NOW}
    return PlanView(**{**values, "runs": runs, "jobs": jobs, **more})  # type: ignore[arg-type]


def words_of(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("title")]


def test_every_run_stands_there_and_who_is_late() -> None:
    words = words_of(planned.svg(plan()))
    assert "job 1: 2 GPUs of node 0, 0 to 3600 s" in words
    assert "job 2: 1 GPUs of node 0, 3600 to 7200 s, late" in words


def test_names_are_text() -> None:
    nasty = '<script>"&'
    assert nasty in words_of(planned.svg(plan(node=nasty), title=nasty))


def test_a_plan_of_nothing_is_an_empty_chart() -> None:
    assert ElementTree.fromstring(planned.svg(plan(runs=(), jobs=()))).tag.endswith("svg")
