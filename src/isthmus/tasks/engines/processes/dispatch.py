"""Which worker gets which call, and when.

A worker gets as many calls at once as it will run in a few milliseconds, going by what calls of the same task took; a
task that nobody has timed goes alone. A task whose inputs are being made by one worker goes after them to that worker,
so that a chain of tasks does not come back between its links. All is called while the program's lock is held.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks.engines.processes.clock import Clock
from isthmus.tasks.engines.processes.errands import Errands
from isthmus.tasks.engines.processes.hands import AHEAD_S, Hand, load_of
from isthmus.tasks.engines.processes.post import Post
from isthmus.tasks.engines.processes.staff import Staff
from isthmus.tasks.graph import DONE, READY, SENT, WAITING, Node

# Calls that a worker may have before it, so that memory is bounded.
_AHEAD = 4096
# A task that is longer than AHEAD_S, and no longer than this, may wait behind one that runs, where others wait for all
# workers anyhow: so no worker is idle while the program's own thread is busy making calls.
_RESERVE_S = 0.1


class Dispatch:
    """The calls that wait for a worker, and their ways."""

    def __init__(self, program: Any, staff: Staff, mail: Post, clock: Clock) -> None:
        self.errands = Errands()
        self._program = program
        self._staff = staff
        self._hands = staff.hands
        self._mail = mail
        self._clock = clock
        self._ready: deque[Any] = deque()
        self._urgent: deque[Any] = deque()
        self._wide: deque[Any] = deque()  # tasks that take several processors, one at a time in order
        self._solo: set[int] = set()  # those that may have killed a worker
        self._full = False  # no worker has room, and nothing has changed since

    def nodes(self) -> list[Any]:
        """What waits for a worker."""
        return [*self._ready, *self._urgent, *self._wide]

    def add(self, nodes: Iterable[Node]) -> None:
        """These are ready."""
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
            self.go()

    def follow(self, node: Node) -> None:
        """It waits for others: it goes after them to where they are, if that is one place with room."""
        worker = self._can_follow(node)
        if worker is not None:
            self._assign(worker, node, node.function.seconds)

    def again(self, node: Any, *, alone: bool = False) -> None:
        """Sent, but not run: it is ready again, or waits for its inputs again.

        `alone`: with no other call before or behind it. It is one of those that may have killed their worker.
        """
        if alone:
            self._solo.add(id(node))
        node.sent_to = None
        if type(node) is not Node:
            node.state = READY
            self.errands.push(node)
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

    def cleared(self, node: Node) -> None:
        """It has ended by itself: it kills no worker."""
        self._solo.discard(id(node))

    def go(self) -> None:
        """Give what is ready to workers with room."""
        self._full = False
        if self.errands:
            self._give_errands()
        if self._wide:
            self._give_wide()
            if self._wide:
                return  # let processors come free for it
        while self._urgent or self._ready:
            queue = self._urgent or self._ready
            free = [worker for worker in self._hands if worker.takes_calls()]
            if not free:
                if len(queue) >= len(self._hands):
                    self._put_behind(queue)
                self._full = True
                return
            free.sort(key=load_of)
            share = -(-len(queue) // len(free))
            moved = False
            for worker in free:
                moved |= self._give(worker, queue, share)
            if not moved:
                self._full = True
                return

    # -- inside ------------------------------------------------------------------------------------------------

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
        for worker in self._hands:
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

    def _give_errands(self) -> None:
        """The deepest first: they are what others wait for. A worker whose task waits takes only what is deeper."""
        errands = self.errands
        while errands:
            deepest = errands.depth()
            best: Hand | None = None
            for worker in self._hands:
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

    def _give_wide(self) -> None:
        while self._wide:
            node = self._wide[0]
            if node.state >= DONE:
                self._wide.popleft()
                continue
            busy = sum(max(1, worker.units) for worker in self._hands if worker.calls)
            idle = next((w for w in self._hands if w.alive and not w.leaving and not w.calls), None)
            if idle is None or busy + node.units > max(self._staff.workers, node.units):
                return
            if busy and node.units >= self._staff.workers:
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
                self._clock.limit(worker, call[0], time_out)
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
