"""Arrays passed again: one copy while they do not change, and never the old content when they do."""

import gc
import os

import numpy as np
import pytest

from isthmus.tasks.engines.processes import values
from isthmus.tasks.engines.processes.arrays import Arrays
from isthmus.tasks.engines.processes.store import Store


@pytest.fixture
def store():
    made = Store.create()
    yield made
    made.destroy()


@pytest.fixture
def arrays(store):
    made = Arrays(store)
    yield made
    made.close()


def content(store, shared):
    return values.load(store, shared.wire)


@pytest.mark.parametrize("count", [8_192, 100_003, 6_000_001])
def test_an_unchanged_array_is_copied_once(store, arrays, count):
    array = np.arange(float(count))
    first = arrays.pack(array)
    assert arrays.pack(array) is first
    assert array.sum() == np.arange(float(count)).sum()
    assert arrays.pack(array) is first
    assert (content(store, first) == array).all()


@pytest.mark.parametrize("count", [8_192, 100_003, 6_000_001])
@pytest.mark.parametrize("where", ["first", "second page", "middle", "last"])
def test_any_change_makes_a_new_copy_and_leaves_the_old(store, arrays, count, where):
    array = np.arange(float(count))
    place = {"first": 0, "second page": 700, "middle": count // 2, "last": count - 1}[where]
    first = arrays.pack(array)
    array[place] = -1.0
    second = arrays.pack(array)
    assert second is not first
    assert content(store, first)[place] == place
    assert content(store, second)[place] == -1.0
    array[place] = -2.0
    assert content(store, arrays.pack(array))[place] == -2.0
    assert content(store, second)[place] == -1.0


def test_a_large_array_shares_its_memory_with_the_copy(store, arrays):
    array = np.ones(20_000_000)
    before = own_bytes()
    arrays.pack(array)
    assert own_bytes() < before - 100_000_000
    array += 1
    assert array.sum() == 40_000_000
    assert own_bytes() > before - 20_000_000


def test_what_is_done_to_the_array_afterwards_is_as_ever(store, arrays):
    array = np.arange(8_000_000.0)
    first = arrays.pack(array)
    arrays.close()
    array.resize(16_000_000, refcheck=False)  # malloc moves a chunk that is now several mappings
    assert content(store, first)[-1] == 7_999_999.0
    assert array[7_999_999] == 7_999_999.0
    array[:] = 3
    assert (content(store, arrays.pack(array)) == 3).all()
    del array
    gc.collect()
    again = np.zeros(16_000_000)
    assert again.sum() == 0


def test_the_copy_goes_with_the_array(store, arrays):
    array = np.ones(100_000)
    arrays.pack(array)
    assert len(in_use(store)) == 1
    del array
    gc.collect()
    assert in_use(store) == []


def test_views_shapes_and_types_are_kept_apart(store, arrays):
    array = np.arange(100_000.0)
    first = arrays.pack(array)
    array.shape = (1000, 100)
    assert content(store, arrays.pack(array)).shape == (1000, 100)
    view = array[10:]
    assert (content(store, arrays.pack(view)) == view).all()
    assert content(store, first).shape == (100_000,)
    frozen = np.arange(50_000.0)
    frozen.flags.writeable = False
    assert (content(store, arrays.pack(frozen)) == frozen).all()


def test_values_go_to_disk_when_memory_is_short():
    store = Store.create(limit=1)
    try:
        wire = values.dump(store, np.arange(100_000.0))
        assert os.listdir(store.memory) == []
        assert len(os.listdir(store.disk)) == 1
        shared = values.own(store, wire)
        assert values.load(store, shared.wire)[99_999] == 99_999.0
        del shared
        gc.collect()
        assert os.listdir(store.disk) == []
    finally:
        store.destroy()


def in_use(store) -> list[str]:
    """The files in memory, but for those that wait to serve again."""
    return [name for name in os.listdir(store.memory) if name != "spare"]


def own_bytes() -> int:
    """Memory of this process's own."""
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) * 1024
