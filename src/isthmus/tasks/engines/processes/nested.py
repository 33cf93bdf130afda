"""The engine of the tasks that a worker's own tasks call: each ready call goes to the program as an *errand*.

Dependencies between them are found here, by the worker's own program. While a task waits for them, its worker runs
calls of greater depth: so two workers, or one, are enough for any depth.
"""

import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from isthmus.tasks.engines.processes import values, wire
from isthmus.tasks.functions import key_of
from isthmus.tasks.graph import DONE, SENT, Node
from isthmus.tasks.groups import Waiter

if TYPE_CHECKING:
    from isthmus.tasks.engines.processes.worker import Worker


class Nested:
    """See the module."""

    name = "processes"
    in_place = False
    workers = 1

    def __init__(self, program: Any, worker: "Worker") -> None:
        from isthmus.tasks.functions import newest

        self._program = program
        self._worker = worker
        self._store = worker.store
        self._forked = newest()
        self.used = False  # the worker's task has called tasks
        self._sent: dict[int, Node] = {}
        self._outbox: list[tuple[Any, ...]] = []

    @property
    def depth(self) -> int:
        return self._worker.depth + 1

    def start(self) -> None:
        """Nothing to do: the worker is there."""

    def nodes(self) -> list[Node]:
        """The tasks that have been sent and have not ended."""
        return list(self._sent.values())

    def ready(self, nodes: Sequence[Node]) -> None:
        self.used = True
        for node in nodes:
            key, payload = key_of(node.function, self._forked)
            inputs = [values.wire_of(version.value) for version in node.inputs or ()]
            node.state = SENT
            self._sent[node.id] = node
            returned = len(node.outputs or ()) - (len(node.encoding.outs) if node.encoding is not None else 0)
            self._outbox.append(
                (
                    node.id,
                    key,
                    payload,
                    returned,
                    node.args,
                    _plain(node.encoding),
                    inputs,
                    node.depth,
                    node.function.name,
                )
            )

    def added(self, node: Node) -> None:
        """It waits for its inputs here."""

    def poll(self) -> None:
        self._send()

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        self._send()
        if waiter.released:
            return True
        worker = self._worker
        end = None if timeout_s is None else time.monotonic() + timeout_s
        worker.give_back()
        worker.send((wire.WAITS, worker.depth))
        try:
            while not waiter.released:
                if worker.run_nested():
                    self._send()
                    continue
                if end is not None and time.monotonic() > end:
                    return False
                worker.flush()
                if not worker.receive():
                    raise SystemExit("The program has gone.")
                self._send()
            return True
        finally:
            worker.send((wire.GOES_ON, worker.depth))

    def settled(self, value: Any, args: Any, keywords: Any, encoding: Any) -> tuple[Any, Any, Any]:
        """A task has returned: what it returns and what it has written, with what its own tasks have made of them.

        The worker's outermost task waits for all tasks that it has called.
        """
        program = self._program
        value = program.wait_on(value)
        if encoding is not None and encoding.outs:
            args, keywords = list(args), dict(keywords)
            for where in {where for where, _ in encoding.outs if where is not None}:
                holder = args if isinstance(where, int) else keywords
                holder[where] = program.wait_on(holder[where])
        if not self._worker.stacked:
            self._end()
        return value, args, keywords

    def left_behind(self) -> None:
        """A task has raised. What it has called ends first, so that the worker's next task doesn't wait for it."""
        if not self._worker.stacked:
            with suppress(Exception):  # the task's own error is the one that is told
                self._end()

    def _end(self) -> None:
        program = self._program
        try:
            if program.live:
                program.barrier()
            else:
                program.raise_unseen()
        finally:
            program.tracker.clear()
            self.used = False

    def pack(self, value: Any) -> Any:
        return values.own(self._store, values.dump(self._store, value))

    def put(self, value: Any) -> Any:
        return values.own(self._store, values.dump(self._store, value))

    def get(self, stored: Any) -> Any:
        return values.load(self._store, values.wire_of(stored))

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        return values.load(self._store, values.wire_of(packed), inputs)

    def digest(self, stored: Any) -> bytes:
        return values.digest(self._store, values.wire_of(stored))

    def cancel(self, node: Node, *, kill: bool) -> bool:
        return node.id not in self._sent

    def close(self, *, kill: bool) -> None:
        """Nothing to do: the worker ends with its process."""

    def ended(self, message: tuple[Any, ...]) -> None:
        """A call of this worker's tasks has ended."""
        _, number, code, payload = message
        node = self._sent.pop(number, None)
        if node is None or node.state >= DONE:
            return
        with self._program.lock:
            if code == wire.RAISED:
                self._program.failed(node, pickle.loads(payload))
            else:
                self._program.finished(node, stored(self._store, code, payload), 0.0)
        self._send()

    def _send(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._worker.send((wire.ERRANDS, outbox))


def _plain(encoding: Any) -> Any:
    """An encoding as it travels."""
    if encoding is None:
        return None
    packed = [(where, values.wire_of(value)) for where, value in encoding.packed]
    return (encoding.refs, packed, encoding.outs, encoding.keywords, encoding.written)


def stored(store: Any, code: int, payload: Any) -> list[Any]:
    """The stored values of a result."""
    if code == wire.ONE:
        return [(values.PLAIN_, payload)]
    if code == wire.NONE:
        return []
    return [values.own(store, item) for item in payload]
