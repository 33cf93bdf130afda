"""The workers, as they come and go: hired from the nursery, let go when there are too many, replaced when they die.

All is called while the program's lock is held.
"""

import select
import socket
from contextlib import suppress

from isthmus.tasks.engines.processes import wire
from isthmus.tasks.engines.processes.hands import Hand, load_of
from isthmus.tasks.engines.processes.nursery import Nursery
from isthmus.tasks.engines.processes.post import Post
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.functions import newest
from isthmus.tasks.settings import Settings, processors


class Staff:
    """See the module. `hands` is one list for good; whoever holds it sees them come and go."""

    def __init__(self, store: Store, settings: Settings, epoll: select.epoll, mail: Post) -> None:
        self.hands: list[Hand] = []
        self.workers = settings.workers or processors()
        self._store = store
        self._settings = settings
        self._epoll = epoll
        self._mail = mail
        self._lent = 0
        self._next_number = 0
        self._by_line: dict[int, Hand] = {}
        self._by_pid: dict[int, Hand] = {}
        self._by_number: dict[int, Hand] = {}

    def start(self) -> None:
        """Fork the nursery, and hire as many as there should be. Once, while there are no other threads of ours."""
        self._have_nursery()
        for _ in range(self.workers):
            self._hire()

    def resize(self, workers: int) -> None:
        """Have so many. One that is let go ends what it has begun."""
        self.workers = workers
        self._match()

    def lend(self, more: int) -> None:
        """Have so many more than that, or as many less as were lent."""
        self._lent += more
        self._match()

    def of_line(self, descriptor: int) -> Hand | None:
        """The worker at the end of this line."""
        return self._by_line.get(descriptor)

    def is_nursery(self, descriptor: int) -> bool:
        """Whether this is the nursery's line."""
        return descriptor == self._nursery.line.fileno()

    def hear(self) -> list[tuple[Hand, int]]:
        """What the nursery has to say, without blocking: which workers have ended, and how."""
        news = self._nursery.news()
        if news is None:
            return self._begin_again()
        if not news:
            return []
        if news[0] == "ended":
            lost = self._by_pid.pop(news[1], None)
            return [] if lost is None else [(lost, news[2])]
        worker = self._by_number[news[1]]
        worker.pid = news[2]
        self._by_pid[worker.pid] = worker
        if worker.why is not None:
            self._nursery.kill(worker.pid)
        return []

    def kill(self, worker: Hand, why: BaseException) -> None:
        """End it at once; `why` is what its task has failed with."""
        if worker.why is None:
            worker.why = why
            if worker.pid:  # else when the nursery says it
                self._nursery.kill(worker.pid)

    def replace(self, worker: Hand) -> None:
        """It has ended: another takes its place, unless it was to go."""
        self.hands.remove(worker)
        self._mail.waiting.discard(worker)
        self.forget(worker)
        if not worker.leaving:
            self._hire()

    def deaf(self, worker: Hand) -> None:
        """Its line has ended; the nursery will say how it did. Until then nothing more goes there."""
        worker.alive = False
        with suppress(OSError, ValueError):
            self._epoll.unregister(worker.line)

    def forget(self, worker: Hand) -> None:
        """Close its lines."""
        self._by_line.pop(worker.line.fileno(), None)
        self._by_number.pop(worker.number, None)
        with suppress(OSError, ValueError):
            self._epoll.unregister(worker.line)
        worker.line.close()
        worker.bell.close()

    def close(self) -> None:
        """End the nursery, and so all that is left."""
        self._nursery.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _have_nursery(self) -> None:
        self._mail.forked = 0 if self._settings.start == "spawn" else newest()
        self._nursery = Nursery(self._store, self._settings)
        self._epoll.register(self._nursery.line, select.EPOLLIN)

    def _hire(self) -> None:
        line, theirs = wire.pair()
        bell, their_bell = socket.socketpair()
        line.setblocking(False)
        number = self._next_number
        self._next_number += 1
        worker = Hand(number, line, bell)
        self.hands.append(worker)
        self._by_line[line.fileno()] = worker
        self._by_number[number] = worker
        self._epoll.register(line, select.EPOLLIN)
        self._nursery.fork(number, theirs, their_bell)
        theirs.close()
        their_bell.close()

    def _match(self) -> None:
        wanted = self.workers + self._lent
        while len([worker for worker in self.hands if not worker.leaving]) < wanted:
            self._hire()
        spare = [worker for worker in sorted(self.hands, key=load_of, reverse=True) if not worker.leaving][wanted:]
        for worker in sorted(spare, key=load_of):
            worker.leaving = True
            if not worker.calls:
                self._mail.post(worker, (wire.STOP,))

    def _begin_again(self) -> list[tuple[Hand, int]]:
        """Without a nursery no worker can be replaced: a new one takes its place, with workers of its own."""
        with suppress(OSError, ValueError):
            self._epoll.unregister(self._nursery.line)
        old = list(self.hands)
        self._nursery.close()
        self._have_nursery()
        for worker in old:
            self._by_pid.pop(worker.pid, None)
        return [(worker, -9) for worker in old]
