"""A worker: it runs calls that come in batches, and sends results back in batches.

Its one working thread reads the line only when it has nothing to do, so nothing is handed over on the hot path. A
second thread sleeps on a line of its own: the program rings there when a worker has been silent with calls queued
behind a long one; it sends what results there are, and gives back what was not begun.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import Any

from isthmus.tasks.calls import PLAIN, Encoding, arguments, results
from isthmus.tasks.current import install
from isthmus.tasks.engines.processes import values, wire
from isthmus.tasks.engines.processes.mappings import has_children
from isthmus.tasks.engines.processes.store import Store
from isthmus.tasks.failures import TaskError, noted, portable
from isthmus.tasks.functions import body_of, of_key
from isthmus.tasks.program import Program
from isthmus.tasks.settings import Settings
from isthmus.tasks.watch import unwatched

_FLUSH_S = 0.001
_AROUND = "its arguments could not be read, or what it returned or changed can't be sent back."
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Worker:
    """See the module."""

    def __init__(self, line: socket.socket, bell: socket.socket, store: Store, number: int) -> None:
        self.number = number
        self.store = store
        assert store.mappings is not None
        self._mappings = store.mappings
        self.depth = 0  # of the call that runs
        self._idle = False  # no call is running or queued: what is known for calls is not needed any more
        self.stacked = 0  # calls that run while others wait below them
        self._line = line
        self._bell = bell
        self._reader = wire.Reader(line)
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._queue: deque[Any] = deque()
        self._put_by: deque[tuple[Any, ...]] = deque()
        self._known: dict[int, tuple[Any, ...]] = {}
        self._own: dict[int, tuple[Any, ...]] = {}
        self._own_order: deque[tuple[int, int]] = deque()
        self._done = 0
        self._results: list[tuple[Any, ...]] = []
        self._flushed = 0.0
        self._functions: dict[Any, Any] = {}
        self.nested: Any = None

    def run(self) -> None:
        """Work until the line ends."""
        threading.Thread(target=self._listen, name="isthmus-bell", daemon=True).start()
        queue = self._queue
        while True:
            if not queue:
                self.flush()
                if not self.receive():
                    return
                self._idle = False
                continue
            try:
                call = queue.popleft()
            except IndexError:  # the bell has given it back
                continue
            if type(call) is int:
                self._acknowledged(call)
            else:
                self._run(call)

    def receive(self) -> bool:
        """Take one message; blocks. False when the program is gone or wants no more."""
        self._idle = not self.stacked and not self._queue
        with self._reading:
            message = self._put_by.popleft() if self._put_by else self._reader.next()
        return message is not None and self.take(message)

    def take(self, message: tuple[Any, ...]) -> bool:
        """What a message asks for. False if it is to stop."""
        kind = message[0]
        if kind == wire.RUN:
            _, acknowledged, functions, known, calls = message
            for key, payload in functions.items():
                self._functions[key] = body_of(of_key(key, payload))
            if self._idle:
                self._known.clear()
            self._known.update(known)
            self._queue.append(acknowledged)
            self._queue.extend(calls)
        elif kind == wire.ENDED:
            self.nested.ended(message)
        else:
            return False
        return True

    # -- calls -------------------------------------------------------------------------------------------------

    def _run(self, call: tuple[Any, ...]) -> None:
        number, _, _, _, _, _, outputs, self.depth = call
        mappings = self._mappings
        before, mappings.opened = mappings.opened, []
        code, payload, made, seconds = self._ended(call)
        # What the call was given is gone by now, unless somebody keeps it.
        if mappings.opened:
            mappings.settle(self.store.pin, shared=has_children())
        mappings.opened = before
        self._results.append((number, code, payload, seconds))
        if code == wire.SKIPPED:
            return
        self._done += 1
        if code == wire.RAISED:
            return
        if outputs is not None:
            own = self._own
            if type(outputs) is int:
                own[outputs] = made[0]
                self._own_order.append((self._done, outputs))
            else:
                for version, stored in zip(outputs, made, strict=True):
                    own[version] = stored
                    self._own_order.append((self._done, version))
        if perf_counter() - self._flushed > _FLUSH_S:
            self.flush()

    def _ended(self, call: tuple[Any, ...]) -> tuple[int, Any, list[Any], float]:
        """Run the call: how it ended, what is sent of that, the wire form of each output, and the seconds it took."""
        _, key, returns, args, encoding, inputs, _, _ = call
        begin = perf_counter()
        try:
            body = self._functions.get(key)
            if body is None:
                body = self._functions[key] = body_of(of_key(key))
            given: list[Any] = []
            keywords: dict[str, Any] = {}
            described = Encoding(*encoding) if encoding is not None else None
            if inputs is not None:
                known, own = self._known, self._own
                read = len(inputs) - (described.written if described is not None else 0)
                for place, version in enumerate(inputs):
                    stored = known.get(version)
                    if stored is None:
                        stored = own.get(version)
                        if stored is None:
                            return wire.SKIPPED, None, [], 0.0
                    given.append(values.load(self.store, stored, to_change=place >= read))
            if described is not None or given:
                args, keywords = arguments(
                    args, described, given, lambda packed: values.load(self.store, packed, given)
                )
            try:
                value = body(*args, **keywords)
                if self.nested.used:
                    value, args, keywords = self.nested.settled(value, args, keywords, described)
            except BaseException as error:
                name = getattr(body, "__qualname__", None) or getattr(getattr(body, "func", None), "__qualname__", "?")
                noted(error, f"{getattr(body, '__module__', '')}.{name}", args, keywords)
                if self.nested.used:
                    self.nested.left_behind()
                raise
            if returns == 1 and described is None:
                kind = type(value)
                if kind in PLAIN and (kind not in (str, bytes) or len(value) < 4096):
                    return wire.ONE, value, [(values.PLAIN_, value)], perf_counter() - begin
                made = [values.dump(self.store, value)]
            elif returns == 0 and described is None:
                return wire.NONE, None, [], perf_counter() - begin
            else:
                found = results(value, returns, described, args, keywords, getattr(body, "__qualname__", "The task"))
                made = [values.dump(self.store, item) for item in found]
            return wire.MANY, made, made, perf_counter() - begin
        except BaseException as error:  # noqa: BLE001  (a user's SystemExit, too, is the task's own end)
            if isinstance(error, SystemExit | KeyboardInterrupt):
                error = TaskError(f"The task ended with {type(error).__name__}: {error}")
            elif not hasattr(error, "__notes__"):  # the function itself has not raised it
                name = f"{getattr(body, '__module__', '')}.{getattr(body, '__qualname__', '?')}"
                error.add_note(f"In task {name}: {_AROUND}")
            return wire.RAISED, portable(error), [], perf_counter() - begin

    def run_nested(self) -> bool:
        """Run one of the calls that have come while a task waits. False where there is none."""
        try:
            call = self._queue.popleft()
        except IndexError:
            return False
        if type(call) is int:
            return True
        depth = self.depth
        if call[-1] <= depth:
            # Sent before the program knew that this task waits: it could wait for this one in its turn.
            self.send((wire.BACK, [call[0]]))
            return True
        self.stacked += 1
        try:
            self._run(call)
        finally:
            self.depth = depth
            self.stacked -= 1
        return True

    def _acknowledged(self, count: int) -> None:
        order = self._own_order
        while order and order[0][0] <= count:
            self._own.pop(order.popleft()[1], None)

    # -- the line ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what results there are."""
        self._flushed = perf_counter()
        if self._results:
            with self._sending:
                # What the working thread adds meanwhile stays for the next time.
                ready = self._results[:]
                del self._results[: len(ready)]
                if ready:
                    _output()
                    self._line.sendall(wire.frame((wire.RESULTS, ready)))

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message, after what results there are."""
        self.flush()
        with self._sending:
            self._line.sendall(wire.frame(message))

    def give_back(self) -> None:
        """Give back what was not begun: another worker may take it."""
        back = []
        while True:
            try:
                call = self._queue.pop()
            except IndexError:
                break
            if type(call) is not int:
                back.append(call[0])
        if back:
            self.send((wire.BACK, back))

    def _listen(self) -> None:
        while True:
            try:
                ring = self._bell.recv(64)
            except OSError:
                return
            if not ring:
                return
            with suppress(OSError):
                # What lies in the line unread is queued too; while a task runs nobody else reads it.
                if self._reading.acquire(blocking=False):
                    try:
                        self._drain()
                    finally:
                        self._reading.release()
                self.flush()
                self.give_back()

    def _drain(self) -> None:
        while self._reader.receive(wait=False):
            pass
        while (message := self._reader.taken()) is not None:
            if message[0] == wire.RUN:
                self.take(message)
            else:
                self._put_by.append(message)  # for the working thread, when it looks


def _output() -> None:
    # What a task prints is seen no later than its result.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()


def _keep_freed_memory() -> None:
    # Else malloc gives back what two arrays of a few megabytes took, and the next task faults in fresh pages for its
    # own.
    if any(name.startswith("MALLOC_") for name in os.environ):
        return  # somebody has said how
    with suppress(AttributeError, OSError):  # another malloc than glibc's
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def main(line: socket.socket, bell: socket.socket, store: Store, number: int, settings: Settings) -> None:
    """The life of a worker process, after the fork. Does not return."""
    from isthmus.tasks.engines.processes.nested import Nested
    from isthmus.tasks.threading_limits import limit

    code = 0
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        limit(1)
        _keep_freed_memory()
        worker = Worker(line, bell, store.of_worker(number), number)

        def nested(program: Any) -> Any:
            worker.nested = Nested(program, worker)
            return worker.nested

        install(Program(unwatched(settings), nested))
        worker.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the program has gone
    except BaseException:  # noqa: BLE001  (it can be told to nobody but stderr)
        import traceback

        traceback.print_exc()
        code = 70
    finally:
        with suppress(Exception):
            _output()
        os._exit(code)
