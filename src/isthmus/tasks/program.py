"""The running program: it turns calls into the graph's tasks, hands those that are ready to the engine, and waits.

What the end of a task means is its `Outcomes`' affair. In a worker that runs a task there is a program of its own,
whose tasks go to the one that started the worker; so nested tasks have the same semantics, and only their calls travel.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.advice import Advice
from isthmus.tasks.binding import Binding, stands_elsewhere
from isthmus.tasks.calls import PLAIN, Encoding
from isthmus.tasks.checkpoint import Checkpoint
from isthmus.tasks.constraints import Unmet, units
from isthmus.tasks.declaration import Task, returns_of_call
from isthmus.tasks.engines.base import Engine
from isthmus.tasks.expressions import evaluate
from isthmus.tasks.files import Files
from isthmus.tasks.futures import Future
from isthmus.tasks.graph import WAITING, Datum, Graph, Node, Version
from isthmus.tasks.groups import Groups, Waiter
from isthmus.tasks.outcomes import Outcomes
from isthmus.tasks.settings import Settings
from isthmus.tasks.synchronised import data_in, synchronised
from isthmus.tasks.tracking import Tracker
from isthmus.tasks.watch import Watcher, watchers

if TYPE_CHECKING:
    from isthmus.tasks.jobs import Jobs

_POLL_EVERY = 255  # calls between two looks for results, less one: a mask
_POLL_OFTEN = 15  # of calls that take longer to make
_POLL_S = 0.001  # and where these take so long


class Program:
    """See the module. Its methods are for the thread that runs the program's own code, unless they say otherwise."""

    def __init__(self, settings: Settings, engine: Callable[["Program"], Engine]) -> None:
        self.settings = settings
        self.folder = os.getcwd()
        self.lock = threading.RLock()
        self.graph = Graph()
        self.tracker = Tracker()
        self.advice = Advice(self.tracker)
        self.submitted = itertools.count(1)
        self.watchers: list[Watcher] = watchers(settings)
        self.checkpoint: Checkpoint | None = None
        self.members: Any = None  # which tasks hold streams, once there are some
        self._files = Files(self.lock, self.graph)
        self.groups = Groups()
        self.jobs: Jobs | None = None  # those tasks that are jobs of the platform, once there are some
        self.outcomes = Outcomes(self)
        # The engine's way of telling how a task ended (locked).
        self.finished = self.outcomes.finished
        self.failed = self.outcomes.failed
        self._polled = 0.0
        self._closed = False
        self.engine = engine(self)
        if settings.checkpoint:
            self.checkpoint = Checkpoint(settings.checkpoint, self.engine)

    # -- calls -------------------------------------------------------------------------------------------------

    def call(self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Add a call to the graph. Gives None, a future, or a list of them. Blocks while too many tasks wait."""
        if self.engine.depth and not (task.options.nested or self.settings.nested):
            from isthmus.tasks.engines.sequential import Sequential

            return Sequential(self.settings).call(task, args, kwargs)
        shape = task._shape or task.shape
        if not shape.simple or kwargs or self.checkpoint is not None or not shape.required <= len(args) <= shape.most:
            return self._call(task, args, kwargs)
        refs: list[tuple[int, Any]] | None = None
        for place, value in enumerate(args):
            kind = type(value)
            if kind in PLAIN:
                continue
            if kind is not Future:
                return self._call(task, args, kwargs)
            if refs is None:
                refs = []
            refs.append((place, value))
        graph = self.graph
        with self.lock:
            node = graph.node(task, args)
            if refs is not None:
                plain = list(args)
                node.encoding = Encoding(
                    [(place, graph.read(node, datum)) for place, datum in refs],
                )
                for place, _ in refs:
                    plain[place] = None
                node.args = plain
            made = [Future(graph.result(node), self.engine.in_place) for _ in range(shape.returns)]  # type: ignore[arg-type]
            self._submit(node)
        if not next(self.submitted) & _POLL_EVERY:
            self.engine.poll()
        if self.outcomes.live > self.settings.pending:
            self._back_pressure()
        if len(made) == 1:
            made[0].unused = task
            return made[0]
        return made or None

    def _call(self, task: Task, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        from isthmus.tasks import special

        if special.wanted(task):
            task, args, kwargs, result = special.before(self, task, args, kwargs)
            if result is not special.NOTHING:
                return result
        kwargs, count = returns_of_call(task, kwargs)
        binding = Binding(self, task, args, kwargs)
        returns = _returns(task, binding, task.shape.returns if count is None else count)
        processors = 0 if task.is_job else 1
        if task.constraints and not task.is_job:
            try:
                processors = units(task, binding.names, self.engine.workers)
            except Unmet as unmet:
                task, processors = special.as_job(self, task, binding.names, unmet), 0
        if task.is_job and self.jobs is None:
            from isthmus.tasks.jobs import Jobs

            self.jobs = Jobs(self)
        binding.number()
        encoding = binding.encoding()
        graph, in_place = self.graph, self.engine.in_place
        with self.lock:
            node = graph.node(task, binding.args)
            node.encoding = encoding
            node.units = processors
            made = [Future(graph.result(node), in_place) for _ in range(returns)]
            binding.apply(node)
            if binding.streams:
                self.members.joined(node, binding.streams)
            kept = self.checkpoint.resume(node, binding.files) if self.checkpoint is not None else None
            if kept is not None:
                self.outcomes.begun(node)
                self.outcomes.left(node, kept)
            else:
                self._submit(node)
        for path in binding.finally_delete:
            self.delete_file(path)
        now = time.monotonic()
        if not next(self.submitted) & _POLL_OFTEN or now - self._polled > _POLL_S:
            self.engine.poll()
            self._polled = now
        if self.outcomes.live > self.settings.pending:
            self._back_pressure()
        if returns == 1:
            made[0].unused = task
            return made[0]
        return made or None

    def _submit(self, node: Node) -> None:
        self.outcomes.begun(node)
        if self.graph.add(node):
            self.run((node,))
        elif node.state == WAITING:
            self.engine.added(node)

    def run(self, nodes: Sequence[Node]) -> None:
        """These are ready: the engine runs them, or the platform does (locked)."""
        if self.jobs is not None:
            for node in nodes:
                if node.units == 0 and node.function.is_job:
                    self.jobs.start(node)
            nodes = [node for node in nodes if node.units or not node.function.is_job]
            if not nodes:
                return
        self.engine.ready(nodes)

    @property
    def live(self) -> int:
        """How many tasks have been called and have not ended."""
        return self.outcomes.live

    def _back_pressure(self) -> None:
        if self.engine.depth:  # a worker's own tasks must be able to go on
            return
        with self.lock:
            waiter = self.outcomes.room(self.engine.depth)
        if waiter is not None:
            self.engine.wait(waiter, None)

    # -- waiting -----------------------------------------------------------------------------------------------

    def value_of(self, datum: Datum, timeout_s: float | None = None) -> Any:
        """The value of a datum as its last writer leaves it. Blocks; raises what the writer raised."""
        version = self._await([datum], timeout_s)[0]
        return self._value(version)

    def _value(self, version: Version) -> Any:
        self._raise_error_of(version)
        return self.engine.get(version.value)

    def _raise_error_of(self, version: Version) -> None:
        if version.error is not None:
            with self.lock:
                self.outcomes.seen(version.error)
            raise version.error

    def _await(self, data: Sequence[Datum], timeout_s: float | None = None) -> list[Version]:
        with self.lock:
            versions = []
            waiter = None
            for datum in data:
                self.graph.close(datum)
                version = datum.version
                versions.append(version)
                if version.producer is not None:
                    if waiter is None:
                        waiter = Waiter(self.engine.depth)
                    waiter.waiting += 1
                    if version.waiters is None:
                        version.waiters = [waiter]
                    else:
                        version.waiters.append(waiter)
        if waiter is not None and not self.engine.wait(waiter, timeout_s):
            raise TimeoutError(f"The value is not there after {timeout_s} s.")
        return versions

    def wait_on(self, *values: Any) -> Any:
        """The values themselves, for the program's own code: futures, objects that tasks write, and lists of them.

        One argument gives its value, several a list. An object that tasks have changed is brought up to date in place
        where its type allows. Blocks; raises what a task raised.
        """
        self._await(data_in(values, self.tracker))
        given = [synchronised(value, self.tracker, self._value) for value in values]
        return given[0] if len(values) == 1 else given

    def barrier(self) -> None:
        """Block until every task so far has ended. Raises the first failure that nobody has seen."""
        self._wait_for_all()
        self.raise_unseen()

    def _wait_for_all(self) -> None:
        with self.lock:
            waiter = self.outcomes.all_ended(self.engine.depth)
        if waiter is not None:
            self.engine.wait(waiter, None)

    def raise_unseen(self) -> None:
        """Raise the first failure that nobody has seen yet."""
        self.outcomes.raise_unseen()

    # -- groups ------------------------------------------------------------------------------------------------

    def open_group(self, name: str) -> None:
        """Tasks from now on are in this group."""
        with self.lock:
            self.groups.begin(name)

    def close_group(self, name: str) -> None:
        """Tasks from now on are not in this group."""
        with self.lock:
            self.groups.end()

    def barrier_group(self, name: str) -> None:
        """Block until the group's tasks have ended.

        Raises the COMPSsException that cancelled it, or a task's failure.
        """
        group = self.groups.named(name)
        with self.lock:
            waiter = group.all_ended(self.engine.depth)
        if waiter is not None:
            self.engine.wait(waiter, None)
        if group.error is not None:
            error, group.error = group.error, None
            raise error

    def cancel_group(self, name: str) -> None:
        """Cancel the group's tasks: those that wait, and those that run."""
        group = self.groups.named(name)
        with self.lock:
            self.outcomes.cancel(list(group.nodes), kill=True, why=f"Its group {name!r} was cancelled.")

    def cancel(self, future: Future) -> bool:
        """Cancel the task that would leave this value, if it hasn't ended. Whether it was cancelled."""
        with self.lock:
            node = future.version.producer
            if node is None:
                return False
            self.outcomes.cancel([node], kill=True)
            return future.version.producer is None

    # -- files and objects -------------------------------------------------------------------------------------

    def datum_of(self, value: Any) -> Datum:
        """The datum that an object stands for; new where it stood for none."""
        datum = self.tracker.find(value)
        if datum is None:
            stored = self.engine.put(value)  # waits for futures that stand in the object: not while locked
            with self.lock:
                in_place = self.engine.in_place or stands_elsewhere(value)
                datum = Datum(self.graph.version(value=stored), in_place)
                self.tracker.track(value, datum)
        return datum

    def file(self, path: str) -> Datum:
        """The datum of a file or folder."""
        return self._files.datum(path)

    def wait_file(self, *paths: Any) -> None:
        """Block until the files are as their last writers leave them."""
        for version in self._await(self._files.known(paths)):
            self._raise_error_of(version)

    def open(self, path: Any, mode: str = "r") -> Any:
        """The file, opened, once its last writer has ended; to write it, once its readers have too."""
        if set(mode) & set("wax+"):
            self._settle_file(path)
        else:
            self.wait_file(path)
        return open(path, mode)

    def file_exists(self, path: Any) -> bool:
        """Whether the file will be there: it is, or a task will write it."""
        return self._files.is_awaited(path) or os.path.exists(path)

    def _settle_file(self, path: Any) -> None:
        """Block until nobody reads or writes the file."""
        self.wait_file(path)
        waiter = self._files.readers_left(path, self.engine.depth)
        if waiter is not None:
            self.engine.wait(waiter, None)

    def delete_file(self, path: Any) -> bool:
        """Delete the file or folder once no task needs it. Blocks no more than the tasks before it need."""
        if self._files.is_busy(path):
            self._settle_file(path)
        self._files.delete(path)
        return True

    def delete_object(self, value: Any) -> bool:
        """The program won't use the object again: its values go when the tasks that read them have ended."""
        if type(value) is list:
            for item in value:
                if type(item) not in PLAIN:
                    self.delete_object(item)
        with self.lock:
            if type(value) is Future:
                value.unused = None
                return True
            return self.tracker.forget(value) is not None

    # -- the whole ---------------------------------------------------------------------------------------------

    def limit_time(self, seconds: float) -> None:
        """Cancel what is left, and what runs, when so many seconds are over."""

        def over() -> None:
            with self.lock:
                self.outcomes.cancel(
                    self.engine.nodes(), kill=True, why=f"The wall clock limit of {seconds:g} s is over."
                )

        timer = threading.Timer(seconds, over)
        timer.daemon = True
        timer.start()

    @property
    def has_jobs(self) -> bool:
        """Whether some of its tasks have become jobs of the platform."""
        return self.jobs is not None

    def resize(self, more: int) -> None:
        """Take so many more workers, or fewer; at least one stays. Raises Invalid where the engine can't."""
        change = getattr(self.engine, "resize", None)
        if change is None:
            raise Invalid(f"The engine {self.engine.name!r} has a fixed number of workers.")
        with self.lock:
            change(max(1, self.engine.workers + more))

    def snapshot(self) -> None:
        """Write down the results of all that has ended, if checkpoints are kept. Blocks until every task has ended."""
        self.barrier()
        if self.checkpoint is not None:
            self.checkpoint.flush()

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self, *, kill: bool = False) -> None:
        """Wait for all tasks (unless `kill`), and stop the workers. May be called again."""
        if self._closed:
            return
        try:
            if not kill:
                if self.members is not None:
                    self.members.last_call()
                self._wait_for_all()
                self.advice.close()
        finally:
            self._closed = True
            if self.jobs is not None:
                self.jobs.close()
            self.engine.close(kill=kill)
            for watcher in self.watchers:
                watcher.close()


def _returns(task: Task, binding: Binding, count: int | str) -> int:
    """How many values this call gives, where that depends on it."""
    if isinstance(count, int):
        return count
    value = evaluate(count, binding.names, task.function.__globals__)
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or value < 0:
        raise Invalid(
            f"returns={count!r} of {task.name} names no argument and no global that is a whole number.",
            hint=nearest(count, [*task.shape.names]),
        )
    return value
