"""Policies: their orders, backfill that never delays the head, nobody starves, and whatever chance brings."""

import dataclasses
import math
from collections.abc import Sequence
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.domain.errors import Invalid
from isthmus.placement import policies
from isthmus.placement.backfill import Release
from isthmus.placement.needs import Need
from isthmus.placement.plan import PATIENCE_S, Plan, Terms, Ticket, plan
from isthmus.placement.policies import Policy, Usage, find_policy, policy_names
from isthmus.placement.snapshot import SiteSnapshot
from tests.unit.placement.test_plan import site, tickets


def busy(cpus: int, used: int, until: float, **more: object) -> tuple[SiteSnapshot, Terms]:
    """A site of which some cores are in use until then."""
    here = site("here", cpus=cpus, **more)
    here.used_cpus = used
    return here, Terms(releases=lambda name: [Release(until, used, 0, 0)])


def jobs(result: Plan) -> list[int]:
    return [one.job for one in result.assignments]


# ---- priority, with backfill


def test_what_ends_before_the_head_can_start_fills_the_gap() -> None:
    head, short, long = Need(user="a", cpus=4), Need(user="b", time=50), Need(user="c", time=500)
    here, terms = busy(4, 2, until=100.0)
    result = plan({head: tickets(1), short: tickets(2), long: tickets(3)}, [here], now=0.0, terms=terms)
    assert jobs(result) == [2]
    assert "would be delayed" in result.waiting[long].message
    assert "2 of 4 cores are free, it needs 4" in result.waiting[head].message


def test_what_fits_beside_the_head_may_stay_for_ever() -> None:
    head, beside = Need(user="a", cpus=3), Need(user="b", cpus=1)
    here, terms = busy(4, 2, until=100.0)
    result = plan({head: tickets(1), beside: tickets(2, 3)}, [here], now=0.0, terms=terms)
    assert jobs(result) == [2], "one core is left beside the head; the second job would take one of its own"


def test_nothing_passes_a_head_whose_start_is_not_known() -> None:
    head, short = Need(user="a", cpus=4), Need(user="b", time=1)
    here, terms = busy(4, 2, until=math.inf)
    assert jobs(plan({head: tickets(1), short: tickets(2)}, [here], now=0.0, terms=terms)) == []


def test_the_head_reserves_where_it_can_start_first_and_the_other_site_stays_open() -> None:
    head, small = Need(user="a", cpus=4), Need(user="b")
    sooner, later = site("sooner", cpus=4), site("later", cpus=4)
    sooner.used_cpus = later.used_cpus = 2
    ends = {"sooner": 100.0, "later": 900.0}
    terms = Terms(releases=lambda name: [Release(ends[name], 2, 0, 0)])
    result = plan({head: tickets(1), small: tickets(2)}, [sooner, later], now=0.0, terms=terms)
    assert [(one.job, one.site) for one in result.assignments] == [(2, "later")]


def test_whoever_waited_long_has_a_reservation_too_though_not_first() -> None:
    first, second, small = Need(user="a", cpus=4), Need(user="b", cpus=4), Need(user="c")
    one, two = site("one", cpus=4), site("two", cpus=4)
    one.used_cpus = two.used_cpus = 2
    terms = Terms(releases=lambda name: [Release(1e6, 2, 0, 0)])
    queue = {first: tickets(1), second: tickets(2), small: tickets(3)}
    assert jobs(plan(queue, [one, two], now=PATIENCE_S / 2, terms=terms)) == [3]
    assert jobs(plan(queue, [one, two], now=PATIENCE_S * 2, terms=terms)) == []


def test_a_user_at_their_limit_holds_nobody_back() -> None:
    full, other = Need(user="a"), Need(user="b")
    here = site("here", cpus=4, max_jobs_per_user=1, jobs_of={"a": 1})
    assert jobs(plan({full: tickets(1), other: tickets(2)}, [here], now=1e6)) == [2]


# ---- fair share


def test_whoever_had_least_of_their_share_goes_first() -> None:
    ada, bob = Need(user="ada", time=3600), Need(user="bob", time=3600)
    here = site("here", cpus=1, policy="fair-share")
    queue = {ada: tickets(1, 2, priority=9), bob: tickets(3)}
    assert jobs(plan(queue, [here], now=0.0, terms=Terms(usage={"ada": Usage(100.0)}))) == [3]
    assert jobs(plan(queue, [here], now=0.0, terms=Terms(usage={"bob": Usage(100.0)}))) == [1]


