"""Where moves are dear, or there is little to mix: few jobs one after the other, in the order that costs least."""

from itertools import permutations
from random import Random

import pytest

from isthmus.placement.sizing import methods, search
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.schedule import Cost, judge
from isthmus.placement.sizing.simulate import simulate


def cost(problem: Problem, name: str, restart_s: float = 0.0) -> Cost:
    return judge(problem, simulate(problem, methods.make(name), restart_s=restart_s).schedule, restart_s)


def test_one_after_the_other_in_the_best_order_of_all() -> None:
    """One GPU, six jobs that are all late: as cheap as the best of the 720 orders."""
    sizes = [(50, 3.0), (10, 1.0), (80, 9.0), (30, 0.5), (20, 4.0), (60, 2.0)]
    jobs = tuple(SizedJob(n, 0.0, 5.0, weight, {"a": (float(time),)}) for n, (time, weight) in enumerate(sizes))
    problem = Problem(1, (Vm("one", "a", 1, 36.0),), jobs)

    def tardiness(order: tuple[int, ...]) -> float:
        at, total = 0.0, 0.0
        for number in order:
            at += sizes[number][0]
            total += sizes[number][1] * max(0.0, at - 5.0)
        return total

    best = min(tardiness(order) for order in permutations(range(len(sizes))))
    assert cost(problem, methods.OURS).tardiness == pytest.approx(best)


def test_jobs_are_not_moved_to_and_fro_where_a_restart_is_dear() -> None:
    """A job that nobody needs soon comes between two that are needed: it waits, and neither is moved in vain."""
    jobs = (
        SizedJob("long", 0.0, 180.0, 1.0, {"a": (160.0, 82.0)}),
        SizedJob("urgent", 8.0, 108.0, 1.0, {"a": (300.0, 30.0)}),
        SizedJob("unimportant", 8.0, 103.0, 0.0001, {"a": (300.0, 150.0)}),
    )
    found = cost(Problem(1, (Vm("two", "a", 2, 7.2),), jobs), methods.OURS, 4.0)
    assert found.moves <= 2
    assert found.ends_s["urgent"] <= 108.0
    assert found.ends_s["long"] <= 180.0


def test_overload_of_jobs_that_scale_well_is_worked_off_one_by_one() -> None:
    """Speed in proportion to GPUs: sharing nodes among all only delays all."""
    jobs = tuple(
        SizedJob(n, 0.0, 1000.0, 0.01 + 0.001 * n, {"a": tuple(4000.0 * (1 + n % 3) / g for g in range(1, 5))})
        for n in range(24)
    )
    problem = Problem(2, (Vm("one", "a", 1, 1.0), Vm("two", "a", 2, 2.0), Vm("four", "a", 4, 4.0)), jobs)
    ours = cost(problem, methods.OURS)
    assert ours.moves <= len(jobs) // 4
    for peer in ("edf", "edf-whole-nodes", "greedy", "fifo"):
        assert ours.total <= cost(problem, peer).total, peer


def overloaded(seed: int) -> Problem:
    """Twenty jobs at once on two nodes of two types, each with a deadline of its own."""
    dice = Random(seed)
    jobs = tuple(
        SizedJob(
            n,
            0.0,
            dice.uniform(1000.0, 20_000.0),
            dice.uniform(0.001, 0.01),
            {"a": tuple(size / gpus**0.9 for gpus in range(1, 5)), "b": tuple(size / 2 / gpus**0.8 for gpus in (1, 2))},
        )
        for n, size in enumerate(dice.uniform(1000.0, 9000.0) for _ in range(20))
    )
    return Problem(2, (Vm("one", "a", 1, 1.0), Vm("four", "a", 4, 4.0), Vm("fast", "b", 2, 5.0)), jobs)


def test_of_many_jobs_the_plan_is_gone_on_with_and_becomes_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many for every move: chance proposes some at each decision, and what was found is not lost at the next."""

    def total() -> float:
        return sum(cost(overloaded(seed), methods.OURS).total for seed in (4, 6))

    monkeypatch.setattr(search, "ALL", 0)
    monkeypatch.setattr(search, "LOOKS", 8000)
    found = total()
    monkeypatch.setattr(search._Search, "_recalled", lambda self, before: [])
    forgetful = total()
    monkeypatch.setattr(search._Search, "_wander", lambda self, plan: None)
    assert found < 0.99 * forgetful < 0.99 * 0.99 * total()
