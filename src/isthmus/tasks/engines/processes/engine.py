"""The program's side of the worker processes: an engine whose calls go to workers, and whose results come back.

Results are taken by a thread that sleeps in epoll, and by the program's own thread when it submits many. Which worker
gets what is `Dispatch`'s affair, who the workers are `Staff`'s; what is to be minded when nothing comes, the `Clock`'s.
"""

import math
import os
import pickle
import select
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from isthmus.tasks.engines.processes import values, wire
from isthmus.tasks.engines.processes.arrays import Arrays
from isthmus.tasks.engines.processes.clock import Clock
from isthmus.tasks.engines.processes.dispatch import Dispatch
from isthmus.tasks.engines.processes.errands import Errand, Stats
from isthmus.tasks.engines.processes.hands import Hand
from isthmus.tasks.engines.processes.nested import stored
from isthmus.tasks.engines.processes.post import Post
from isthmus.tasks.engines.processes.staff import Staff
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.failures import WorkerLost, brought
from isthmus.tasks.functions import Key
from isthmus.tasks.graph import DONE, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.settings import Settings

# A program that has looked for results so lately will look again.
_SUBMITTING_S = 0.005


class Processes:
    """See the module. Implements `Engine`."""

    name = "processes"
    in_place = False
    depth = 0

    def __init__(self, program: Any, settings: Settings) -> None:
        self._program = program
        self._store = Store.create(settings.memory_bytes)
        self._arrays = Arrays(self._store)
        self._epoll = select.epoll()
        self._mail = Post(self._epoll)
        self._staff = Staff(self._store, settings, self._epoll, self._mail)
        self._clock = Clock(self._staff.hands)
        self._dispatch = Dispatch(program, self._staff, self._mail, self._clock)
        self._stats: dict[Key, Stats] = {}
        self._closed = False
        self._polled = 0.0
        self._minds_at = 0.0  # when the thread that minds the clock wakes by itself
        self._resume = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)  # closing an epoll wakes nobody who sleeps in it
        self._epoll.register(self._wake, select.EPOLLIN)

    @property
    def workers(self) -> int:
        """How many tasks at once."""
        return self._staff.workers

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._staff.start()
        self._thread = threading.Thread(target=self._pump, name="isthmus-tasks", daemon=True)
        self._thread.start()

    def resize(self, workers: int) -> None:
        """Have so many workers (locked). One that is let go ends what it has begun."""
        self._staff.resize(workers)
        self._dispatch.go()

    def lend(self, more: int) -> None:
        """Have so many workers more, or as many less as were lent: for tasks that live with a stream (locked)."""
        if not self._closed:
            self._staff.lend(more)
            self._dispatch.go()

    def close(self, *, kill: bool) -> None:
        with self._program.lock:
            if self._closed:
                return
            self._closed = True
            for worker in self._staff.hands:
                if not kill:
                    self._mail.post(worker, (wire.STOP,))
                self._staff.forget(worker)
        self._resume.set()
        os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._staff.close()
        self._epoll.close()
        os.close(self._wake)
        self._arrays.close()
        self._store.destroy()

    def nodes(self) -> list[Node]:
        """Every task of the program that this engine has, ready or sent."""
        sent = [entry[0] for worker in self._staff.hands for entry in worker.calls.values()]
        return [node for node in (*self._dispatch.nodes(), *sent) if type(node) is Node]

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.pid for worker in self._staff.hands if worker.pid]

    # -- from the program (locked) -----------------------------------------------------------------------------

    def ready(self, nodes: Sequence[Node]) -> None:
        self._dispatch.add(nodes)

    def added(self, node: Node) -> None:
        if node.commutes is None and node.units == 1:
            self._dispatch.follow(node)

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        return values.load(self._store, values.wire_of(packed), inputs)

    def digest(self, stored: Any) -> bytes:
        return values.digest(self._store, values.wire_of(stored))

    def cancel(self, node: Node, *, kill: bool) -> bool:
        worker = node.sent_to
        if worker is None:
            return True
        if not kill:
            return False
        if worker.first() is node:
            self._staff.kill(worker, WorkerLost("It was cancelled while it ran."))
        return True

    # -- from the program (not locked) -------------------------------------------------------------------------

    def poll(self) -> None:
        with self._program.lock:
            self._take(0)
            self._mail.flush()
            self._hurry()
        self._polled = time.monotonic()
        self._resume.clear()

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        with self._program.lock:
            self._mail.flush()
            self._hurry()
        self._polled = 0.0
        self._resume.set()
        return waiter.block(timeout_s)

    def pack(self, value: Any) -> Any:
        if self._arrays.takes(value):
            return self._arrays.pack(value)
        return values.own(self._store, values.dump(self._store, value))

    def put(self, value: Any) -> Any:
        if self._arrays.takes(value):
            return self._arrays.pack(value)
        return values.own(self._store, values.dump(self._store, value))

    def get(self, stored: Any) -> Any:
        return values.load(self._store, values.wire_of(stored))

    # -- what comes back ---------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while not self._closed:
            with self._program.lock:
                patience = self._clock.patience()
                self._minds_at = math.inf if patience < 0 else time.monotonic() + patience
            try:
                events = self._epoll.poll(patience)
            except (OSError, ValueError):
                return
            # While the program's own thread looks for results itself, two would only take turns at the lock.
            while time.monotonic() - self._polled < _SUBMITTING_S and not self._closed:
                self._resume.wait(_SUBMITTING_S)
            with self._program.lock:
                if self._closed:
                    return
                self._handle(events)
                self._clock.mind(self._staff.kill)
                self._mail.flush()

    def _hurry(self) -> None:
        """Wake who minds the clock, where it was set to wake later than there is something to mind now (locked)."""
        if self._closed or not self._minds_at:
            return
        patience = self._clock.patience()
        if 0 <= patience < self._minds_at - time.monotonic():
            self._minds_at = 0.0
            os.eventfd_write(self._wake, 1)

    def _take(self, timeout_s: float) -> None:
        if not self._closed:
            self._handle(self._epoll.poll(timeout_s))

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        news = False
        for descriptor, what in events:
            worker = self._staff.of_line(descriptor)
            if worker is None:
                if descriptor == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                    continue
                news = news or self._staff.is_nursery(descriptor)
                continue
            if what & select.EPOLLOUT:
                self._mail.write(worker)
            if what & ~select.EPOLLOUT:
                self._read(worker)
        if news:
            self._hear()
        self._dispatch.go()

    def _read(self, worker: Hand) -> None:
        with suppress(BlockingIOError):
            if not worker.reader.receive() and worker.alive:
                self._staff.deaf(worker)
        self._understand(worker)

    def _understand(self, worker: Hand) -> None:
        while (message := worker.reader.taken()) is not None:
            worker.heard = time.monotonic()
            worker.rung = False
            kind = message[0]
            if kind == wire.RESULTS:
                self._results(worker, message[1])
            elif kind == wire.BACK:
                self._given_back(worker, message[1])
            elif kind == wire.ERRANDS:
                self._take_errands(worker, message[1])
            elif kind == wire.WAITS:
                worker.helps.append(message[1])
                worker.load = 0.0
            elif worker.helps:
                worker.helps.pop()

    def _results(self, worker: Hand, results: Sequence[tuple[Any, ...]]) -> None:
        finished = self._program.finished
        calls = worker.calls
        for number, code, payload, seconds in results:
            if code != wire.SKIPPED:
                worker.acknowledged += 1
            node, expected = calls.pop(number, (None, 0.0))
            if node is None:
                if code == wire.MANY:
                    stored(self._store, code, payload)  # nobody's: its files go
                continue
            worker.load = max(0.0, worker.load - expected)
            if not calls:
                worker.load = 0.0
                worker.units = 0
                if worker.leaving:
                    self._mail.post(worker, (wire.STOP,))
            if type(node) is not Node:
                self._errand_ended(node, code, payload, seconds)
                continue
            node.sent_to = None
            if code == wire.ONE:
                finished(node, ((values.PLAIN_, payload),), seconds, worker.number)
            elif code == wire.NONE:
                finished(node, (), seconds, worker.number)
            elif code == wire.MANY:
                finished(node, stored(self._store, code, payload), seconds, worker.number)
            elif code == wire.RAISED:
                self._dispatch.cleared(node)
                self._program.failed(node, brought(payload))
            else:
                self._dispatch.again(node)

    def _errand_ended(self, errand: Errand, code: int, payload: Any, seconds: float) -> None:
        function = errand.function
        function.seconds = seconds if function.seconds < 0 else 0.8 * function.seconds + 0.2 * seconds
        if code == wire.SKIPPED:
            errand.sent_to = None
            self._dispatch.errands.push(errand)
            return
        errand.state = DONE
        if errand.origin.alive:
            self._mail.post(errand.origin, (wire.ENDED, errand.number, code, payload))

    def _given_back(self, worker: Hand, numbers: Sequence[int]) -> None:
        for number in numbers:
            node, expected = worker.calls.pop(number, (None, 0.0))
            if node is not None:
                worker.load = max(0.0, worker.load - expected)
                self._dispatch.again(node)

    def _take_errands(self, worker: Hand, errands: Sequence[tuple[Any, ...]]) -> None:
        for sent in errands:
            key = sent[1]
            stats = self._stats.get(key)
            if stats is None:
                stats = self._stats[key] = Stats(sent[-1])
            self._dispatch.errands.push(Errand(worker, sent, stats))

    # -- trouble -----------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for worker, status in self._staff.hear():
            if not self._closed:
                self._lose(worker, status)

    def _lose(self, worker: Hand, status: int) -> None:
        """A worker has ended. What it had said is heard first; the task that it ran is blamed if it is known which."""
        with suppress(BlockingIOError):
            while worker.reader.receive():
                pass
        self._understand(worker)
        worker.alive = False
        running = [node for node, _ in worker.calls.values()]
        worker.calls.clear()
        self._staff.replace(worker)
        how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
        blamed = worker.why is not None or len(running) == 1
        for place, node in enumerate(running):
            node.sent_to = None
            if type(node) is not Node:
                self._lose_errand(node, worker, how, blamed and place == 0)
            elif blamed and place == 0:
                error = worker.why or WorkerLost(
                    f"The worker that ran {node.function.name} has ended {how}.",
                    hint="Signal 9 is often the kernel's, when memory is short; 11 a fault of native code."
                    if status < 0
                    else "",
                )
                self._program.failed(node, error)
            else:
                # One of them was running, nobody knows which: each goes alone from now on.
                self._dispatch.again(node, alone=True)
        self._dispatch.errands.drop(worker)
        self._dispatch.go()

    def _lose_errand(self, errand: Errand, worker: Hand, how: str, blamed: bool) -> None:
        if errand.origin is worker:
            return
        if blamed:
            error = WorkerLost(f"The worker that ran {errand.function.name} has ended {how}.")
            self._errand_ended(errand, wire.RAISED, pickle.dumps(error), 0.0)
        else:
            self._dispatch.again(errand)