def test_one_plan_is_fair_in_itself_and_by_parts() -> None:
    ada, bob = Need(user="ada", time=60), Need(user="bob", time=60)
    here = site("here", cpus=6, policy="fair-share")
    queue = {ada: tickets(*range(1, 9)), bob: tickets(*range(11, 19))}
    equal = jobs(plan(queue, [here], now=0.0))
    assert sum(job < 10 for job in equal) == 3
    favoured = jobs(plan(queue, [here], now=0.0, terms=Terms(parts={"ada": 2.0})))
    assert sum(job < 10 for job in favoured) == 4


def test_the_larger_part_of_any_resource_counts() -> None:
    gpus, cores = Need(user="ada", gpus=1, time=60), Need(user="bob", cpus=1, time=60)
    here = site("here", cpus=64, gpus=4, policy="fair-share", max_jobs=4)
    result = plan({gpus: tickets(*range(10)), cores: tickets(*range(10, 20))}, [here], now=0.0)
    assert sum(job < 10 for job in jobs(result)) == 1, "a GPU is a quarter of them all, a core a 64th"


# ---- locality


def test_a_job_waits_for_its_data_as_long_as_moving_it_would_take() -> None:
    need = Need(user="a", digests=(("sha256:1", 10**10),))
    near = site("near", cpus=1, policy="locality", cached=frozenset({"sha256:1"}))
    near.used_cpus = 1
    far = site("far", policy="locality", bytes_per_s=1e8)  # 100 s
    early = plan({need: tickets(1)}, [near, far], now=40.0)
    assert jobs(early) == []
    assert early.wake_s == 60.0
    assert "1m00s more for a place where its data is" in early.waiting[need].message
    assert [one.site for one in plan({need: tickets(1)}, [near, far], now=101.0).assignments] == ["far"]


# ---- several policies


def test_each_site_keeps_its_own_order() -> None:
    first, second = Need(user="ada", time=60, sites=("fair",)), Need(user="bob", time=60, sites=("fair",))
    third, fourth = dataclasses.replace(first, sites=("plain",)), dataclasses.replace(second, sites=("plain",))
    sites = [site("fair", cpus=1, policy="fair-share"), site("plain", cpus=1)]
    queue = {first: tickets(1), second: tickets(2), third: tickets(3), fourth: tickets(4)}
    result = plan(queue, sites, now=0.0, terms=Terms(usage={"ada": Usage(1e6)}))
    assert {(one.site, one.job) for one in result.assignments} == {("fair", 2), ("plain", 3)}


def test_what_finds_no_room_in_one_line_goes_to_the_next() -> None:
    need = Need(user="ada")
    sites = [site("cheap", cpus=2), site("dear", cpus=2, policy="fair-share", node_hour=50.0)]
    result = plan({need: tickets(1, 2, 3, 4, 5)}, sites, now=0.0)
    assert sorted(one.site for one in result.assignments) == ["cheap", "cheap", "dear", "dear"]
    assert jobs(result) == [1, 2, 3, 4]


def test_a_queue_may_have_a_policy_of_its_own() -> None:
    here = site("here", queue_policies={"main": "fair-share"})
    assert here.policy_of("main") == "fair-share"
    assert here.policy_of("other") == ""


# ---- plug-ins


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> object:
    def clear() -> None:
        policies._points.cache_clear()
        find_policy.cache_clear()

    clear()
    points = [
        EntryPoint("earliest", f"{__name__}:EARLIEST", policies.GROUP),
        EntryPoint("nothing", f"{__name__}:PATIENCE_S", policies.GROUP),
        EntryPoint("gone", "isthmus_nowhere:POLICY", policies.GROUP),
    ]
    monkeypatch.setattr(policies, "entry_points", lambda group: points)
    yield None
    clear()


EARLIEST = Policy(
    name="earliest", summary="by deadline", order=lambda ticket, need, shares: (ticket.deadline, ticket.job), sorts=True
)


def test_a_plugin_orders_jobs_of_one_need_too(plugins: object) -> None:
    need = Need(user="ada")
    line = [Ticket(0, 1, deadline=30.0), Ticket(0, 2, deadline=10.0), Ticket(0, 3, deadline=20.0)]
    assert jobs(plan({need: line}, [site("here", cpus=2, policy="earliest")], now=0.0)) == [2, 3]
    assert "earliest" in policy_names()


def test_a_broken_plugin_says_so(plugins: object) -> None:
    with pytest.raises(Invalid, match="can't be loaded"):
        find_policy("gone")
    with pytest.raises(Invalid, match="is broken"):
        find_policy("nothing")
    with pytest.raises(Invalid, match="fair-share"):
        find_policy("fairshare")


# ---- whatever chance brings

