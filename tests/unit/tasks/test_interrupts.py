"""A stretch of code that other threads may end: it ends once, there, and never what follows."""

import threading

from isthmus.tasks.engines import interrupts
from isthmus.tasks.engines.interrupts import Interrupted, Stretch


def test_an_interruption_before_the_work_keeps_it_from_beginning():
    done = []
    stretch = Stretch()
    stretch.interrupt()
    assert isinstance(stretch.run(lambda: done.append(1)), Interrupted)
    assert done == []


def test_an_interruption_after_the_work_changes_nothing():
    stretch = Stretch()
    done = []
    assert stretch.run(lambda: done.append(1)) is None
    stretch.interrupt()
    assert done == [1]


def test_work_that_never_ends_is_ended():
    found: list[Stretch] = []
    there = threading.Event()
    outcome = []

    def run():
        found.append(Stretch())

        def work():
            there.set()
            while True:
                pass

        outcome.append(found[0].run(work))

    thread = threading.Thread(target=run)
    thread.start()
    assert there.wait(60)
    found[0].interrupt()
    found[0].interrupt()
    thread.join(60)
    assert isinstance(outcome[0], Interrupted)
    assert str(outcome[0]) == "It was cancelled while it ran."


def test_one_that_is_on_its_way_when_the_work_ends_comes_out_of_nothing_that_follows(monkeypatch):
    send = interrupts._raise_in
    working, on_its_way, ended = threading.Event(), threading.Event(), threading.Event()
    troubles: list[BaseException] = []
    outcome = []
    made: list[Stretch] = []

    def slowly(ident, error):
        if error is not None:
            on_its_way.set()
            ended.wait(0.3)  # it never is: the stretch must not end before this is over
        send(ident, error)

    monkeypatch.setattr(interrupts, "_raise_in", slowly)

    def run():
        made.append(Stretch())
        try:
            outcome.append(made[0].run(lambda: (working.set(), on_its_way.wait(60))))
            ended.set()
            for _ in range(10_000):  # here it would come out
                pass
        except BaseException as error:  # noqa: BLE001  (whatever comes out is what this looks for)
            troubles.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert working.wait(60)
    made[0].interrupt()
    thread.join(60)
    assert troubles == []
    assert isinstance(outcome[0], Interrupted)
