"""What is sent to workers: calls in batches, each with what its worker does not know yet, over lines that never block.

All is called while the program's lock is held.
"""

import select
from contextlib import suppress
from typing import Any

from isthmus.tasks.engines.processes import values, wire
from isthmus.tasks.engines.processes.errands import Errand
from isthmus.tasks.engines.processes.hands import Hand
from isthmus.tasks.functions import Key, key_of
from isthmus.tasks.graph import Node


class Post:
    """See the module. `forked`: the newest task that workers know from their fork. `waiting`: who has a batch to be
    sent."""

    def __init__(self, epoll: select.epoll) -> None:
        self.forked = 0
        self.waiting: set[Hand] = set()
        self._epoll = epoll
        self._keys: dict[int, Key] = {}
        self._next_call = 0

    def _key(self, task: Any, worker: Hand) -> Key:
        if task.number <= self.forked:
            return task.number  # type: ignore[no-any-return]
        key = self._keys.get(task.number)
        if key is None or type(key) is bytes:
            if key is not None and key in worker.functions:
                return key
            key, payload = key_of(task, self.forked)
            self._keys[task.number] = key
            if payload is not None:
                worker.payloads[key] = payload
                worker.functions.add(key)
        return key

    def call(self, worker: Hand, node: Node) -> tuple[Any, ...]:
        """The call as this worker gets it; what it has to know for that travels along."""
        task = node.function
        encoding = node.encoding
        outputs = node.outputs
        inputs = None
        if node.inputs:
            known = worker.known
            for version in node.inputs:
                if version.producer is None:
                    known[version.id] = values.wire_of(version.value)
            inputs = [version.id for version in node.inputs]
        if outputs is None:
            made: Any = None
            returns = 0
        elif len(outputs) == 1 and encoding is None:
            made = outputs[0].id
            returns = 1
        else:
            made = [version.id for version in outputs]
            returns = len(outputs) - (len(encoding.outs) if encoding is not None else 0)
        sent = None
        if encoding is not None:
            packed = [(where, values.wire_of(value)) for where, value in encoding.packed] if encoding.packed else ()
            sent = (encoding.refs, packed, encoding.outs, encoding.keywords, encoding.written)
        return (node.id, self._key(task, worker), returns, node.args, sent, inputs, made, 0)

    def errand(self, worker: Hand, errand: Errand) -> tuple[Any, ...]:
        """The same for a call that a task in another worker has made."""
        key = errand.key
        if errand.payload is not None and key not in worker.functions:
            worker.payloads[key] = errand.payload
            worker.functions.add(key)
        inputs = None
        if errand.inputs:
            inputs = []
            for value in errand.inputs:
                self._next_call -= 1
                worker.known[self._next_call] = value
                inputs.append(self._next_call)
        self._next_call -= 1
        return (self._next_call, key, errand.returns, errand.args, errand.encoding, inputs, None, errand.depth)

    def send(self, worker: Hand) -> None:
        """Send the worker's batch, if it has one."""
        batch = worker.batch
        if not batch:
            return
        worker.batch = []
        known, worker.known = worker.known, {}
        payloads, worker.payloads = worker.payloads, {}
        self.post(worker, (wire.RUN, worker.acknowledged, payloads, known, batch))

    def post(self, worker: Hand, message: tuple[Any, ...]) -> None:
        """Send a message; what the line does not take now goes when it can."""
        data = wire.frame(message)
        if worker.out:
            worker.out += data
            return
        sent = 0
        with suppress(BlockingIOError, ConnectionError):
            sent = worker.line.send(data)
        if sent < len(data):
            worker.out += data[sent:]
            with suppress(OSError, ValueError):
                self._epoll.modify(worker.line, select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """Send all batches."""
        if self.waiting:
            for worker in self.waiting:
                self.send(worker)
            self.waiting.clear()

    def write(self, worker: Hand) -> None:
        """The line can take more of what was left."""
        with suppress(BlockingIOError, ConnectionError):
            sent = worker.line.send(worker.out)
            del worker.out[:sent]
        if not worker.out:
            self._epoll.modify(worker.line, select.EPOLLIN)
