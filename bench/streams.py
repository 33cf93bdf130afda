"""Streams of tasks: messages a second from one producer to one consumer, beside a queue of multiprocessing's manager.

make bench NAME=streams
"""

import json
import multiprocessing
import time

from isthmus.tasks import STREAM_IN, STREAM_OUT, ObjectStream, start, stop, task, wait_on

SINGLE, LISTED = 5_000, 200_000


@task(out=STREAM_OUT)
def one_by_one(out, n):
    for i in range(n):
        out.publish(i)


@task(source=STREAM_IN, returns=1)
def count(source):
    return sum(1 for _ in source)


@task(out=STREAM_OUT)
def in_lists(out, n):
    for begin in range(0, n, 1000):
        out.publish_all(range(begin, begin + 1000))


@task(source=STREAM_IN, returns=1)
def count_lists(source):
    total = 0
    while found := source.poll():
        total += len(found)
    return total


def ours(produce, consume, n):
    stream = ObjectStream()
    begin = time.perf_counter()
    got = consume(stream)
    produce(stream, n)
    stream.close()
    assert wait_on(got) == n
    return n / (time.perf_counter() - begin)


def _put(queue, n):
    for i in range(n):
        queue.put(i)
    queue.put(None)


def _get(queue, done):
    while queue.get() is not None:
        pass
    done.put(True)


def peer(n):
    with multiprocessing.Manager() as manager:
        queue, done = manager.Queue(), manager.Queue()
        begin = time.perf_counter()
        workers = [
            multiprocessing.Process(target=_get, args=(queue, done)),
            multiprocessing.Process(target=_put, args=(queue, n)),
        ]
        for worker in workers:
            worker.start()
        done.get()
        seconds = time.perf_counter() - begin
        for worker in workers:
            worker.join()
        return n / seconds


def say(case, value, other):
    print(
        json.dumps(
            {
                "bench": "streams",
                "case": case,
                "ours": round(value),
                "unit": "messages/s",
                "engine": "processes",
                "peer": "multiprocessing.Manager().Queue()",
                "peer_value": round(other),
                "ratio": round(value / other, 2),
            }
        ),
        flush=True,
    )


def main():
    start(engine="processes", workers=2)
    other = peer(SINGLE)
    say("stream_single", ours(one_by_one, count, SINGLE), other)
    say("stream_listed", ours(in_lists, count_lists, LISTED), other)
    stop()


if __name__ == "__main__":
    main()
