"""Threads of this process: for tasks that leave the interpreter's lock (numpy, I/O), and for objects too large to copy.

Tasks share the program's objects. So what a task changes is changed in place, once its readers have ended; what it
only reads must not be changed by the program until then.
"""

import hashlib
import itertools
import pickle
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.tasks.calls import arguments, fill, results
from isthmus.tasks.declaration import Task
from isthmus.tasks.engines.interrupts import Stretch
from isthmus.tasks.engines.sequential import Sequential
from isthmus.tasks.failures import TaskTimedOut, noted
from isthmus.tasks.functions import body_of
from isthmus.tasks.graph import DONE, READY, SENT, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.program import Program
from isthmus.tasks.settings import Settings, processors


class Threaded(Program):
    """A program whose tasks are threads of its own process. What a task calls runs where it stands, like a function.

    It shares the program's objects with tasks that wait for it: waiting for others, they would wait for each other.
    """

    def __init__(self, settings: Settings) -> None:
        self.here = threading.local()
        self._inside = Sequential(settings)
        super().__init__(settings, lambda program: Threads(program, settings))

    def _within(self) -> bool:
        return getattr(self.here, "inside", False)

    def call(self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """As `Program.call`; within a task, run it now."""
        return self._inside.call(task, args, kwargs) if self._within() else super().call(task, args, kwargs)

    def wait_on(self, *values: Any) -> Any:
        """As `Program.wait_on`; within a task, the values as they are."""
        return self._inside.wait_on(*values) if self._within() else super().wait_on(*values)

    def barrier(self) -> None:
        """As `Program.barrier`; within a task, there is nothing to wait for."""
        if not self._within():
            super().barrier()

    def wait_file(self, *paths: Any) -> None:
        """As `Program.wait_file`; within a task, there is nothing to wait for."""
        if not self._within():
            super().wait_file(*paths)


class Threads:
    """See the module. Implements `Engine`."""

    name = "threads"
    in_place = True
    depth = 0

    def __init__(self, program: Any, settings: Settings) -> None:
        self._program = program
        self.workers = settings.workers or processors()
        self._wake = threading.Condition(program.lock)
        self._ready: deque[Node] = deque()
        self._running: dict[Node, Stretch] = {}
        self._units = 0
        self._bodies: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}  # thread -> worker
        self._sleeping = 0
        self._spare = 0
        self._closed = self._killed = False
        self._threads: list[threading.Thread] = []
        self._names = itertools.count(1)

    def start(self) -> None:
        from isthmus.tasks.threading_limits import limit

        limit(max(1, processors() // self.workers))
        for _ in range(self.workers):
            self._hire()

    def lend(self, more: int) -> None:
        """Have so many threads more, or as many less as were lent: for tasks that live with a stream (locked)."""
        for _ in range(more):
            self._hire()
        self._spare += max(0, -more)
        if more < 0:
            self._wake.notify_all()

    def _hire(self) -> None:
        thread = threading.Thread(target=self._work, name=f"isthmus-worker-{next(self._names)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def nodes(self) -> list[Node]:
        """Every task that is ready or runs."""
        return [*self._ready, *self._running]

    def pids(self) -> list[int]:
        """No worker processes."""
        return []

    def ready(self, nodes: Sequence[Node]) -> None:
        if self._killed:
            return
        for node in nodes:
            if node.function.options.priority:
                self._ready.appendleft(node)
            else:
                self._ready.append(node)
        if self._sleeping:
            self._wake.notify(min(len(nodes), self._sleeping))

    def added(self, node: Node) -> None:
        """It waits for its inputs."""

    def poll(self) -> None:
        """Results come by themselves."""

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return waiter.block(timeout_s)

    def pack(self, value: Any) -> Any:
        return value

    def put(self, value: Any) -> Any:
        return value

    def get(self, stored: Any) -> Any:
        return stored

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        return fill(packed, inputs)

    def digest(self, stored: Any) -> bytes:
        return hashlib.sha256(pickle.dumps(stored, 5)).digest()

    def cancel(self, node: Node, *, kill: bool) -> bool:
        stretch = self._running.get(node)
        if stretch is None:
            return True
        if kill:
            stretch.interrupt()
        return kill

    def close(self, *, kill: bool) -> None:
        with self._wake:
            self._closed = True
            if kill:
                self._killed = True
                self._ready.clear()
                for stretch in self._running.values():
                    stretch.interrupt()
            self._wake.notify_all()
        from isthmus.tasks.threading_limits import limit

        limit(processors())

    # -- threads -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._numbers[threading.get_ident()] = len(self._numbers)
        while True:
            with self._wake:
                node = self._next()
                while node is None:
                    if self._closed:
                        return
                    if self._spare:
                        self._spare -= 1
                        return
                    self._sleeping += 1
                    self._wake.wait()
                    self._sleeping -= 1
                    node = self._next()
            self._run(node)

    def _next(self) -> Node | None:
        while self._ready:
            node = self._ready[0]
            if node.state >= DONE:
                self._ready.popleft()
                continue
            if node.units > 1 and self._units and self._units + node.units > max(self.workers, node.units):
                return None
            self._ready.popleft()
            self._take(node)
            return node
        return None

    def _take(self, node: Node) -> None:
        node.state = SENT
        self._units += node.units
        self._running[node] = Stretch()

    def _run(self, node: Node) -> None:
        task = node.function
        self._program.here.inside = True
        begin = time.perf_counter()
        stretch = self._running[node]
        timer = self._timer(node, stretch)
        values: list[Any] | None = None
        failure: BaseException | None = None

        def work() -> None:
            nonlocal values, failure
            args: Sequence[Any] = ()
            keywords: dict[str, Any] = {}
            try:
                body = self._bodies.get(task.number)
                if body is None:
                    body = self._bodies[task.number] = body_of(task)
                inputs = [version.value for version in node.inputs or ()]
                encoding = node.encoding
                args, keywords = arguments(node.args, encoding, inputs, lambda tree: fill(tree, inputs))
                outputs = len(node.outputs or ())
                value = body(*args, **keywords)
                outs = len(encoding.outs) if encoding is not None else 0
                values = results(value, outputs - outs, encoding, args, keywords, task.name)
            except BaseException as error:  # noqa: BLE001  (a task's SystemExit is the task's own end)
                failure = noted(error, task.name, args, keywords)

        interruption = stretch.run(work)
        if failure is None and values is None:
            failure = interruption
        if timer is not None:
            timer.cancel()
        with self._wake:
            self._running.pop(node, None)
            self._units -= node.units
            if node.state < DONE:
                if node.state == SENT:
                    node.state = READY
                if failure is None:
                    assert values is not None
                    where = self._numbers[threading.get_ident()]
                    self._program.finished(node, values, time.perf_counter() - begin, where)
                else:
                    self._program.failed(node, failure)
            if self._sleeping and self._ready:
                self._wake.notify(len(self._ready))

    def _timer(self, node: Node, stretch: Stretch) -> threading.Timer | None:
        limit = node.function.options.time_out
        if not limit:
            return None

        def over() -> None:
            with self._wake:
                if self._running.get(node) is stretch and node.state < DONE:
                    self._program.failed(
                        node,
                        TaskTimedOut(f"{node.function.name} ran longer than its time_out of {limit:g} s."),
                        retry=False,
                    )
                    stretch.interrupt()

        timer = threading.Timer(limit, over)
        timer.daemon = True
        timer.start()
        return timer
