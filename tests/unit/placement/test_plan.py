"""Placement: capacity is never exceeded, nobody starves, the same snapshot gives the same plan."""

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.domain.reasons import Reason
from isthmus.domain.sites import GpuKind, Health, NodeType, Queue, SiteState
from isthmus.domain.units import Bytes, Seconds
from isthmus.placement.backfill import Release
from isthmus.placement.gpus import Part
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms, Ticket, explain, plan
from isthmus.placement.snapshot import SiteSnapshot


def site(
    name: str, cpus: int = 4, gpus: int = 0, mem: int = 0, nodes: int = 1, h100: int = 0, **more: object
) -> SiteSnapshot:
    """One with so many A100 of 40 bytes, and H100 of 80, of GPU memory."""
    kinds = (GpuKind(type="A100", count=gpus, mem=Bytes(40)), GpuKind(type="H100", count=h100, mem=Bytes(80)))
    kinds = tuple(kind for kind in kinds if kind.count)
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
    untyped.measure()
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
    gpu_type=st.sampled_from(["", "a100", "H100"]),
    zones=st.one_of(st.none(), st.frozensets(st.sampled_from(["eu", "us"]))),
)
parts = st.builds(
    Need,
    user=st.sampled_from(["ada", "bob"]),
    gpu_part=st.sampled_from([0.25, 0.4, 0.5, 0.6, 1.0]),
    gpu_part_mem=st.sampled_from([0, 10, 30, 60]),
    gpu_type=st.sampled_from(["", "a100", "H100"]),
)
places = st.lists(
    st.builds(
        site,
        name=st.sampled_from("abcd"),
        cpus=st.integers(1, 8),
        gpus=st.integers(0, 3),
        h100=st.integers(0, 2),
        remote_gpus=st.sampled_from([(), (50,)]),
        mem=st.integers(0, 10),
        zone=st.sampled_from(["", "eu", "us"]),
        max_jobs=st.integers(0, 3),
        max_jobs_per_user=st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda one: one.name,
)


def can_be(there: list[Need], place: SiteSnapshot) -> bool:
    """Whether some way gives each its GPUs, tried one after another."""
    gpus = [kind.type.casefold() for kind in place.queues[0].nodes[0].gpus for _ in range(kind.count)]
    sizes = {"a100": 40.0, "h100": 80.0}
    free = [[kind, 1.0, sizes[kind]] for kind in gpus] + [["remote", 1.0, float(mem)] for mem in place.remote_gpus]

    def put(number: int) -> bool:
        if number == len(wants):
            return True
        need, whole = wants[number]
        tried: list[list[object]] = []
        for room in free:
            kind, part, mem = room
            if room in tried or (need.gpu_type and need.gpu_type.casefold() != kind and kind != "remote"):
                continue
            tried.append(list(room))
            of = sizes.get(kind, 50.0)
            share = 1.0 if whole else max(need.gpu_part, need.gpu_part_mem / of)
            takes = of if whole else need.gpu_part_mem or share * of
            if (whole and kind == "remote") or share > part + 1e-6 or takes > mem + 0.5:
                continue
            room[1:] = [part - share, mem - takes]
            if put(number + 1):
                return True
            room[1:] = [part, mem]
        return False

    wants = [(need, True) for need in there for _ in range(need.gpus)] + [(need, False) for need in there if need.part]
    return put(0)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.one_of(needs, parts), st.integers(1, 4), max_size=6), places)
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
        assert can_be(there, place)
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


def test_parts_of_gpus_fill_them_and_what_is_left_is_said() -> None:
    here = site("here", cpus=16, gpus=2)
    half, tenth, memory = (
        Need(user="ada", gpu_part=0.6),
        Need(user="ada", gpu_part=0.3),
        Need(user="ada", gpu_part_mem=20),
    )
    queue = {half: tickets(1, 2, 6), tenth: tickets(3, 4, 5), memory: tickets(7)}
    result = plan(queue, [here], now=0.0)
    assert sorted(result.targets) == [1, 2, 3, 4], "0.6 and 0.3 on each; 1.8 of 2 GPUs are no room for 0.2 twice"
    why = result.waiting[half].message
    assert "none of 2 GPUs is free; of 2 that are shared 10% and 4 B is the most that is left" in why
    assert "it needs 60% of one" in why
    assert "it needs 20 B of its memory" in result.waiting[memory].message


def test_a_gpu_that_is_shared_is_nobodys_whole_and_becomes_free_with_its_last_part() -> None:
    here = site("here", gpus=1, h100=1)
    part = Need(user="ada", gpu_part=0.5, gpu_type="H100")
    whole, other = Need(user="bob", gpus=1, gpu_type="h100"), Need(user="bob", gpus=1)
    here.hold_gpus("h100", 0, part.part)
    (verdict,) = explain(whole, [here])
    assert not verdict.free
    assert verdict.why == ("0 of 1 GPUs of type h100 are free, it needs 1",)
    assert explain(other, [here])[0].free
    assert explain(part, [here])[0].free, "the other half"
    assert part.part is not None
    here.free_part(part.part)
    assert explain(whole, [here])[0].free
    assert here.used_gpus == 0


def test_where_parts_are_not_given_each_takes_a_whole_gpu() -> None:
    here = site("here", cpus=16, gpus=2, divides_gpus=False)
    result = plan({Need(user="ada", gpu_part=0.1): tickets(1, 2, 3)}, [here], now=0.0)
    assert sorted(result.targets) == [1, 2]


def test_a_limit_of_gpus_counts_those_that_are_shared_once() -> None:
    here = site("here", cpus=16, gpus=4, max_gpus=1)
    need = Need(user="ada", gpu_part=0.5)
    result = plan({need: tickets(1, 2, 3)}, [here], now=0.0)
    assert sorted(result.targets) == [1, 2]
    assert result.waiting[need].reason is Reason.LIMIT


def test_what_fills_a_gap_does_not_delay_a_part_of_a_gpu() -> None:
    head, long = Need(user="a", gpu_part=0.8, time=10), Need(user="b", gpu_part=0.3, time=1000)
    short = Need(user="b", gpu_part=0.3, time=50)
    here = site("here", cpus=16, gpus=1)
    here.hold_gpus("", 0, Part("", 0.5, 0))
    terms = Terms(releases=lambda name: [Release(100.0, 1, 0, 0.5)])
    result = plan({head: tickets(1), long: tickets(2), short: tickets(3)}, [here], now=0.0, terms=terms)
    assert sorted(result.targets) == [3]
    assert "would be delayed" in result.waiting[long].message
