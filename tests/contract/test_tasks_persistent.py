"""Persistent objects: the same in every process, whole, and there after the program."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from isthmus.domain.errors import Conflict, Invalid, NotFound
from isthmus.tasks import CONCURRENT, IN, INOUT, start, stop, task, wait_on
from isthmus.tasks.persistent import PersistentObject, backend, choice, get_by_id, use


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_TASKS_OBJECTS", str(tmp_path / "objects"))
    monkeypatch.setattr(choice, "_backend", None)
    yield tmp_path / "objects"
    choice._backend = None


@pytest.fixture(params=("sequential", "threads", "processes"))
def engine(request):
    start(engine=request.param, workers=2)
    yield request.param
    stop(kill=True)


class Counter(PersistentObject):
    def __init__(self, n=0):
        self.n = n
        self.seen = []

    @task()
    def bump(self, by):
        self.n += by

    @task(returns=1, target_direction=IN)
    def value(self):
        return self.n


@task(counter=INOUT)
def add(counter, by):
    counter.n += by
    counter.seen.append(by)  # no attribute is set: found all the same


@task(returns=1)
def read(counter):
    return counter.n, counter.getID()


@task(returns=1)
def read_by_id(id):
    return get_by_id(id).n


@task(returns=1)
def make(n):
    counter = Counter(n)
    counter.make_persistent()
    return counter


@task(counter=CONCURRENT)
def add_in_any_order(counter, by):
    counter.n += by


@task(counter=INOUT, on_failure="CANCEL_SUCCESSORS")
def changes_and_fails(counter):
    counter.n = -1
    raise ValueError("no")


@task(counter=INOUT)
def dies_once(counter, marker):
    counter.n += 1
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_object_is_kept_found_and_deleted():
    counter = Counter(3)
    assert counter.getID() is None
    id = counter.make_persistent()
    assert counter.make_persistent() == id
    found = get_by_id(id)
    assert (found.n, found.getID(), found is counter) == (3, id, False)
    found.n = 4
    assert get_by_id(id).n == 3
    found.save()
    assert get_by_id(id).n == 4
    with pytest.raises(Conflict, match="persistent already"):
        found.make_persistent("another")
    found.delete_persistent()
    assert found.getID() is None
    with pytest.raises(NotFound, match="no persistent object"):
        get_by_id(id)


def test_tasks_change_what_is_kept(engine):
    counter = Counter()
    counter.make_persistent("the-counter")
    for by in range(10):
        add(counter, by)
    counter.bump(100)
    assert wait_on(read(counter)) == (145, "the-counter")
    assert wait_on(counter.value()) == 145
    assert wait_on(counter).n == 145
    assert counter.n == 145
    assert counter.seen == list(range(10))
    assert get_by_id("the-counter").n == 145
    assert wait_on(read_by_id("the-counter")) == 145


def test_readers_see_what_was_there_when_they_were_called(engine):
    counter = Counter(1)
    counter.make_persistent()
    seen = []
    for _ in range(20):
        seen.append(read(counter))
        add(counter, 1)
    assert [n for n, _ in wait_on(seen)] == list(range(1, 21))


def test_changes_side_by_side_are_not_lost(engine):
    counter = Counter()
    counter.make_persistent()
    if engine == "threads":
        return add_in_any_order(counter, 1)  # threads share the object: the program's own lock is its affair
    for _ in range(20):
        add_in_any_order(counter, 1)
    assert wait_on(counter).n == 20
    return None


def test_a_task_makes_one(engine):
    counter = wait_on(make(7))
    assert get_by_id(counter.getID()).n == 7


def test_nothing_half_done_is_kept(tmp_path):
    start(engine="processes", workers=1)
    try:
        counter = Counter()
        counter.make_persistent()
        dies_once(counter, str(tmp_path / "died"))
        assert wait_on(counter).n == 1
        changes_and_fails(counter)
        stop()
        assert get_by_id(counter.getID()).n == 1
    finally:
        stop(kill=True)


@task(returns=1)
def open_files(folder):
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link) and os.readlink(link).startswith(folder)]


def test_a_worker_has_no_part_in_the_programs_connection(place):
    counter = Counter(1)
    counter.make_persistent()  # before there are workers
    start(engine="processes", workers=1)
    try:
        assert wait_on(open_files(str(place))) == []
        add(counter, 1)
        assert wait_on(counter).n == 2
    finally:
        stop(kill=True)


def test_it_is_there_for_another_program(place):
    words = "from tests.contract.test_tasks_persistent import Counter\nCounter(5).make_persistent('from-there')"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=120)
    assert get_by_id("from-there").n == 5


def test_large_objects_are_files_and_go_with_them(place):
    counter = Counter(np.ones(100_000))
    id = counter.make_persistent()
    for n in range(3):
        counter.n = np.full(100_000, n)
        counter.save()
    assert len(list(place.glob("*.object"))) == 1
    assert get_by_id(id).n[0] == 2
    counter.delete_persistent()
    assert not list(place.glob("*.object"))


def test_nobody_sees_half_of_a_large_object():
    id = Counter(np.zeros(200_000)).make_persistent()
    over = threading.Event()

    def write():
        mine = get_by_id(id)
        while not over.is_set():
            mine.n = mine.n + 1
            mine.save()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            found = get_by_id(id).n
            assert found.min() == found.max()
    finally:
        over.set()
        writer.join(60)


def test_a_back_end_of_ones_own():
    class Kept(dict):
        def put(self, id, data):
            self[id] = data

        def delete(self, id):
            return self.pop(id, None) is not None

    kept = Kept()
    use(kept)
    Counter(2).make_persistent("mine")
    assert list(kept) == ["mine"]
    assert backend() is kept
    assert get_by_id("mine").n == 2


def test_a_place_that_keeps_nothing():
    with pytest.raises(Invalid, match="ftp:// keeps no objects"):
        choice.make("ftp://somewhere")


def test_pycompss_storage():
    import isthmus.tasks.pycompss  # noqa: F401

    code = (
        "import isthmus.tasks.pycompss\n"
        "from storage.api import getByID, StorageObject\n"
        "from storage.storage_object import storage_object\n"
        "class Words(StorageObject):\n    pass\n"
        "w = Words(); w.text = 'hello'; w.makePersistent('w'); print(getByID('w').text); w.deletePersistent()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "hello\n", done.stderr
