"""The program's side of the worker processes: which worker gets what, what comes back, what to do when one dies.

A worker gets as many calls at once as it will run in a few milliseconds, going by what calls of the same task took; a
task that nobody has timed goes alone. A task whose inputs are being made by one worker goes after them to that worker,
so that a chain of tasks does not come back between its links. Results are taken by a thread that sleeps in epoll, and
by the program's own thread when it submits many.
"""

import heapq
import math
import os
import pickle
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks.engines.processes import values, wire
from isthmus.tasks.engines.processes.arrays import Arrays
from isthmus.tasks.engines.processes.errands import Errand, Errands, Stats
from isthmus.tasks.engines.processes.hands import AHEAD_S, Hand
from isthmus.tasks.engines.processes.nested import stored
from isthmus.tasks.engines.processes.nursery import Nursery
from isthmus.tasks.engines.processes.post import Post
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.failures import TaskTimedOut, WorkerLost, brought
from isthmus.tasks.functions import Key, newest
from isthmus.tasks.graph import DONE, READY, SENT, WAITING, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.settings import Settings, processors

# Calls that a worker may have before it, so that memory is bounded.
_AHEAD = 4096
# A task that is longer than that, and no longer than this, may wait behind one that runs, where others wait for all
# workers anyhow: so no worker is idle while the program's own thread is busy making calls.
_RESERVE_S = 0.1
# A program that has looked for results so lately will look again.
_SUBMITTING_S = 0.005
# A worker that is silent for so long with calls queued is rung at: they may stand behind a long one.
_SILENT_S = 0.02


