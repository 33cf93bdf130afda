"""Every method: its schedules are valid, all jobs end, the same seed gives the same schedule; ours is the cheapest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.domain.errors import Invalid, NotFound
from isthmus.placement.sizing import learning, methods
from isthmus.placement.sizing.bound import by_hull, with_capacity
from isthmus.placement.sizing.generate import generate
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.schedule import Cost, judge
from isthmus.placement.sizing.simulate import Decision, Place, View, mispredict, simulate

problems = st.builds(
    generate,
    nodes=st.integers(1, 4),
    jobs=st.integers(1, 12),
    gap_s=st.sampled_from([0.0, 3000.0, 30000.0]),
    seed=st.integers(0, 1000),
)


def cost(problem: Problem, name: str, *, restart: float = 0.0, error: float = 0.0) -> Cost:
    method = methods.make(name, seed=3, iterations=5)
    result = simulate(problem, method, restart_s=restart, predicted=mispredict(problem, error, 1), max_decisions=20_000)
    return judge(problem, result.schedule, restart)


@pytest.mark.parametrize("name", list(methods.BUILT_IN))
@settings(max_examples=12, deadline=None)
@given(problems, st.sampled_from([0.0, 300.0]), st.sampled_from([0.0, 0.13]))
def test_schedules_are_valid_and_nobody_starves(name: str, problem: Problem, restart: float, error: float) -> None:
    found = cost(problem, name, restart=restart, error=error)
    assert set(found.ends_s) == {job.id for job in problem.jobs}
    assert found.total >= by_hull(problem) * (1 - 1e-9)


@pytest.mark.parametrize("name", list(methods.BUILT_IN))
def test_the_same_seed_gives_the_same_schedule(name: str) -> None:
    problem = generate(nodes=3, jobs=12, gap_s=5000.0, seed=5)
    runs = [simulate(problem, methods.make(name, seed=2, iterations=5), restart_s=60.0).schedule for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("restart", "error"), [(0.0, 0.0), (300.0, 0.13)])
def test_ours_costs_least(seed: int, restart: float, error: float) -> None:
    problem = generate(nodes=6, jobs=40, gap_s=4000.0, seed=seed)
    ours = cost(problem, methods.OURS, restart=restart, error=error).total
    for peer in ("path-relinking", "greedy", "edf", "edf-whole-nodes", "fifo"):
        assert ours < cost(problem, peer, restart=restart, error=error).total, peer


@pytest.mark.parametrize(("restart", "most"), [(0.0, 0.99), (300.0, 1.005)])
def test_planning_with_the_doubt_saves_where_trying_is_cheap_and_harms_nowhere(
    monkeypatch: pytest.MonkeyPatch, restart: float, most: float
) -> None:
    def totals() -> float:
        problems = [generate(nodes=6, jobs=40, gap_s=20_000.0, seed=seed) for seed in (1, 2, 3)]
        return sum(cost(problem, methods.OURS, restart=restart, error=0.13).total for problem in problems)

    with_doubt = totals()
    monkeypatch.setattr(learning, "HOPE", 0.0)
    assert with_doubt < most * totals()


def test_under_overload_the_bound_that_knows_the_nodes_is_the_higher_and_still_one() -> None:
    problem = generate(nodes=2, jobs=30, gap_s=0.0, seed=1)
    bound = with_capacity(problem, slots=60, steps=40)
    assert by_hull(problem) < bound <= cost(problem, methods.OURS).total


def test_the_cheapest_way_to_a_deadline_is_a_mixture_of_two() -> None:
    """100 s on one GPU for 1, 50 s on two for 4: by 75 s, a third of the work fast first, then the rest cheaply."""
    vms = (Vm("one", "a", 1, 36.0), Vm("two", "a", 2, 288.0))
    job = SizedJob("x", 0.0, 75.0, 1000.0, {"a": (100.0, 50.0)})
    problem = Problem(1, vms, (job,))
    schedule = simulate(problem, methods.make(methods.OURS)).schedule
    assert [(run.gpus, round(run.start_s, 3), round(run.end_s, 3)) for run in schedule.runs] == [
        (2, 0.0, 25.0),
        (1, 25.0, 75.0),
    ]
    assert judge(problem, schedule).total == pytest.approx(25 * 0.08 + 50 * 0.01)
    assert by_hull(problem) == pytest.approx(25 * 0.08 + 50 * 0.01)


def test_a_switch_that_a_restart_makes_dearer_is_not_made() -> None:
    vms = (Vm("one", "a", 1, 36.0), Vm("two", "a", 2, 76.0))
    job = SizedJob("x", 0.0, 75.0, 1000.0, {"a": (100.0, 50.0)})
    schedule = simulate(Problem(1, vms, (job,)), methods.make(methods.OURS), restart_s=20.0).schedule
    assert [run.gpus for run in schedule.runs] == [2]


def test_a_name_nearly_right_is_named() -> None:
    with pytest.raises(NotFound) as caught:
        methods.make("path-relink")
    assert "path-relinking" in caught.value.hint


class Idle:
    def decide(self, view: View) -> Decision:
        return Decision()


class Crowd:
    def decide(self, view: View) -> Decision:
        return Decision({number: Place(0, 0, 8) for number in range(len(view.active))})


def test_a_method_that_breaks_the_rules_is_told() -> None:
    problem = generate(nodes=1, jobs=2, gap_s=0.0, seed=1)
    with pytest.raises(Invalid, match="never get on"):
        simulate(problem, Idle())
    with pytest.raises(Invalid, match="of the 1 GPUs"):
        simulate(problem, Crowd())