NAMES = ("", "priority", "fair-share", "locality")
shapes = st.builds(
    Need,
    user=st.sampled_from(["ada", "bob", "eve"]),
    cpus=st.integers(1, 6),
    mem=st.integers(0, 5),
    gpus=st.integers(0, 2),
    time=st.sampled_from([0, 10, 100]),
    digests=st.sampled_from([(), (("sha256:1", 10**9),)]),
)
grounds = st.lists(
    st.builds(
        site,
        name=st.sampled_from("abcd"),
        cpus=st.integers(1, 8),
        gpus=st.integers(0, 3),
        mem=st.integers(0, 10),
        policy=st.sampled_from(NAMES),
        cached=st.sampled_from([frozenset(), frozenset({"sha256:1"})]),
        max_jobs=st.integers(0, 3),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.name,
)


def lines(wanted: dict[Need, list[int]]) -> dict[Need, list[Ticket]]:
    queue, job = {}, 0
    for need, priorities in wanted.items():
        queue[need] = sorted(Ticket(-one, job + number) for number, one in enumerate(priorities))
        job += len(priorities)
    return queue


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(shapes, st.lists(st.integers(-2, 2), min_size=1, max_size=5), max_size=6), grounds)
def test_whatever_the_policies_capacity_holds_and_the_same_snapshot_gives_the_same_plan(
    wanted: dict[Need, list[int]], sites: list[SiteSnapshot]
) -> None:
    queue = lines(wanted)
    result = plan(queue, sites, now=50.0)
    assert result == plan(queue, list(reversed(sites)), now=50.0)
    need_of = {ticket.job: need for need, line in queue.items() for ticket in line}
    assert len(set(jobs(result))) == len(result.assignments)
    for place in sites:
        there = [need_of[one.job] for one in result.assignments if one.site == place.name]
        assert sum(need.cpus for need in there) <= place.total_cpus
        assert sum(need.gpus for need in there) <= place.total_gpus
        assert not place.total_mem or sum(need.mem for need in there) <= place.total_mem
        assert not place.max_jobs or len(there) <= place.max_jobs
    started = set(jobs(result))
    for need, line in queue.items():
        assert all(ticket.job in started for ticket in line) or need in result.waiting


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 60), st.integers(0, 30)), min_size=1, max_size=25),
    st.integers(4, 8),
    st.sampled_from(NAMES),
)
def test_nobody_starves_and_the_head_starts_when_it_was_told(
    wanted: list[tuple[int, int, int]], cpus: int, policy: str
) -> None:
    """Jobs of (cores, time limit, arrival) run on one site as long as they may, while a user floods it with small ones.

    The first in the queue never starts later than the reservation that it had when it came to stand there.
    """
    here = site("here", cpus=cpus, policy=policy)
    flood = Need(user="flood", cpus=1, time=7)
    line: list[tuple[Need, Ticket]] = [
        (Need(user=f"u{number % 3}", cpus=size, time=span), Ticket(0, 100 * at + number, float(at)))
        for number, (size, span, at) in enumerate(wanted)
    ]
    running: list[tuple[float, Need, int]] = []
    waiting: list[tuple[Need, Ticket]] = []
    promised: dict[int, float] = {}
    done: set[int] = set()
    real = {ticket.job for _, ticket in line}
    now = 0.0
    bound = 60.0 * (len(wanted) + 3) * 4  # far more than all of them one after another
    while not real <= done:
        assert now < bound, f"{real - done} starve"
        done |= {job for end, _, job in running if end <= now}
        running = [one for one in running if one[0] > now]
        waiting += [one for one in line if one[1].submitted_at == now]
        waiting.append((flood, Ticket(0, 100 * int(now) + 99, now)))
        queue: dict[Need, list[Ticket]] = {}
        for need, ticket in sorted(waiting, key=lambda one: one[1]):
            queue.setdefault(need, []).append(ticket)
        here.used_cpus = sum(need.cpus for _, need, _ in running)
        here.used_jobs = len(running)
        releases = [Release(end, need.cpus, 0, 0) for end, need, _ in running]
        result = plan(queue, [here], now=now, terms=Terms(releases=lambda _, found=releases: found))
        needs: dict[int, Need] = {ticket.job: need for need, ticket in waiting}
        started: Sequence[int] = jobs(result)
        for job in started:
            assert now <= promised.get(job, math.inf), f"job {job} was delayed by what was let pass it"
            running.append((now + needs[job].time, needs[job], job))
        waiting = [one for one in waiting if one[1].job not in started]
        if policy != "fair-share" and waiting:
            head = min(ticket for _, ticket in waiting)
            free, at = cpus - sum(need.cpus for _, need, _ in running), now
            for end, need, _ in sorted(running, key=lambda one: one[0]):
                if free >= needs[head.job].cpus:
                    break
                free, at = free + need.cpus, end
            promised.setdefault(head.job, at)
        now += 1.0
