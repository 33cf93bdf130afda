"""Streams: nothing is lost, nothing comes twice, nobody waits for what can't come."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isthmus.domain.errors import Conflict, Invalid
from isthmus.tasks import (
    AT_LEAST_ONCE,
    STREAM_IN,
    STREAM_OUT,
    FileStream,
    ObjectStream,
    WorkerLost,
    start,
    stop,
    task,
    wait_on,
)

PARALLEL = ("threads", "processes")


@pytest.fixture(params=("sequential", *PARALLEL))
def engine(request):
    start(engine=request.param, workers=1)
    yield request.param
    stop(kill=True)


@pytest.fixture(params=PARALLEL)
def parallel(request):
    start(engine=request.param, workers=1)
    yield request.param
    stop(kill=True)


@pytest.fixture
def processes():
    start(engine="processes", workers=1)
    yield
    stop(kill=True)


@task(out=STREAM_OUT)
def produce(out, n, base=0):
    for i in range(n):
        out.publish(base + i)


@task(out=STREAM_OUT)
def produce_and_close(out, n):
    out.publish_all(range(n))
    out.close()


@task(source=STREAM_IN, returns=1)
def collect(source):
    return list(source)


@task(source=STREAM_IN, out=STREAM_OUT)
def double(source, out):
    for value in source:
        out.publish(2 * value)


@task(out=STREAM_OUT)
def write(out, folder, n):
    for i in range(n):
        Path(folder, f"{i}.txt").write_text(str(i))


@task(source=STREAM_IN, returns=1)
def read(source):
    return sorted(int(Path(path).read_text()) for path in source)


@task(source=STREAM_IN, returns=1)
def dies_once(source, marker):
    values = []
    for value in source:
        if value == 3 and not os.path.exists(marker):
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        values.append(value)
    return values


@task(out=STREAM_OUT, on_failure="CANCEL_SUCCESSORS")
def fails(out):
    out.publish(1)
    raise ValueError("no more")


def test_what_is_published_is_read_in_order(engine):
    stream = ObjectStream()
    produce(stream, 200)
    got = collect(stream)
    stream.close()
    assert wait_on(got) == list(range(200))
    assert stream.closed


def test_many_producers_and_consumers_on_one_worker(parallel):
    first, second = ObjectStream(), ObjectStream(limit=7)
    got = [collect(second) for _ in range(3)]  # consumers first: each has a worker of its own
    for _ in range(2):
        double(first, second)
    second.close()
    for place in range(3):
        produce(first, 50, 50 * place)
    first.close()
    assert sorted(itertools.chain(*wait_on(got))) == list(range(0, 300, 2))


def test_a_producer_closes_the_stream(engine):
    stream = ObjectStream()
    produce_and_close(stream, 10)
    assert wait_on(collect(stream)) == list(range(10))


def test_a_stream_that_everybody_waits_for_is_closed(parallel):
    first, second = ObjectStream(), ObjectStream()
    got = collect(second)
    double(first, second)
    produce(first, 10)
    assert wait_on(got) == list(range(0, 20, 2))  # though nobody has closed either


def test_the_program_reads_and_writes_too(parallel):
    numbers, doubled = ObjectStream(), ObjectStream()
    double(numbers, doubled)
    with numbers:
        numbers.publish(1, 2)
    found = []
    while len(found) < 2:
        found += doubled.poll(timeout_s=60)
    assert found == [2, 4]
    assert doubled.poll(timeout_s=0) == []


def test_the_same_name_is_the_same_stream(parallel):
    ObjectStream("weather").publish("rain")
    assert ObjectStream("weather").poll() == ["rain"]
    with pytest.raises(Conflict, match="delivers at most once"):
        ObjectStream("weather", AT_LEAST_ONCE)


def test_the_end_of_the_program_closes_streams(tmp_path):
    program = tmp_path / "app.py"
    program.write_text(
        "from isthmus.tasks import *\nfrom isthmus.tasks import STREAM_IN, STREAM_OUT\n"
        "@task(out=STREAM_OUT)\ndef produce(out):\n    out.publish(1)\n"
        "@task(source=STREAM_IN)\ndef show(source):\n    print(list(source))\n"
        "if __name__ == '__main__':\n    stream = ObjectStream()\n    show(stream)\n    produce(stream)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr


def test_messages_of_a_killed_consumer_come_again(processes, tmp_path):
    stream = ObjectStream(delivery=AT_LEAST_ONCE)
    produce(stream, 6)
    stream.close()
    marker = str(tmp_path / "died")
    # The first attempt had dealt with 0, 1 and 2, and died with 3.
    assert wait_on(dies_once(stream, marker)) == [3, 4, 5]
    assert os.path.exists(marker)


def test_at_most_once_a_message_goes_with_its_consumer(processes, tmp_path):
    stream = ObjectStream()
    produce(stream, 6)
    stream.close()
    assert wait_on(dies_once(stream, str(tmp_path / "died"))) == [4, 5]


def test_a_producer_that_fails_for_good_closes_its_stream(parallel):
    stream = ObjectStream()
    got = collect(stream)
    fails(stream)
    assert wait_on(got) == [1]


def test_a_closed_stream_takes_no_more(parallel):
    stream = ObjectStream()
    stream.close()
    with pytest.raises(Conflict, match="is closed"):
        stream.publish(1)
    with pytest.raises(Conflict, match="was closed before this producer"):
        produce(stream, 1)
    assert stream.poll() == []


def test_files_come_when_they_are_whole(engine, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "old").touch()
    stream = FileStream(folder)
    assert os.fspath(stream) == str(folder)
    write(stream, str(folder), 20)
    got = read(stream)
    stream.close()
    assert wait_on(got) == list(range(20))


def test_a_file_that_is_still_written_does_not_come(parallel, tmp_path):
    stream = FileStream(tmp_path, existing=True)
    with open(tmp_path / "slow", "w") as file:
        file.write("a")
        file.flush()
        (tmp_path / "quick").write_text("b")
        assert stream.poll() == [str(tmp_path / "quick")]
    assert stream.poll() == [str(tmp_path / "slow")]
    os.rename(tmp_path / "slow", tmp_path / ".hidden")
    os.rename(tmp_path / ".hidden", tmp_path / "moved")
    assert stream.poll() == [str(tmp_path / "moved")]


def test_a_limit_holds_producers_back(parallel):
    stream = ObjectStream(limit=2)
    stream.publish(1, 2)
    more = threading.Thread(target=stream.publish, args=(3,))
    more.start()
    more.join(0.2)
    assert more.is_alive()
    assert stream.poll() == [1, 2]
    assert stream.poll() == [3]
    more.join(60)


def test_a_consumer_before_its_producer_is_told_when_calls_run_one_by_one():
    start(engine="sequential")
    try:
        with pytest.raises(Invalid, match="Nobody has published"):
            collect(ObjectStream())
    finally:
        stop(kill=True)


def test_wrong_words(parallel):
    with pytest.raises(Invalid, match="no delivery"):
        ObjectStream(delivery="twice")
    with pytest.raises(Invalid, match="is a stream: give an ObjectStream"):
        collect([1])
    with pytest.raises(Invalid, match="can't be pickled"):
        ObjectStream().publish(threading.Lock())


@task(returns=1)
def makes_a_stream():
    return ObjectStream().name


def test_a_stream_made_in_a_worker_is_refused(processes):
    with pytest.raises(Invalid, match="can't make a stream"):
        wait_on(makes_a_stream())


def test_a_stream_of_a_program_that_is_gone(processes):
    import pickle

    from isthmus.domain.errors import Unavailable
    from isthmus.tasks.streams.line import Line

    stream = pickle.loads(pickle.dumps(ObjectStream()))
    stream._broker = Line("/nowhere", b"key")
    with pytest.raises(Unavailable, match="can't be reached"):
        stream.poll()


def test_workers_lent_to_streams_go_back(processes):
    from isthmus.tasks.current import current

    stream = ObjectStream()
    got = [collect(stream) for _ in range(3)]
    produce(stream, 5)
    stream.close()
    wait_on(got)
    engine = current().engine
    assert engine.workers == 1
    assert len([w for w in engine._staff.hands if not w.leaving]) == 1
    assert WorkerLost  # none was lost: the results are there
