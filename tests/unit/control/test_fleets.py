"""Kinds of GPU nodes at one site: what a GPU of each costs, and which jobs go to which."""

import dataclasses
from types import SimpleNamespace

import pytest

from isthmus.control.fleets import fleets_of, hour_of, spread
from isthmus.control.knowledge import Knowledge
from isthmus.control.queueplan import _spent
from isthmus.control.sites import _check as check
from isthmus.domain.errors import Invalid
from isthmus.domain.placement import Catalogue, Offer, Tariff
from isthmus.domain.sites import GpuKind, GpuPrice, NodeType, Price, Queue, SiteSpec
from isthmus.placement.needs import Need
from isthmus.placement.plan import explain
from isthmus.placement.scores import hourly
from isthmus.placement.sizing.pool import Member
from isthmus.placement.sizing.problem import SizedJob
from isthmus.placement.snapshot import SiteSnapshot

OLD = NodeType(name="old", count=2, cpus=8, gpus=(GpuKind(type="K80", count=2),))
NEW = NodeType(name="new", count=1, cpus=32, gpus=(GpuKind(type="A100", count=4),))
PRICE = Price(
    gpu_hour=1.0,
    gpu_watts=200.0,
    energy="DE",
    gpus={"k80": GpuPrice(hour=0.4), "A100": GpuPrice(offer="cloud/a100", watts=400.0)},
)
CATALOGUE = Catalogue(offers={"cloud/a100": Offer(hour=16.0, gpus=8)}, energy={"DE": Tariff(kwh=0.25, pue=2.0)})


def site(price: Price = PRICE, catalogue: Catalogue = CATALOGUE) -> SiteSnapshot:
    found = SiteSnapshot(name="here", queues=(Queue(name="main", default=True, nodes=(OLD, NEW)),))
    rates = Knowledge(catalogue=catalogue).rates(price)
    found.gpu_hour, found.gpu_hours, found.price_note = rates.gpu_hour, rates.gpu_hours, rates.note
    return found


def test_each_type_has_its_price_from_the_site_or_an_offer_with_its_energy() -> None:
    here = site()
    assert (here.gpu_price("K80"), here.gpu_price("a100")) == (0.4 + 0.2 * 0.5, 2.0 + 0.4 * 0.5)
    assert here.gpu_price("other") == 1.0 + 0.2 * 0.5, "as for all of the site's"
    typed = Need(user="ada", gpus=2, gpu_type="a100")
    assert hourly(typed, here) == 2 * here.gpu_price("A100")
    assert hourly(dataclasses.replace(typed, gpu_type=""), here) == 2 * here.gpu_price("K80"), "the smallest that fits"
    assert hourly(Need(user="ada", gpus=3), here) == 3 * here.gpu_price("A100"), "only those nodes have three"
    assert hourly(Need(user="ada", gpu_part=0.5, gpu_type="A100"), here) == 0.5 * here.gpu_price("A100")


def test_an_offer_that_the_catalogue_lacks_is_said_where_the_price_is_explained() -> None:
    here = site(dataclasses.replace(PRICE, gpus={"A100": GpuPrice(offer="cloud/a10")}))
    (verdict,) = explain(Need(user="ada", gpus=1), [here])
    (note,) = [part.note for part in verdict.scores if part.name == "price"]
    assert "the catalogue has no offer 'cloud/a10'" in note
    assert "cloud/a100" in note


def test_a_job_goes_where_it_is_in_time_at_the_least_price() -> None:
    here = site()
    fleets = {fleet.kind: fleet for fleet in fleets_of(here)}
    # With one GPU it takes 4 hours on a K80 and 1 on an A100: 2 and 2.2 in money.
    times = {"K80": (14400.0, 8000.0), "A100": (3600.0, 2000.0, 1400.0, 1100.0)}

    def goes(deadline_s: float, prices: dict[str, float]) -> str:
        could = {
            fleets[kind]: Member(SizedJob(1, 0.0, deadline_s, 0.01, {kind: row}), 1.0) for kind, row in times.items()
        }
        members = {fleet: [] for fleet in fleets.values()}
        spread(members, [(could, None)], 0.0, {fleets[kind]: price for kind, price in prices.items()})
        return next(fleet.kind for fleet, there in members.items() if there)

    real = {kind: hour_of(here, fleet) for kind, fleet in fleets.items()}
    assert goes(50_000.0, real) == "K80"
    assert goes(6000.0, real) == "A100", "no other is in time"
    assert goes(50_000.0, {"K80": 0.0, "A100": 0.0}) == "A100", "without prices, the fewest GPU-seconds"


def test_what_a_job_has_cost_counts_each_attempt_by_its_gpus() -> None:
    here = site()
    rows = [
        SimpleNamespace(job_id=1, started_at=3600.0, ended_at=7200.0, plan='{"node": "old", "gpus": 2}'),
        SimpleNamespace(job_id=1, started_at=7200.0, ended_at=None, plan='{"node": "new", "gpus": 1}'),
    ]
    assert _spent(rows, here, 10800.0) == {1: 2 * here.gpu_price("K80") + here.gpu_price("A100")}


def test_a_price_below_nothing_is_refused_at_its_place() -> None:
    for price, place in ((Price(node_hour=-1.0), "price.node_hour"), (Price(gpus={"a100": GpuPrice(watts=-5.0)}), "")):
        with pytest.raises(Invalid, match="is no price") as error:
            check(SiteSpec(name="here", price=price))
        assert error.value.place == (place or "price.gpus.a100.watts")
