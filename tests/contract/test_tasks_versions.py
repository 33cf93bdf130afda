"""Versions of arrays in shared memory, whose files serve again: what a task or the program was given never changes."""

import contextlib
import gc
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from isthmus.tasks import COLLECTION_INOUT, COMMUTATIVE, INOUT, start, stop, task, wait_on
from isthmus.tasks.current import running
from isthmus.tasks.engines.processes import spare, values
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.policies import on_failure

SIZE = 40_000  # of doubles: each array has a file of its own, and mappings of it are kept
_kept = []  # what tasks of this worker hold on to, and what stood in it


@task(c=INOUT, retries=50)
def bump(c, x):
    c += x
    c[:100] *= 2


@task(c=COMMUTATIVE, retries=50)
def count(c):
    c[5] += 1


@task(returns=1, retries=50)
def raised(c):
    return c + 1


@task(returns=1, retries=50)
def look(c):
    seen = c.copy()
    c[:] = -7  # its own
    return seen


@task(returns=1, retries=50)
def look_slowly(c):
    first = c[::50].copy()
    time.sleep(0.02)
    assert (c[::50] == first).all()
    return c.copy()


@task(returns=1, retries=50)
def look_and_keep(c):
    _kept.append([c, c.copy()])
    return c.copy()


@task(c=INOUT, retries=50)
def change_and_keep(c):
    c[1] += 1
    _kept.append([c, c.copy()])


@task(returns=1, retries=50)
def spoil():
    for one in _kept[::2]:
        one[0][:] = 1e9
        one[1] = one[0].copy()
    return len(_kept)


@task(returns=1, retries=50)
def remembers():
    return all((array == copy).all() for array, copy in _kept)


@task(c=INOUT, returns=1, retries=50)
def change_and_return(c):
    c[2] += 3
    return c


@task(cs=COLLECTION_INOUT, retries=50)
def exchange(cs):
    first = cs[0].copy()
    cs[0][:] = cs[1]
    cs[1][:] = first


