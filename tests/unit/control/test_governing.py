"""Rules, prices and figures in a control plane: kept, checked, taken in by the supervisor, and seen by explain."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from isthmus.control import places
from isthmus.control.forecasting import Forecasting
from isthmus.control.governing import Governing
from isthmus.control.knowledge import read as read_knowledge
from isthmus.control.metering import Metered, Metering
from isthmus.db import attempts as attempt_rows
from isthmus.db import figures
from isthmus.db import sites as site_rows
from isthmus.domain.errors import Conflict, Forbidden, Invalid
from isthmus.domain.jobs import JobRequest, Resources
from isthmus.domain.placement import Catalogue, Choice, Metric, Offer, Provider, Rules, Tariff, WhatIf
from isthmus.domain.reasons import Reason
from isthmus.domain.sites import Limits, Price, SiteSpec
from isthmus.domain.states import JobState
from isthmus.domain.units import Seconds
from isthmus.domain.users import Role, Scope
from isthmus.testing.clock import ManualClock
from tests.unit.control.conftest import TRUE, Plane

LAB = Provider(kind="prometheus", url="http://lab")


@pytest.fixture
def governing(plane: Plane) -> Governing:
    return Governing(plane.db, plane.clock)


async def say(plane: Plane, name: str, **more: Any) -> None:
    """Change what is said of a site."""

    def write(conn: Any) -> None:
        row = site_rows.get(conn, name)
        spec = dataclasses.replace(places.read_site(row.spec), **more)
        site_rows.change(conn, row.id, spec=places.write_site(spec), attention=True)

    await plane.db.write(write)


@pytest.mark.parametrize(
    ("rules", "place", "words"),
    [
        (Rules(weights={"laod": 1.0}), "weights.laod", "Did you mean 'load'?"),
        (Rules(weights={"load": -1.0}), "weights.load", "can't be"),
        (Rules(policies=(Choice(policy="fairshare"),)), "policies[0].policy", "Did you mean 'fair-share'?"),
        (
            Rules(policies=(Choice(policy="deadline-cost", queues=("gpu",)),)),
            "policies[0].queues",
            "rules a whole site",
        ),
        (
            Rules(policies=(Choice(policy="locality", constraints=("zone iss DE",)),)),
            "policies[0].constraints[0]",
            "Did you mean 'is'?",
        ),
        (Rules(providers={"lab": Provider(kind="prometheus", url="lab:9090")}), "providers.lab.url", "is not a URL"),
        (Rules(providers={"lab": Provider(kind="influx", url="http://x")}), "providers.lab.database", "needs the name"),
        (Rules(metrics={"m": Metric(provider="lab")}), "metrics.m.provider", "no provider 'lab'"),
        (Rules(metrics={"m": Metric(min=3, max=3)}), "metrics.m.max", "not above the min"),
        (
            Rules(providers={"us": Provider(kind="measured")}, metrics={"waits": Metric(provider="us")}),
            "metrics.waits.query",
            "'waits' is not measured here. Did you mean 'wait_s'?",
        ),
        (Rules(shares={"ada": 0.0}), "shares.ada", "can't be"),
    ],
)
async def test_rules_that_can_not_be_are_refused_with_the_place(
    plane: Plane, governing: Governing, rules: Rules, place: str, words: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await governing.set_rules(plane.caller, rules)
    assert caught.value.place == place
    assert words in str(caught.value)
    assert (await governing.rules(plane.caller)).version == 0


async def test_only_admins_change_rules_and_nobody_overwrites_what_they_have_not_seen(
    plane: Plane, governing: Governing
) -> None:
    view = await governing.set_rules(plane.caller, Rules(weights={"price": 3.0}), version=0)
    assert (view.version, view.changed_by, view.rules.weights) == (1, "ada", {"price": 3.0})
    with pytest.raises(Conflict, match="at version 1 by now, by ada, not 0"):
        await governing.set_rules(plane.caller, Rules(), version=0)
    member = dataclasses.replace(plane.caller, user=dataclasses.replace(plane.caller.user, role=Role.MEMBER))
    with pytest.raises(Forbidden):
        await governing.set_rules(member, Rules())
    reader = dataclasses.replace(plane.caller, scopes=frozenset({Scope.READ}))
    with pytest.raises(Forbidden):
        await governing.set_catalogue(reader, Catalogue())


async def test_prices_come_from_the_site_its_offer_and_its_energy(plane: Plane, governing: Governing) -> None:
    await plane.add()
    price = Price(gpu_hour=1.0, offer="cloud/gpu", energy="DE", gpu_watts=500.0, node_watts=1000.0)
    await say(plane, "here", price=price)
    hours = tuple(float(hour) for hour in range(24))
    await governing.set_catalogue(
        plane.caller,
        Catalogue(offers={"cloud/gpu": Offer(hour=2.0)}, energy={"DE": Tariff(kwh=9.0, by_hour=hours, pue=2.0)}),
    )
    at = datetime(2030, 1, 1, 3, 30, tzinfo=UTC).timestamp()
    known = await plane.db.read(read_knowledge, at)
    row = await plane.db.read(site_rows.get, "here")
    site = places.snapshot(row, knowledge=known)
    assert site.node_hour == 2.0 + 1.0 * 3.0 * 2.0
    assert site.gpu_hour == 1.0 + 0.5 * 3.0 * 2.0


async def test_policies_are_chosen_for_groups_of_sites_and_for_queues(plane: Plane, governing: Governing) -> None:
    for name in ("gpu-one", "gpu-two", "plain"):
        await plane.add(name)
    await say(plane, "gpu-two", labels={"zone": "DE"}, queue_policies={"main": "locality"})
    rules = Rules(
        policies=(
            Choice(policy="locality", sites=("gpu-*",), constraints=("zone is DE",)),
            Choice(policy="fair-share", sites=("gpu-*",)),
        )
    )
    await governing.set_rules(plane.caller, rules)
    known = await plane.db.read(read_knowledge, 1e9)
    found = {row.name: places.snapshot(row, knowledge=known) for row in await plane.db.read(site_rows.every)}
    assert {name: site.policy for name, site in found.items()} == {
        "gpu-one": "fair-share",
        "gpu-two": "locality",
        "plain": "",
    }


async def test_waits_and_failures_are_learned_from_attempts(plane: Plane) -> None:
    site = await plane.add(instant=True)
    plane.lead()
    await plane.done((await plane.submit()).id)
    known = await plane.db.read(read_knowledge, plane.clock.now().timestamp())
    assert known.waits["here"][""].cases == pytest.approx(1.0, abs=0.01)
    assert known.failures["here"] == 0.0
    assert len(site.submissions) == 1
    rows = await plane.db.read(attempt_rows.queued)
    assert rows[0].site == "here"


async def test_a_job_constrained_by_a_figure_waits_and_goes_when_the_rules_say_so(
    plane: Plane, governing: Governing
) -> None:
    site = await plane.add(instant=True)
    plane.lead()
    await governing.set_rules(plane.caller, Rules(metrics={"green": Metric()}))
    job = await plane.submit(dataclasses.replace(TRUE, constraints=("green >= 0.5",)))
    view = await plane.until(lambda one: one.reason is Reason.METRIC, job.id)
    assert "its green is not known" in view.message
    (verdict,) = (await plane.jobs.explain(plane.caller, job.id)).sites
    assert (verdict.fits, verdict.now) == (True, False)
    await governing.set_rules(plane.caller, Rules(metrics={"green": Metric(missing=0.7)}))
    (done,) = await plane.done(job.id, timeout_s=60)
    assert done.state is JobState.COMPLETED
    assert len(site.submissions) == 1


async def test_a_typo_is_refused_and_a_metric_is_a_key_too(plane: Plane, governing: Governing) -> None:
    await plane.add()
    await governing.set_rules(plane.caller, Rules(metrics={"latency_ms": Metric(missing=1.0)}))
    await plane.submit(dataclasses.replace(TRUE, constraints=("latency_ms < 20",)))
    with pytest.raises(Invalid, match="Did you mean 'latency_ms'"):
        await plane.submit(dataclasses.replace(TRUE, constraints=("latncy_ms < 20",)))
    waiting = dataclasses.replace(TRUE, constraints=("latncy_ms < 20",), wait_for_site=True)
    assert (await plane.submit(waiting)).state is JobState.QUEUED


# ---- metering


async def metered(metric: Metric, handle: Any, *sites: Metered, clock: ManualClock | None = None) -> Any:
    clock = clock or ManualClock()
    metering = Metering(clock, httpx.AsyncClient(transport=httpx.MockTransport(handle)))
    known = dataclasses.replace(
        await asyncio.to_thread(lambda: _knowledge()), rules=Rules(providers={"lab": LAB}, metrics={"m": metric})
    )
    found = await metering.round(known, sites)
    again = await metering.round(known, sites)
    await metering.close()
    assert again == [], "it is not asked again before its time"
    return {figure.site_id: figure for figure in found}


def _knowledge() -> Any:
    from isthmus.control.knowledge import Knowledge

    return Knowledge()


A = Metered(1, "a", {"site": "a", "rack": 4}, {})
B = Metered(2, "b", {"site": "b"}, {})


async def test_one_question_serves_all_sites_and_a_site_may_have_its_own() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        query = request.url.params["query"]
        asked.append(query)
        series = [("a", "1"), ("c", "3")] if query == "m" else [("other", "9")]
        result = [{"metric": {"site": site}, "value": [0, value]} for site, value in series]
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": result}})

    own = Metered(3, "own", {}, {"m": "special"})
    said = Metered(4, "said", {}, {"m": 0.5})
    found = await metered(Metric(provider="lab"), handle, A, B, own, said)
    assert sorted(asked) == ["m", "special"]
    assert (found[1].value, found[3].value) == (1.0, 9.0)
    assert "no figure for b" in found[2].error
    assert 4 not in found, "what a site says itself needs no question"


async def test_a_query_that_names_the_site_is_asked_for_each_and_one_failure_is_its_own() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        query = request.url.params["query"]
        assert query == 'm{rack="4"}'
        data = {"resultType": "scalar", "result": [0, "7"]}
        return httpx.Response(200, json={"status": "success", "data": data})

    found = await metered(Metric(provider="lab", query='m{rack="$rack"}'), handle, A, B)
    assert found[1].value == 7.0
    assert found[2].error == "lab: the query wants the label 'rack', which the site does not have"


async def test_the_last_figure_holds_until_it_is_too_old(plane: Plane, governing: Governing) -> None:
    await plane.add()
    metric = Metric(provider="lab", max_age=Seconds(60))
    await governing.set_rules(plane.caller, Rules(providers={"lab": LAB}, metrics={"m": metric}))
    row = await plane.db.read(site_rows.get, "here")
    await plane.db.write(figures.put, [figures.Figure(row.id, "m", 5.0, 1000.0)])
    await plane.db.write(figures.put, [figures.Figure(row.id, "m", None, 0.0, "lab is down")])
    for now, value in ((1050.0, 5.0), (1061.0, None)):
        known = await plane.db.read(read_knowledge, now)
        reading = places.snapshot(row, knowledge=known).metrics["m"]
        assert (reading.value, reading.why) == (value, "lab is down")


async def test_the_speed_of_transfers_is_a_moving_mean(plane: Plane) -> None:
    await plane.add()
    row = await plane.db.read(site_rows.get, "here")
    for speed in (1e8, 1e6):
        await plane.db.write(figures.add_sample, row.id, figures.BYTES_PER_S, speed, 1.0)
    known = await plane.db.read(read_knowledge, 2.0)
    assert 1e7 < places.snapshot(row, knowledge=known).bytes_per_s < 1e8


# ---- what if


async def test_what_if_tells_the_queue_as_it_is_and_as_it_would_be(plane: Plane) -> None:
    site = await plane.add()
    cpus = site.inventory.queues[0].nodes[0].cpus
    request = JobRequest(command=("true",), resources=Resources(cpus=cpus, time=Seconds(3600)), name="train")
    jobs = [await plane.submit(request) for _ in range(4)]
    forecasting = Forecasting(plane.db, plane.needs, plane.clock)
    soon = datetime.fromtimestamp(plane.clock.now().timestamp() + 4000, UTC)
    change = WhatIf(nodes={"here": 1}, deadlines={str(jobs[1].id): soon})
    view = await forecasting.whatif(plane.caller, change)
    assert (view.now.jobs, view.now.never) == (4, 0)
    assert view.now.last_end_s == pytest.approx(4 * 3600, abs=60)
    assert view.then.last_end_s == pytest.approx(2 * 3600, abs=60)
    (before,), (after,) = view.now.shown, view.then.shown
    assert (before.name, before.start_s) == ("train", pytest.approx(3600, abs=60))
    assert (after.job, after.late_s, after.start_s) == (jobs[1].id, 0.0, 0.0)
    alone = await forecasting.whatif(plane.caller, WhatIf(without=("here",)))
    assert alone.then.never == 4
    assert json.dumps(alone.notes)


async def test_what_waits_in_a_sites_own_queue_is_looked_at_too(plane: Plane) -> None:
    site = await plane.add(kind="slurm")
    await plane.add("other")
    cpus = site.inventory.queues[0].nodes[0].cpus
    plane.lead()
    request = JobRequest(
        command=("true",), resources=Resources(cpus=cpus, time=Seconds(3600)), sites=("here", "other"), name="train"
    )
    await say(plane, "other", limits=Limits(jobs=1))
    jobs = [await plane.submit(request) for _ in range(3)]
    for job in jobs:
        await plane.until(lambda one: one.state is JobState.PENDING, job.id)
    running = await plane.key(jobs[0].id)
    next(fake for fake in plane.fakes.values() if running in fake.attempts).start(running)
    await plane.until(lambda one: one.state is JobState.RUNNING, jobs[0].id)
    forecasting = Forecasting(plane.db, plane.needs, plane.clock)
    view = await forecasting.whatif(plane.caller, WhatIf(without=("here",)))
    assert (view.now.jobs, view.now.never) == (2, 0)
    assert {one.site for one in view.then.shown} == {"other"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (WhatIf(nodes={"hree": 1}), "nodes.hree"),
        (WhatIf(without=("hree",)), "without[0]"),
        (WhatIf(policies={"here": "fairshare"}), "policies.here"),
        (WhatIf(weights={"laod": 1.0}), "weights.laod"),
        (WhatIf(weights={"load": -1.0}), "weights.load"),
        (WhatIf(priorities={"99": 1}), "priorities.99"),
        (WhatIf(deadlines={"99": datetime(2030, 1, 1, tzinfo=UTC)}), "deadlines.99"),
    ],
)
async def test_a_change_that_names_what_is_not_there_is_refused(plane: Plane, change: WhatIf, place: str) -> None:
    await plane.add()
    with pytest.raises(Invalid) as caught:
        await Forecasting(plane.db, plane.needs, plane.clock).whatif(plane.caller, change)
    assert caught.value.place == place


def test_a_site_says_its_policies_and_figures() -> None:
    spec = SiteSpec(name="x", policy="fair-share", queue_policies={"gpu": "locality"}, metrics={"m": 1.0, "n": "q"})
    assert places.read_site(places.write_site(spec)) == spec


async def test_a_metric_that_a_site_says_and_no_rule_is_told(plane: Plane, governing: Governing) -> None:
    await plane.add("here")
    spec = SiteSpec(name="here", metrics={"trsut": 0.7})
    await plane.db.write(
        lambda conn: site_rows.change(conn, site_rows.get(conn, "here").id, spec=places.write_site(spec))
    )
    rules = Rules(
        providers={"t": Provider(kind="static", values={"trust": {"*": 0.5}})},
        metrics={"trust": Metric(provider="t", weight=1.0)},
    )
    await governing.set_rules(plane.caller, rules)
    found = {one.metric: one for one in await governing.figures(plane.caller)}
    assert found["trsut"].value is None and "Did you mean 'trust'?" in found["trsut"].why
    assert not found["trust"].why
