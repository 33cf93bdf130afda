"""Objects are known for as long as the program holds them, and no longer."""

import gc

from isthmus.tasks.graph import Datum, Version
from isthmus.tasks.tracking import Tracker


class Thing:
    pass


def test_an_object_is_known_by_identity():
    tracker, thing, twin = Tracker(), [1], [1]
    datum = Datum(Version(1))
    tracker.track(thing, datum)
    assert tracker.find(thing) is datum
    assert tracker.find(twin) is None
    assert tracker.forget(thing) is datum
    assert tracker.find(thing) is None


def test_what_has_gone_is_forgotten():
    tracker = Tracker()
    thing = Thing()
    tracker.track(thing, Datum(Version(1)))
    assert len(tracker) == 1
    del thing
    gc.collect()
    assert len(tracker) == 0


def test_lists_that_nobody_holds_are_swept():
    tracker, kept = Tracker(), []
    for number in range(5000):
        thing = [number]
        tracker.track(thing, Datum(Version(number)))
        if number % 100 == 0:
            kept.append(thing)
    del thing
    assert len(tracker) < 3000
    assert all(tracker.find(thing) is not None for thing in kept)
