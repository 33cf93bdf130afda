"""Streams: values, or files, that some tasks publish while others read them.

    from isthmus.tasks import STREAM_IN, STREAM_OUT, ObjectStream, task

    @task(out=STREAM_OUT)
    def measure(out): ...            # out.publish(value), as often as it likes

    @task(source=STREAM_IN, returns=1)
    def count(source):
        return sum(1 for _ in source)  # until the stream is closed

A stream is no datum: its producers and consumers run side by side, each on a worker that is there for it. See
docs/tasks-streams.md.

    ObjectStream, FileStream ──> Broker: Queues (here), Line (another process of this machine), Nats (other machines)
                 Members ──────> which tasks hold a stream, and what their ends mean for it
"""

from isthmus.tasks.streams.broker import AT_LEAST_ONCE, AT_MOST_ONCE
from isthmus.tasks.streams.stream import FileStream, ObjectStream, Stream

__all__ = ["AT_LEAST_ONCE", "AT_MOST_ONCE", "FileStream", "ObjectStream", "Stream"]
