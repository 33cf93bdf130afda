"""The queue in memory."""

from isthmus.control.backlog import Backlog
from isthmus.placement.needs import Need
from isthmus.placement.plan import Ticket

A, B = Need(user="a"), Need(user="b", cpus=2)


def order(backlog: Backlog, need: Need) -> list[int]:
    return [ticket.job for ticket in backlog.ready.get(need, [])]


def test_jobs_stand_in_order_and_move_with_their_priority() -> None:
    backlog = Backlog()
    for job in (3, 1, 2):
        backlog.put(A, Ticket(0, job))
    assert order(backlog, A) == [1, 2, 3]
    backlog.put(A, Ticket(-5, 3))
    assert order(backlog, A) == [3, 1, 2]
    backlog.put(B, Ticket(0, 1))
    assert (order(backlog, A), order(backlog, B)) == ([3, 2], [1])


def test_assigned_jobs_leave_wherever_they_stand() -> None:
    backlog = Backlog()
    for job in range(10):
        backlog.put(A, Ticket(0, job))
    backlog.drop_many([0, 1, 2])
    backlog.drop_many([9, 5, 77])
    assert order(backlog, A) == [3, 4, 6, 7, 8]
    backlog.drop_many(range(10))
    assert len(backlog) == 0
    assert backlog.ready == {}


def test_who_sleeps_wakes_once_and_not_after_leaving() -> None:
    backlog = Backlog()
    backlog.put(A, Ticket(0, 1), wake_at=5.0, now=0.0)
    backlog.put(A, Ticket(0, 2), wake_at=7.0, now=0.0)
    assert backlog.wake(1.0) == 5.0
    backlog.drop(2)
    assert order(backlog, A) == []
    backlog.wake(8.0)
    assert order(backlog, A) == [1]
    backlog.wake(9.0)
    assert order(backlog, A) == [1]
