"""Streams over a real NATS: between the workers of one program, and between two programs."""

import itertools
import os
import subprocess
import sys

import pytest

from isthmus.domain.errors import Conflict, Unavailable
from isthmus.tasks import AT_LEAST_ONCE, STREAM_IN, STREAM_OUT, ObjectStream, start, stop, task, wait_on
from isthmus.tasks.streams.nats import Nats
from tests.testbed.brokers import NatsServer

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server.url


@pytest.fixture(params=("threads", "processes"))
def program(request, nats):
    start(engine=request.param, workers=2, streams=nats)
    yield
    stop(kill=True)


@task(out=STREAM_OUT)
def produce(out, n, base=0):
    for i in range(n):
        out.publish(base + i)


@task(source=STREAM_IN, out=STREAM_OUT)
def double(source, out):
    for value in source:
        out.publish(2 * value)


@task(source=STREAM_IN, returns=1)
def collect(source):
    return list(source)


@task(source=STREAM_IN, returns=1)
def fails_once(source, marker):
    values = source.poll(most=2)
    if not os.path.exists(marker):
        os.mkdir(marker)
        raise ValueError("the first time")
    return values


def test_many_producers_and_consumers(program):
    first, second = ObjectStream(), ObjectStream(delivery=AT_LEAST_ONCE, limit=30)
    got = [collect(second) for _ in range(2)]
    double(first, second)
    second.close()
    produce(first, 50)
    produce(first, 50, 50)
    first.close()
    assert sorted(itertools.chain(*wait_on(got))) == list(range(0, 200, 2))
    assert second.closed
    with pytest.raises(Conflict):
        produce(first, 1)


def test_messages_of_a_failed_consumer_come_again(program, tmp_path):
    stream = ObjectStream(delivery=AT_LEAST_ONCE)
    stream.publish(1, 2)
    stream.close()
    assert sorted(wait_on(fails_once(stream, str(tmp_path / "failed")))) == [1, 2]


def test_two_programs_share_a_stream_by_its_name(program, nats):
    name = f"shared-{os.urandom(4).hex()}"
    stream = ObjectStream(name)
    got = collect(stream)
    words = f"from isthmus.tasks import ObjectStream\nwith ObjectStream({name!r}) as s: s.publish(1, 2, 3)"
    environment = {**os.environ, "ISTHMUS_TASKS_STREAMS": nats}
    subprocess.run([sys.executable, "-c", words], env=environment, check=True, timeout=120)
    assert wait_on(got) == [1, 2, 3]


def test_no_server():
    with pytest.raises(Unavailable, match="NATS does not answer"):
        Nats("nats://127.0.0.1:9")