class Processes:
    """See the module. Implements `Engine`."""

    name = "processes"
    in_place = False
    depth = 0

    def __init__(self, program: Any, settings: Settings) -> None:
        self._program = program
        self._settings = settings
        self.workers = settings.workers or processors()
        self._store = Store.create(settings.memory_bytes)
        self._arrays = Arrays(self._store)
        self._ready: deque[Any] = deque()
        self._urgent: deque[Any] = deque()
        self._errands = Errands()
        self._wide: deque[Any] = deque()  # tasks that take several processors, one at a time in order
        self._workers: list[Hand] = []
        self._by_line: dict[int, Hand] = {}
        self._by_pid: dict[int, Hand] = {}
        self._by_number: dict[int, Hand] = {}
        self._stats: dict[Key, Stats] = {}
        self._deadlines: list[tuple[float, int, Any]] = []
        self._solo: set[int] = set()
        self._units = 0
        self._lent = 0
        self._next_number = 0
        self._closed = False
        self._full = False  # no worker has room, and nothing has changed since
        self._polled = 0.0
        self._minds_at = 0.0  # when the thread that minds the clock wakes by itself
        self._resume = threading.Event()
        self._epoll = select.epoll()
        self._mail = Post(self._epoll)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)  # closing an epoll wakes nobody who sleeps in it
        self._epoll.register(self._wake, select.EPOLLIN)
        self._pid = 0

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._mail.forked = newest()
        self._nursery = Nursery(self._store, self._settings)
        if self._settings.start == "spawn":
            self._mail.forked = 0
        self._epoll.register(self._nursery.line, select.EPOLLIN)
        with self._program.lock:
            for _ in range(self.workers):
                self._hire()
        self._thread = threading.Thread(target=self._pump, name="isthmus-tasks", daemon=True)
        self._thread.start()

    def _hire(self) -> None:
        line, theirs = wire.pair()
        bell, their_bell = socket.socketpair()
        line.setblocking(False)
        number = self._next_number
        self._next_number += 1
        worker = Hand(number, line, bell)
        self._workers.append(worker)
        self._by_line[line.fileno()] = worker
        self._by_number[number] = worker
        self._epoll.register(line, select.EPOLLIN)
        self._nursery.fork(number, theirs, their_bell)
        theirs.close()
        their_bell.close()

    def resize(self, workers: int) -> None:
        """Have so many workers (locked). One that is let go ends what it has begun."""
        self.workers = workers
        self._staff()

    def lend(self, more: int) -> None:
        """Have so many workers more, or as many less as were lent: for tasks that live with a stream (locked)."""
        self._lent += more
        if not self._closed:
            self._staff()

    def _staff(self) -> None:
        wanted = self.workers + self._lent
        while len([w for w in self._workers if not w.leaving]) < wanted:
            self._hire()
        spare = [w for w in sorted(self._workers, key=_load, reverse=True) if not w.leaving][wanted:]
        for worker in sorted(spare, key=_load):
            worker.leaving = True
            if not worker.calls:
                self._mail.post(worker, (wire.STOP,))
        self._dispatch()

    def close(self, *, kill: bool) -> None:
        with self._program.lock:
            if self._closed:
                return
            self._closed = True
            if not kill:
                for worker in self._workers:
                    self._mail.post(worker, (wire.STOP,))
            for worker in self._workers:
                self._forget(worker)
        self._resume.set()
        os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._nursery.close()
        self._epoll.close()
        os.close(self._wake)
        self._arrays.close()
        self._store.destroy()

    def nodes(self) -> list[Node]:
        """Every task of the program that this engine has, ready or sent."""
        waiting = [*self._ready, *self._urgent, *self._wide]
        sent = [entry[0] for worker in self._workers for entry in worker.calls.values()]
        return [node for node in (*waiting, *sent) if type(node) is Node]

    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.pid for worker in self._workers if worker.pid]

    # -- from the program (locked) -----------------------------------------------------------------------------

    def ready(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if node.sent_to is not None:
                continue  # sent after its inputs already
            if node.units > 1:
                self._wide.append(node)
            elif node.function.options.priority:
                self._urgent.append(node)
            else:
                self._ready.append(node)
        if not self._full:
            self._dispatch()

    def added(self, node: Node) -> None:
        if node.commutes is None and node.units == 1:
            self._follow(node)

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
        first = next(iter(worker.calls.values()), None)
        if first is not None and first[0] is node:
            self._kill(worker, WorkerLost("It was cancelled while it ran."))
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

    # -- who gets what -----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give what is ready to workers with room."""
        self._full = False
        if self._errands:
            self._dispatch_errands()
        if self._wide:
            self._dispatch_wide()
            if self._wide:
                return  # let processors come free for it
        while self._urgent or self._ready:
            queue = self._urgent or self._ready
            free = [worker for worker in self._workers if worker.takes_calls()]
            if not free:
                if len(queue) >= len(self._workers):
                    self._put_behind(queue)
                self._full = True
                return
            free.sort(key=_load)
            share = -(-len(queue) // len(free))
            moved = False
            for worker in free:
                moved |= self._give(worker, queue, share)
            if not moved:
                self._full = True
                return

    def _give(self, worker: Hand, queue: deque[Any], share: int) -> bool:
        """Move up to `share` tasks from the queue to the worker, as far as it has room."""
        moved = False
        while queue and share:
            node = queue[0]
            if node.state >= DONE or node.sent_to is not None:
                queue.popleft()
                continue
            seconds = node.function.seconds
            alone = seconds < 0 or seconds >= AHEAD_S or bool(self._solo and id(node) in self._solo)
            if worker.calls and (alone or worker.load + seconds > AHEAD_S or len(worker.calls) >= _AHEAD):
                return moved
            queue.popleft()
            self._assign(worker, node, AHEAD_S if alone else seconds)
            moved = True
            share -= 1
            if alone:
                return moved
        return moved

    def _put_behind(self, queue: deque[Any]) -> None:
        """Each worker with one call gets the next one at hand, where calls are neither short nor long."""
        for worker in self._workers:
            if not worker.takes_reserve():
                continue
            while queue and (queue[0].state >= DONE or queue[0].sent_to is not None):
                queue.popleft()
            if not queue:
                return
            node = queue[0]
            seconds = node.function.seconds
            if not 0 <= seconds < _RESERVE_S or node.function.options.time_out or id(node) in self._solo:
                return
            queue.popleft()
            worker.reserve = node.id
            self._assign(worker, node, AHEAD_S)

    def _dispatch_errands(self) -> None:
        """The deepest first: they are what others wait for. A worker whose task waits takes only what is deeper."""
        errands = self._errands
        while errands:
            deepest = errands.depth()
            best: Hand | None = None
            for worker in self._workers:
                if not worker.alive or worker.leaving or (worker.helps and worker.helps[-1] >= deepest):
                    continue
                if len(worker.calls) == len(worker.helps):
                    best = worker
                    break
                if best is None or worker.load < best.load:
                    best = worker
            if best is None:
                return
            seconds = errands.peek().function.seconds
            alone = seconds < 0 or seconds >= AHEAD_S
            busy = len(best.calls) > len(best.helps)
            if busy and (alone or best.load + seconds > AHEAD_S or len(best.calls) >= _AHEAD):
                return
            self._assign(best, errands.pop(), AHEAD_S if alone else seconds)

    def _dispatch_wide(self) -> None:
        while self._wide:
            node = self._wide[0]
            if node.state >= DONE:
                self._wide.popleft()
                continue
            busy = sum(max(1, worker.units) for worker in self._workers if worker.calls)
            idle = next((w for w in self._workers if w.alive and not w.leaving and not w.calls), None)
            if idle is None or busy + node.units > max(self.workers, node.units):
                return
            if busy and node.units >= self.workers:
                return
            self._wide.popleft()
            idle.units = node.units
            self._assign(idle, node, AHEAD_S)

    def _assign(self, worker: Hand, node: Any, seconds: float) -> None:
        """Put the call into the worker's next batch, and what can follow it there; one that has nothing gets it now."""
        idle = len(worker.calls) == len(worker.helps)
        while True:
            try:
                call = self._mail.call(worker, node) if type(node) is Node else self._mail.errand(worker, node)
            except Invalid as error:
                node.sent_to = None
                if type(node) is Node:
                    self._program.failed(node, error, retry=False)
                return
            node.state = SENT
            node.sent_to = worker
            if not worker.calls:
                worker.heard = time.monotonic()
                worker.rung = False
            worker.calls[call[0]] = (node, seconds)
            worker.load += seconds
            worker.batch.append(call)
            self._mail.waiting.add(worker)
            if type(node) is not Node:
                return
            time_out = node.function.options.time_out
            if time_out:
                heapq.heappush(self._deadlines, (time.monotonic() + time_out, call[0], worker))
            follower = self._only_follower(node, worker)
            if follower is None:
                if idle or len(worker.batch) > 512:
                    self._mail.send(worker)
                return
            node, seconds = follower, follower.function.seconds

    def _only_follower(self, node: Node, worker: Hand) -> Node | None:
        """The one task that waits for this one's result, if it can go to the same worker now."""
        for version in node.outputs or ():
            if version.waiters is not None and len(version.waiters) == 1:
                waiter = version.waiters[0]
                if type(waiter) is Node and self._can_follow(waiter) is worker:
                    return waiter
        return None

    def _can_follow(self, node: Node) -> Hand | None:
        """The worker that makes all that the task waits for, if it has room for it."""
        if node.state != WAITING or node.sent_to is not None or node.commutes is not None or node.units != 1:
            return None
        seconds = node.function.seconds
        if not 0 <= seconds < AHEAD_S or (self._solo and id(node) in self._solo):
            return None
        worker: Hand | None = None
        pending = 0
        for version in node.inputs or ():
            if version.error is not None:
                return None
            producer = version.producer
            if producer is not None:
                if producer.sent_to is None or (worker is not None and producer.sent_to is not worker):
                    return None
                if producer.commutes is not None:
                    return None
                worker = producer.sent_to
                pending += 1
        if worker is None or pending != node.waiting or not worker.alive or worker.helps or worker.leaving:
            return None
        if worker.load + seconds > AHEAD_S or len(worker.calls) >= _AHEAD:
            return None
        return worker

    def _follow(self, node: Node) -> None:
        worker = self._can_follow(node)
        if worker is not None:
            self._assign(worker, node, node.function.seconds)

    # -- what comes back ---------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while not self._closed:
            with self._program.lock:
                patience = self._patience()
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
                self._mind_the_clock()
                self._mail.flush()

    def _patience(self) -> float:
        """How long nothing may come before the clock is to be looked at; -1: for ever."""
        wait = -1.0
        if any(self._may_ring(worker) for worker in self._workers):
            wait = _SILENT_S
        if self._deadlines:
            left = max(0.0, self._deadlines[0][0] - time.monotonic())
            wait = left if wait < 0 else min(wait, left)
        return wait

    def _hurry(self) -> None:
        """Wake who minds the clock, where it was set to wake later than there is something to mind now (locked)."""
        if self._closed or not self._minds_at:
            return
        patience = self._patience()
        if 0 <= patience < self._minds_at - time.monotonic():
            self._minds_at = 0.0
            os.eventfd_write(self._wake, 1)

    def _may_ring(self, worker: Hand) -> bool:
        """Whether it has calls queued that others might take, or results that it keeps."""
        if len(worker.calls) < 2 or worker.rung:
            return False
        is_reserve = len(worker.calls) == 2 and worker.reserve in worker.calls
        return not is_reserve or any(not other.calls and other.takes_calls() for other in self._workers)

    def _take(self, timeout_s: float) -> None:
        if not self._closed:
            self._handle(self._epoll.poll(timeout_s))

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        news = False
        for descriptor, what in events:
            worker = self._by_line.get(descriptor)
            if worker is None:
                if descriptor == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                    continue
                news = news or descriptor == self._nursery.line.fileno()
                continue
            if what & select.EPOLLOUT:
                self._mail.write(worker)
            if what & ~select.EPOLLOUT:
                self._read(worker)
        if news:
            self._hear()
        self._dispatch()

    def _read(self, worker: Hand) -> None:
        with suppress(BlockingIOError):
            if not worker.reader.receive() and worker.alive:
                # It has died; the nursery says how. Until then nothing more goes there.
                worker.alive = False
                with suppress(OSError, ValueError):
                    self._epoll.unregister(worker.line)
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
                self._solo.discard(id(node))
                self._program.failed(node, brought(payload))
            else:
                self._again(node)

    def _errand_ended(self, errand: Errand, code: int, payload: Any, seconds: float) -> None:
        function = errand.function
        function.seconds = seconds if function.seconds < 0 else 0.8 * function.seconds + 0.2 * seconds
        if code == wire.SKIPPED:
            errand.sent_to = None
            self._errands.push(errand)
            return
        errand.state = DONE
        if errand.origin.alive:
            self._mail.post(errand.origin, (wire.ENDED, errand.number, code, payload))

    def _again(self, node: Any) -> None:
        """Sent, but not run: it is ready again, or waits for its inputs again."""
        node.sent_to = None
        if type(node) is not Node:
            node.state = READY
            self._errands.push(node)
        elif node.state >= DONE:
            return
        elif node.waiting == 0:
            node.state = READY
            if node.units > 1:
                self._wide.appendleft(node)
            else:
                (self._urgent if node.function.options.priority else self._ready).appendleft(node)
        else:
            node.state = WAITING

    def _given_back(self, worker: Hand, numbers: Sequence[int]) -> None:
        for number in numbers:
            node, expected = worker.calls.pop(number, (None, 0.0))
            if node is not None:
                worker.load = max(0.0, worker.load - expected)
                self._again(node)

    def _take_errands(self, worker: Hand, errands: Sequence[tuple[Any, ...]]) -> None:
        for sent in errands:
            key = sent[1]
            stats = self._stats.get(key)
            if stats is None:
                stats = self._stats[key] = Stats(sent[-1])
            self._errands.push(Errand(worker, sent, stats))

    # -- trouble -----------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        news = self._nursery.news()
        if news is None:
            self._nursery_gone()
        elif not news:
            return
        elif news[0] == "started":
            worker = self._by_number[news[1]]
            worker.pid = news[2]
            self._by_pid[worker.pid] = worker
            if worker.why is not None:
                self._nursery.kill(worker.pid)
        else:
            lost = self._by_pid.pop(news[1], None)
            if lost is not None and not self._closed:
                self._lose(lost, news[2])

    def _lose(self, worker: Hand, status: int) -> None:
        """A worker has ended. What it had said is heard first; the task that it ran is blamed if it is known which."""
        with suppress(BlockingIOError):
            while worker.reader.receive():
                pass
        self._understand(worker)
        worker.alive = False
        calls = list(worker.calls.values())
        worker.calls.clear()
        self._workers.remove(worker)
        self._mail.waiting.discard(worker)
        self._forget(worker)
        if not self._closed and not worker.leaving:
            self._hire()
        how = f"by signal {-status}" if status < 0 else f"with exit code {status}"
        running = [node for node, _ in calls]
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
                self._solo.add(id(node))
                self._again(node)
        self._errands.drop(worker)
        self._dispatch()

    def _lose_errand(self, errand: Errand, worker: Hand, how: str, blamed: bool) -> None:
        if errand.origin is worker:
            return
        if blamed:
            error = WorkerLost(f"The worker that ran {errand.function.name} has ended {how}.")
            self._errand_ended(errand, wire.RAISED, pickle.dumps(error), 0.0)
        else:
            self._again(errand)

    def _forget(self, worker: Hand) -> None:
        self._by_line.pop(worker.line.fileno(), None)
        self._by_number.pop(worker.number, None)
        with suppress(OSError, ValueError):
            self._epoll.unregister(worker.line)
        worker.line.close()
        worker.bell.close()

    def _nursery_gone(self) -> None:
        """Without it no worker can be replaced: a new one takes its place, with workers of its own."""
        with suppress(OSError, ValueError):
            self._epoll.unregister(self._nursery.line)
        old = list(self._workers)
        self._nursery.close()
        self._mail.forked = newest()
        self._nursery = Nursery(self._store, self._settings)
        self._epoll.register(self._nursery.line, select.EPOLLIN)
        for worker in old:
            self._by_pid.pop(worker.pid, None)
            self._lose(worker, -9)

    def _kill(self, worker: Hand, why: BaseException) -> None:
        if worker.why is None:
            worker.why = why
            if worker.pid:  # else when the nursery says it
                self._nursery.kill(worker.pid)

    def _mind_the_clock(self) -> None:
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number, worker = heapq.heappop(self._deadlines)
            entry = worker.calls.get(number)
            if entry is None:
                continue
            node = entry[0]
            first = next(iter(worker.calls.values()))
            if first[0] is node:
                limit = node.function.options.time_out
                self._kill(worker, TaskTimedOut(f"{node.function.name} ran longer than its time_out of {limit:g} s."))
            else:
                heapq.heappush(self._deadlines, (now + node.function.options.time_out, number, worker))
        for worker in self._workers:
            if self._may_ring(worker) and now - worker.heard >= _SILENT_S and worker.pid:
                worker.rung = True
                with suppress(OSError):
                    worker.bell.send(b"!")


def _load(worker: Hand) -> float:
    return worker.load
