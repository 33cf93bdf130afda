"""The judge: what a schedule costs, and which rules it may not break. Figures by hand."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm
from isthmus.placement.sizing.schedule import Open, Run, Schedule, judge

PROBLEM = Problem(
    nodes=2,
    vms=(Vm("one", "a", 1, 3.6), Vm("two", "a", 2, 7.2)),
    jobs=(SizedJob("x", 0.0, 100.0, 2.0, {"a": (100.0, 60.0)}), SizedJob("y", 10.0, 50.0, 1.0, {"a": (40.0, 20.0)})),
)


def schedule(*runs: Run, opens: tuple[Open, ...] = (Open(0, "two", 0.0, 200.0),)) -> Schedule:
    return Schedule(opens, runs)


def test_prices_and_tardiness_add_up() -> None:
    cost = judge(PROBLEM, schedule(Run("x", 0, 1, 0.0, 100.0), Run("y", 0, 1, 20.0, 60.0)))
    assert cost.vms == pytest.approx(200 * 7.2 / 3600)
    assert cost.tardiness == pytest.approx(10.0)
    assert (cost.late, cost.moves) == (1, 0)
    assert cost.total == pytest.approx(cost.vms + cost.tardiness)


def test_a_move_costs_a_restart_and_going_on_does_not() -> None:
    going_on = (Run("x", 0, 1, 0.0, 50.0), Run("x", 0, 1, 50.0, 100.0))
    assert judge(PROBLEM, schedule(*going_on, Run("y", 0, 1, 10.0, 50.0)), 30.0).moves == 0
    resized = (Run("x", 0, 1, 0.0, 50.0), Run("x", 0, 2, 50.0, 110.0))
    y_after = Run("y", 0, 2, 120.0, 150.0)
    assert judge(PROBLEM, schedule(*resized, y_after), 30.0).moves == 1
    with pytest.raises(Invalid, match="only 0\\.98"):
        judge(PROBLEM, schedule(Run("x", 0, 1, 0.0, 50.0), Run("x", 0, 2, 50.0, 109.0), y_after), 30.0)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (schedule(Run("x", 0, 1, 0.0, 100.0)), "Job y never runs"),
        (schedule(Run("x", 0, 1, 0.0, 100.0), Run("y", 0, 1, 0.0, 40.0)), "before its release"),
        (schedule(Run("x", 0, 2, 0.0, 60.0), Run("y", 0, 1, 10.0, 50.0)), "holds 3 of 2 GPUs"),
        (schedule(Run("x", 1, 1, 0.0, 100.0), Run("y", 0, 1, 10.0, 50.0)), "not one VM for all of it"),
        (schedule(Run("x", 0, 3, 0.0, 100.0), Run("y", 0, 1, 10.0, 50.0)), "asks for 3 GPUs"),
        (schedule(Run("z", 0, 1, 0.0, 100.0)), "no job 'z'"),
        (schedule(Run("x", 0, 1, 9.0, 9.0)), "empty"),
        (schedule(opens=(Open(5, "two", 0.0, 1.0),)), "no node 5"),
        (schedule(opens=(Open(0, "six", 0.0, 1.0),)), "no VM type 'six'"),
        (schedule(opens=(Open(0, "two", 0.0, 9.0), Open(0, "one", 8.0, 12.0))), "two VMs at 8.000"),
        (
            schedule(Run("x", 0, 1, 0.0, 60.0), Run("x", 0, 1, 50.0, 100.0), Run("y", 0, 1, 100.0, 140.0)),
            "runs twice at 50.000",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused(broken: Schedule, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        judge(PROBLEM, broken)
    assert words in caught.value.message
