"""Placement by figures of real servers: Prometheus, VictoriaMetrics and InfluxDB."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from isthmus.client import Client
from isthmus.domain.errors import Unavailable
from isthmus.domain.jobs import JobRequest
from isthmus.domain.placement import Metric, Provider, Rules
from isthmus.domain.reasons import Reason
from isthmus.domain.states import JobState
from isthmus.domain.units import Seconds
from isthmus.monitoring.providers import EVERYWHERE, ask
from tests.testbed.control import ControlPlane
from tests.testbed.meters import DATABASE, Meter
from tests.testbed.waiting import wait_for

PATIENCE_S = 120.0
FIGURES = "latency,site=here value=12\nlatency,site=there value=90\n"
# Series that need no scrape: real PromQL, answered by the real server.
SERIES = 'label_replace(vector(12), "site", "here", "", "") or label_replace(vector(90), "site", "there", "", "")'


@pytest.fixture(scope="module", params=["prometheus", "victoria-metrics", "influxdb"])
def meter(request: pytest.FixtureRequest) -> Iterator[Meter]:
    with Meter(request.param) as server:
        if server.kind != "prometheus":
            server.write(FIGURES)
        yield server


def source(meter: Meter) -> tuple[Provider, str]:
    """The server as a provider, and the query for the latency of both sites."""
    if meter.kind == "influxdb":
        query = 'SELECT last("value") FROM "latency" GROUP BY "site"'
        return Provider(kind="influx", url=meter.url, database=DATABASE), query
    query = SERIES if meter.kind == "prometheus" else "latency_value"
    return Provider(kind="prometheus", url=meter.url), query


async def figures(provider: Provider, query: str) -> dict[str, float]:
    async with httpx.AsyncClient() as http:
        return await ask(http, provider, query, "site")


async def test_figures_by_site_come_from_each_kind_of_server(meter: Meter) -> None:
    provider, query = source(meter)
    end = time.monotonic() + PATIENCE_S
    found: dict[str, float] = {}
    while found != {"here": 12.0, "there": 90.0}:  # what was just written may take a moment to be seen
        assert time.monotonic() < end, found
        found = await figures(provider, query)


async def test_a_figure_without_a_site_holds_everywhere(meter: Meter) -> None:
    provider, _ = source(meter)
    query = 'SELECT max("value") FROM "latency"' if meter.kind == "influxdb" else "vector(7)"
    found = await figures(provider, query)
    assert list(found) == [EVERYWHERE]


async def test_a_query_that_the_server_refuses_is_told_in_its_own_words(meter: Meter) -> None:
    provider, _ = source(meter)
    with pytest.raises(Unavailable, match=r"(?i)pars|unexpected|expected|error"):
        await figures(provider, "SELEC ((")


async def test_a_query_for_what_nobody_measures_gives_nothing(meter: Meter) -> None:
    provider, _ = source(meter)
    query = 'SELECT last("value") FROM "nothing"' if meter.kind == "influxdb" else "nothing_at_all"
    assert await figures(provider, query) == {}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Client]:
    with ControlPlane(tmp_path / "plane") as control, control.client() as client:
        yield client


def test_a_job_waits_for_its_figure_and_starts_when_the_server_answers(plane: Client) -> None:
    """A provider that is down, then up with a bad figure, then with a good one; and explain says each."""
    with Meter("victoria-metrics") as server:
        server.stop()
        name = f"latency_{uuid.uuid4().hex[:8]}"
        metric = Metric(
            provider="lab",
            query=f'last_over_time({name}_value{{site="$site"}}[1h])',
            max=100.0,
            better="lower",
            weight=1.0,
            every=Seconds(1),
        )
        rules = Rules(providers={"lab": Provider(kind="prometheus", url=server.url)}, metrics={name: metric})
        plane.placement.set_rules(rules)
        job = plane.jobs.submit(JobRequest(command=("true",), constraints=(f"{name} < 20",)))

        def waits_for(words: str) -> bool:
            found = plane.jobs.get(job.id)
            assert found.state is JobState.QUEUED, found
            return words in found.message

        wait_for(lambda: waits_for("can't be reached"), "the reason", deadline_s=PATIENCE_S)
        assert plane.jobs.get(job.id).reason is Reason.METRIC
        server.start()
        server.write(f"{name},site=local value=50\n")
        wait_for(lambda: waits_for(f"its {name} is 50"), "the first figure", deadline_s=PATIENCE_S)
        (verdict,) = plane.jobs.explain(job.id).sites
        assert {one.name: one.why for one in verdict.filters}["metrics"] == f"its {name} is 50 ({name} < 20)"
        score = next(one for one in verdict.scores if one.name == name)
        assert (score.value, score.weight) == (0.5, 1.0)
        server.write(f"{name},site=local value=5\n")
        done = plane.jobs.wait(job.id, timeout_s=PATIENCE_S)
        assert done.state is JobState.COMPLETED
