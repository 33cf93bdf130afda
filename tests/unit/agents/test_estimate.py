"""Where a task would be done soonest."""

from isthmus.agents.estimate import Place, best, expected_s

HERE = Place("here", 2, seconds={"f": 1.0})


def test_a_free_machine_keeps_its_task():
    other = Place("other", 8, trip_s=0.01)
    assert best(HERE, [other], "f", 1, 100) is HERE


def test_a_busy_one_gives_it_to_the_neighbour_that_is_done_first():
    busy = Place("here", 2, load_s=20.0, seconds={"f": 1.0})
    near, far = Place("near", 2, load_s=8.0, trip_s=0.01), Place("far", 4, load_s=4.0, trip_s=0.5)
    assert best(busy, [near, far], "f", 1, 100) is far
    slow = Place("far", 4, load_s=4.0, trip_s=0.5, seconds={"f": 60.0})
    assert best(busy, [near, slow], "f", 1, 100) is near


def test_large_arguments_stay_where_the_line_is_slow():
    busy = Place("here", 1, load_s=5.0, seconds={"f": 1.0})
    other = Place("other", 8, trip_s=0.01, bytes_per_s=1e6)
    assert best(busy, [other], "f", 1, 1000) is other
    assert best(busy, [other], "f", 1, 50_000_000) is busy


def test_a_neighbour_stands_for_what_is_beyond_it():
    busy = Place("here", 1, load_s=50.0, seconds={"f": 1.0})
    through = Place("fog", 1, load_s=40.0, trip_s=0.1, beyond=[Place("cloud", 64, trip_s=0.1)])
    assert best(busy, [through], "f", 1, 100) is through
    assert best(busy, [through], "f", 64, 100) is through  # nobody nearer has so many workers


def test_a_task_never_goes_back():
    busy = Place("here", 1, load_s=50.0, seconds={"f": 1.0})
    origin = Place("edge", 8)
    assert best(busy, [origin], "f", 1, 100, been=["edge"]) is busy
    round_trip = Place("fog", 1, load_s=90.0, beyond=[origin, busy])
    assert best(busy, [round_trip], "f", 1, 100, been=["edge"]) is busy


def test_nobody_has_so_many_workers():
    assert best(HERE, [Place("other", 4)], "f", 5, 100) is None
    assert expected_s(HERE, "f", 3, 100, None) is None
