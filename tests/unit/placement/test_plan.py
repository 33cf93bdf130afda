"""Placement: capacity is never exceeded, nobody starves, the same snapshot gives the same plan."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.domain.reasons import Reason
from isthmus.domain.sites import GpuKind, Health, NodeType, Queue, SiteState
from isthmus.domain.units import Bytes, Seconds
from isthmus.placement.needs import Need
from isthmus.placement.plan import Ticket, explain, plan
from isthmus.placement.snapshot import SiteSnapshot


def site(name: str, cpus: int = 4, gpus: int = 0, mem: int = 0, nodes: int = 1, **more: object) -> SiteSnapshot:
    kinds = (GpuKind(type="a100", count=gpus),) if gpus else ()
    node = NodeType(name=f"{name}-node", count=nodes, cpus=cpus, mem=Bytes(mem), gpus=kinds)
    queue = Queue(name="main", default=True, max_time=more.pop("max_time", Seconds(0)), nodes=(node,))
    return SiteSnapshot(name=name, queues=(queue,), **more)


def tickets(*jobs: int, priority: int = 0, at: float = 0.0) -> list[Ticket]:
    return sorted(Ticket(-priority, job, at) for job in jobs)


def test_it_fills_a_site_to_its_cores_and_says_why_the_rest_waits() -> None:
    need = Need(user="ada", cpus=2)
    result = plan({need: tickets(1, 2, 3)}, [site("here", cpus=4)], now=0.0)
    assert [one.job for one in result.assignments] == [1, 2]
    assert result.waiting[need].reason is Reason.CAPACITY
    assert "0 of 4 cores are free, it needs 2" in result.waiting[need].message


def test_higher_priority_goes_first_then_the_older() -> None:
    low, high = Need(user="ada", cpus=1), Need(user="bob", cpus=1)
    queue = {low: tickets(1, 2), high: tickets(3, priority=5)}
    result = plan(queue, [site("here", cpus=2)], now=0.0)
    assert [one.job for one in result.assignments] == [3, 1]


def test_a_site_with_its_own_queue_takes_more_than_fits_up_to_its_limit() -> None:
    need = Need(user="ada", cpus=4)
    cluster = site("cluster", cpus=4, own_queue=True, max_queued=3)
    result = plan({need: tickets(*range(5))}, [cluster], now=0.0)
    assert len(result.assignments) == 3
    assert result.waiting[need].reason is Reason.LIMIT


def test_gpu_types_are_matched_whatever_their_case_and_untyped_ones_are_not_guessed() -> None:
    typed, untyped = site("typed", gpus=2), site("untyped")
    untyped.queues = (Queue(name="main", nodes=(NodeType(name="n", cpus=4, gpus=(GpuKind(count=2),)),)),)
    verdicts = {v.site: v for v in explain(Need(user="ada", gpus=2, gpu_type="A100"), [typed, untyped])}
    assert verdicts["typed"].fits
    assert not verdicts["untyped"].fits
    assert "it needs 2 GPUs of type A100 on a node, there are 0" in verdicts["untyped"].why[0]


def test_each_rejection_is_explained() -> None:
    cases = {
        "named": (Need(user="a", sites=("other",)), {}, "the job asks for other"),
        "draining": (Need(user="a"), {"state": SiteState.DRAINING}, "draining"),
        "zone": (Need(user="a", zones=frozenset({"eu"})), {"zone": "us"}, "may only be in eu"),
        "no zone": (Need(user="a", zones=frozenset({"eu"})), {}, "no declared zone"),
        "engine": (Need(user="a", image=True), {"engines_known": True}, "no container engine"),
        "nodes": (Need(user="a", nodes=2), {}, "runs jobs on one"),
        "time": (Need(user="a", time=7200), {"max_time": Seconds(3600)}, "over the limit of queue main"),
        "down": (Need(user="a"), {"health": Health.UNREACHABLE, "health_message": "no route"}, "no route"),
        "credential": (Need(user="a"), {"users": frozenset({"b"})}, "a has no credential there"),
        "cores": (Need(user="a", cpus=64), {}, "it needs 64 cores on a node, there are 4"),
    }
    for name, (need, facts, words) in cases.items():
        (verdict,) = explain(need, [site("here", **facts)])
        assert not verdict.free, name
        assert words in verdict.why[0], name


def test_it_goes_where_its_data_is() -> None:
    need = Need(user="a", digests=(("sha256:1", 10**9),))
    far, near = site("a-far"), site("near", cached=frozenset({"sha256:1"}))
    assert plan({need: tickets(1)}, [far, near], now=0.0).assignments[0].site == "near"


needs = st.builds(
    Need,
    user=st.sampled_from(["ada", "bob"]),
    cpus=st.integers(1, 6),
    mem=st.integers(0, 5),
    gpus=st.integers(0, 3),
    zones=st.one_of(st.none(), st.frozensets(st.sampled_from(["eu", "us"]))),
)
places = st.lists(
    st.builds(
        site,
        name=st.sampled_from("abcd"),
        cpus=st.integers(1, 8),
        gpus=st.integers(0, 4),
        mem=st.integers(0, 10),
        zone=st.sampled_from(["", "eu", "us"]),
        max_jobs=st.integers(0, 3),
        max_jobs_per_user=st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda one: one.name,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(needs, st.integers(1, 5), max_size=5), places)
def test_no_plan_exceeds_capacity_or_breaks_residency(wanted: dict[Need, int], sites: list[SiteSnapshot]) -> None:
    queue, job = {}, 0
    for need, count in wanted.items():
        queue[need] = tickets(*range(job, job + count))
        job += count
    untouched = copy.deepcopy(sites)
    result = plan(queue, sites, now=0.0)
    again = plan(queue, list(reversed(sites)), now=0.0)
    assert (result, result.assignments) == (again, again.assignments)
    assert [(one.used_cpus, one.used_jobs) for one in sites] == [(one.used_cpus, one.used_jobs) for one in untouched]
    need_of = {ticket.job: need for need, line in queue.items() for ticket in line}
    assert len({one.job for one in result.assignments}) == len(result.assignments)
    for place in sites:
        there = [need_of[one.job] for one in result.assignments if one.site == place.name]
        assert sum(need.cpus for need in there) <= place.total_cpus
        assert sum(need.gpus for need in there) <= place.total_gpus
        assert not place.total_mem or sum(need.mem for need in there) <= place.total_mem
        assert not place.max_jobs or len(there) <= place.max_jobs
        for user in ("ada", "bob"):
            mine = [need for need in there if need.user == user]
            assert not place.max_jobs_per_user or len(mine) <= place.max_jobs_per_user
        assert all(need.zones is None or place.zone in need.zones for need in there)


def test_a_part_of_a_gpu_needs_one_with_so_much_memory_here_or_elsewhere() -> None:
    node = NodeType(name="n", cpus=4, gpus=(GpuKind(type="a100", count=1, mem=Bytes(40 << 30)),))
    here = site("here")
    here.queues = (Queue(name="main", nodes=(node,)),)
    none, remote = site("none"), site("remote", remote_gpus=(16 << 30,))

    def fits(**need: Any) -> set[str]:
        return {one.site for one in explain(Need(user="ada", **need), [here, none, remote]) if one.fits}

    assert fits(gpu_part=0.5) == {"here", "remote"}
    assert fits(gpu_part_mem=20 << 30) == {"here"}
    assert fits(gpu_part_mem=60 << 30) == set()
    assert fits(gpu_part=0.5, gpu_type="h100") == {"remote"}