@task(c=INOUT, retries=50)
def dies_once(c, marker):
    c[: SIZE // 2] = -1
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    c[: SIZE // 2] = 4


@task(c=INOUT, retries=50)
def fails_once(c, marker):
    c[::2] += 1
    if not os.path.exists(marker):
        Path(marker).touch()
        raise OSError("not yet")


@on_failure(management="IGNORE")
@task(c=INOUT)
def spoils_and_fails(c):
    c[:] = -1
    raise ValueError("no")


@task(c=INOUT, returns=1)
def forks_and_changes(c, go, told):
    """A process goes on with what the task was given: it changes that, and says what it sees."""
    child = os.fork()
    if child == 0:
        end = time.monotonic() + 120
        while not os.path.exists(go) and time.monotonic() < end:
            time.sleep(0.01)
        Path(told + ".part").write_text(str(float(c.sum())))
        c[:] = -5
        os.rename(told + ".part", told)
        os._exit(0)
    c += 1
    return child


@pytest.fixture
def processes():
    start(engine="processes", workers=2)
    yield
    stop(kill=True)


@pytest.fixture
def killer(processes):
    """Kills a worker now and then, in the middle of whatever it runs."""
    over = threading.Event()
    rng = random.Random(5)

    def kill():
        while not over.wait(rng.uniform(0.02, 0.2)):
            program = running()
            with program.lock:
                pids = program.engine.pids()
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGKILL)

    thread = threading.Thread(target=kill)

    def begin():
        thread.start()

    yield begin
    over.set()
    if thread.is_alive():
        thread.join(60)


def play(rng, folder, steps):
    """A random program on some arrays, beside the same done at once. Compares all that was seen on the way."""
    real = [np.full(SIZE, float(n)) for n in range(4)]
    model = [array.copy() for array in real]
    seen, held, remembered = [], [], []
    for step in range(steps):
        n = rng.randrange(len(real))
        c, m = real[n], model[n]
        kind = rng.randrange(14)
        marker = str(folder / str(step))
        if kind in (0, 1):
            bump(c, kind + 1)
            m += kind + 1
            m[:100] *= 2
        elif kind == 2:
            count(c)
            m[5] += 1
        elif kind == 3:
            real[n], model[n] = raised(c), m + 1
        elif kind == 4:
            seen.append((look(c), m.copy()))
        elif kind == 5:
            seen.append((look_slowly(c), m.copy()))
        elif kind == 6:
            seen.append((look_and_keep(c), m.copy()))
        elif kind == 7:
            change_and_keep(c)
            m[1] += 1
        elif kind == 8:
            spoil()
            remembered.append(remembers())
        elif kind == 9:
            m[2] += 3
            seen.append((change_and_return(c), m.copy()))
        elif kind == 10:
            other = (n + 1) % len(real)
            exchange([c, real[other]])
            model[n], model[other] = model[other].copy(), m.copy()
        elif kind == 11 and rng.random() < 0.2:
            dies_once(c, marker)
            m[: SIZE // 2] = 4
        elif kind == 12:
            if rng.random() < 0.5:
                fails_once(c, marker)
                m[::2] += 1
            else:
                spoils_and_fails(c)
        elif rng.random() < 0.3:
            found = wait_on(c)  # the program holds on to it while tasks go on
            assert (found == m).all()
            held.append((found if found is not c else found.copy(), m.copy()))
    for found, expected in zip(wait_on([future for future, _ in seen]), [m for _, m in seen], strict=True):
        assert (found == expected).all()
    for found, expected in zip(wait_on(real), model, strict=True):
        assert (found == expected).all()
    for found, expected in held:
        assert (found == expected).all()
    assert all(wait_on([*remembered, remembers(), remembers()]))


@pytest.mark.parametrize("seed", range(6))
def test_a_random_program_sees_what_the_sequential_one_sees(processes, tmp_path, seed):
    play(random.Random(seed), tmp_path, 150)


@pytest.mark.parametrize("seed", range(2))
def test_so_it_does_while_its_workers_are_killed(killer, tmp_path, seed):
    killer()
    play(random.Random(100 + seed), tmp_path, 120)


def test_a_process_that_a_task_leaves_behind_changes_nothing(processes, tmp_path):
    c = np.zeros(SIZE)
    bump(c, 1)
    go, told = tmp_path / "go", tmp_path / "told"
    wait_on(forks_and_changes(c, str(go), str(told)))
    seen = look(c)
    wait_on(seen)
    go.touch()
    end = time.monotonic() + 120
    while not told.exists() and time.monotonic() < end:
        time.sleep(0.01)
    for _ in range(5):
        bump(c, 1)
    found = wait_on(seen, c)
    assert found[0][-1] == 2
    assert found[1][-1] == 7


def test_memory_serves_again(processes):
    c = np.zeros(SIZE)
    for _ in range(50):
        bump(c, 1)
    assert wait_on(c)[-1] == 50
    names = os.listdir(running().engine._store.memory)
    assert len(names) < 12, names


def test_what_is_to_be_changed_is_read_into_memory_of_its_own():
    store = Store.create()
    try:
        here = store.of_worker(0)
        given = {"a": np.arange(float(SIZE)), "b": [np.ones(SIZE), b"x" * 200_000]}
        first = values.own(store, values.dump(store, given))
        found = values.load(here, first.wire, to_change=True)
        assert here.mappings.opened == []
        found["a"] += 1
        found["b"][0][:] = 7
        second = values.own(store, values.dump(here, found))
        assert (values.load(here, first.wire)["a"] == given["a"]).all()
        assert values.load(here, first.wire)["b"][1] == given["b"][1]
        assert (values.load(here, second.wire)["a"] == given["a"] + 1).all()
        assert (values.load(here, second.wire)["b"][0] == 7).all()
    finally:
        store.destroy()


def test_a_file_that_somebody_has_mapped_does_not_serve_again():
    store = Store.create()
    try:
        here = store.of_worker(0)
        for held in (False, True):
            shared = values.own(store, values.dump(here, np.ones(SIZE)))
            array = values.load(here, shared.wire)
            if not held:
                del array
            gc.collect()
            here.mappings.settle(here.pin)
            name = shared.name
            del shared
            kept = [n for _, _, names in os.walk(os.path.join(store.memory, "spare")) for n in names]
            assert (name in kept) is not held
        assert (array == 1).all()
    finally:
        store.destroy()


def test_a_mapping_serves_the_next_call_unless_it_was_written_to_or_is_held():
    store = Store.create()
    try:
        here = store.of_worker(0)
        shared = values.own(store, values.dump(here, np.ones(SIZE)))

        def after(call):
            call(values.load(here, shared.wire))
            here.mappings.settle(here.pin)
            return here.mappings.find(shared.name) is not None

        held = []
        assert after(lambda array: array.sum())
        here.mappings.settle(here.pin)
        assert not after(lambda array: array.__setitem__(SIZE // 2, 5))
        assert after(lambda array: array.sum())
        here.mappings.settle(here.pin)
        assert not after(held.append)
        assert values.load(here, shared.wire).sum() == SIZE
    finally:
        store.destroy()


def test_what_is_kept_is_bounded_and_nothing_is_taken_twice(tmp_path):
    kept = spare.Spare(str(tmp_path / "spare"), 10 * 100_000)
    for number in range(40):
        path = tmp_path / f"file-{number}"
        path.write_bytes(b"x" * 100_000)
        assert kept.keep(str(path))
    assert len(list((tmp_path / "spare" / "100000").iterdir())) == 10
    taken = [tmp_path / f"taken-{number}" for number in range(11)]
    assert [kept.take(100_000, str(path)) for path in taken] == [True] * 10 + [False]
    assert not kept.take(100_001, str(tmp_path / "other"))
    small = tmp_path / "small"
    small.write_bytes(b"x")
    assert not kept.keep(str(small)) and small.exists()
