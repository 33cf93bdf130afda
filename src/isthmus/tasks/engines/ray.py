"""Ray: for many machines, with an engine that exists. `pip install ray`; on this machine it is started, or joined by
address.

A call is one remote call of Ray, whose first result says how it ended; values are Ray's objects, and stay where they
were made. A task whose inputs are being made is handed to Ray at once, which waits for them; where one of them fails
it says so and is called again if its input is. Tasks that a task calls run where it runs, one after another.
"""

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from isthmus.domain.errors import Invalid
from isthmus.tasks.calls import PLAIN, Encoding, arguments, fill, results
from isthmus.tasks.failures import TaskError, TaskTimedOut, WorkerLost, noted
from isthmus.tasks.functions import body_of
from isthmus.tasks.graph import DONE, READY, SENT, WAITING, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.settings import Settings, processors

OK, RAISED, SKIPPED = range(3)
_SMALL = 32 * 1024


class Failed:
    """Stands in the place of a value that a task did not leave."""


class Plain:
    """A value that the program holds itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def run(task: Any, returns: int, args: Any, encoding: Any, count: int, *given: Any) -> Any:
    """A call, where Ray runs it: how it ended, then `count` values.

    The first of `given` are inputs, the rest packed.
    """
    from isthmus.tasks import program
    from isthmus.tasks.engines.sequential import Sequential

    begin = time.perf_counter()
    if program.running() is None:
        program.install(Sequential(Settings(engine="sequential")))
    nothing = [Failed()] * count
    if any(type(value) is Failed for value in given):
        return ((SKIPPED, b"", 0.0), *nothing) if count else (SKIPPED, b"", 0.0)
    body = body_of(task)
    filled: Sequence[Any] = args
    keywords: dict[str, Any] = {}
    try:
        described = None
        inputs = [_own(value) for value in given]
        if encoding is not None:
            described = Encoding(*encoding)
            filled, keywords = arguments(args, described, inputs, lambda packed: _unpacked(packed, inputs))
        value = body(*filled, **keywords)
        values = results(value, returns, described, filled, keywords, task.name)
    except BaseException as error:  # noqa: BLE001  (a task's SystemExit is the task's own end)
        from isthmus.tasks.engines.processes.worker import portable

        if isinstance(error, SystemExit | KeyboardInterrupt):
            error = TaskError(f"The task ended with {type(error).__name__}: {error}")
        said = (RAISED, portable(noted(error, task.name, filled, keywords)), 0.0)
        return (said, *nothing) if count else said
    ended = (OK, b"", time.perf_counter() - begin)
    return (ended, *values) if count else ended


def _runs(task: Any) -> Callable[..., Any]:
    """What Ray runs for calls of this task."""

    def call(*sent: Any) -> Any:
        return run(task, *sent)

    return call


def _own(value: Any) -> Any:
    """Ray's arrays are read-only views of its store; a task may change what it is given."""
    flags = getattr(value, "flags", None)
    if flags is not None and type(value).__module__ == "numpy" and not flags.writeable:
        return value.copy()
    return value


def _unpacked(packed: Any, inputs: Sequence[Any]) -> Any:
    kind, what = packed
    tree = pickle.loads(what) if kind == "bytes" else inputs[what]
    return fill(tree, inputs)


class RayEngine:
    """See the module. Implements `Engine`."""

    name = "ray"
    in_place = False
    depth = 0

    def __init__(self, program: Any, settings: Settings) -> None:
        try:
            import ray
        except ImportError:
            raise Invalid("The engine 'ray' needs Ray.", hint="pip install ray") from None
        self._ray = ray
        self._program = program
        self._settings = settings
        self.workers = settings.workers or processors()
        self._sent: dict[Node, Any] = {}
        self._remotes: dict[tuple[int, int, int], Any] = {}
        self._owns = False

    def start(self) -> None:
        import logging
        import os

        ray = self._ray
        if not ray.is_initialized():
            options: dict[str, Any] = {"logging_level": logging.ERROR, "include_dashboard": False}
            if self._settings.address:
                options = {"address": self._settings.address, "logging_level": logging.ERROR}
            else:
                options["num_cpus"] = self.workers
            with suppress(KeyError):
                options["runtime_env"] = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
            ray.init(**options)
            self._owns = True
        self.workers = int(ray.cluster_resources().get("CPU", self.workers))

    def nodes(self) -> list[Node]:
        """The tasks that Ray has."""
        return list(self._sent)

    def pids(self) -> list[int]:
        """Ray's own affair."""
        return []

    def ready(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if node.sent_to is None:
                self._send(node)

    def added(self, node: Node) -> None:
        """Its inputs are being made: Ray waits for them, if it has been told of all."""
        if node.commutes is not None or node.state != WAITING:
            return
        pending = 0
        for version in node.inputs or ():
            if version.producer is not None:
                if version.value is None or version.error is not None:
                    return
                pending += 1
        if pending == node.waiting:
            self._send(node)

    def _send(self, node: Node) -> None:
        task = node.function
        outputs, encoding = node.outputs or [], node.encoding
        given = [self._held(version.value) for version in node.inputs or ()]
        sent = None
        returns = len(outputs)
        if encoding is not None:
            returns -= len(encoding.outs)
            packed = []
            for where, (kind, what) in encoding.packed:
                if kind == "ref":
                    packed.append((where, ("input", len(given))))
                    given.append(what)
                else:
                    packed.append((where, (kind, what)))
            sent = (encoding.refs, packed, encoding.outs, encoding.keywords)
        remote = self._remote(task, len(outputs), node.units)
        made = remote.remote(returns, node.args, sent, len(outputs), *given)
        end, *values = made if outputs else [made]
        for version, value in zip(outputs, values, strict=True):
            version.value = value
        node.state = SENT
        node.sent_to = end
        self._sent[node] = end
        end.future().add_done_callback(lambda future: self._ended(node, end, values, future))
        limit = task.options.time_out
        if limit:
            timer = threading.Timer(limit, self._late, (node, end, limit))
            timer.daemon = True
            timer.start()

    def _remote(self, task: Any, outputs: int, units: int) -> Any:
        remote = self._remotes.get((task.number, outputs, units))
        if remote is None:
            # A remote function for each task: Ray sends it to a worker once, not with each call. What has failed is
            # called again by the policy, not by Ray.
            options = self._ray.remote(_runs(task)).options
            remote = options(num_returns=1 + outputs, num_cpus=units, max_retries=0, name=task.name)
            self._remotes[task.number, outputs, units] = remote
        return remote

    def _held(self, value: Any) -> Any:
        return value.value if type(value) is Plain else value

    def _ended(self, node: Node, end: Any, values: Sequence[Any], future: Any) -> None:
        error = future.exception()
        said = None if error is not None else future.result()
        with self._program.lock:
            if node.sent_to is not end:
                return
            self._sent.pop(node, None)
            node.sent_to = None
            if node.state >= DONE:
                return
            if said is None:
                self._program.failed(node, WorkerLost(f"The worker that ran {node.function.name} was lost: {error}"))
            elif said[0] == OK:
                self._program.finished(node, values, said[2])
            elif said[0] == RAISED:
                self._program.failed(node, pickle.loads(said[1]))
            elif node.waiting == 0:
                node.state = READY
                self._send(node)
            else:
                node.state = WAITING

    def _late(self, node: Node, end: Any, limit: float) -> None:
        with self._program.lock:
            if node.sent_to is not end or node.state >= DONE:
                return
            node.sent_to = None
            self._sent.pop(node, None)
            self._ray.cancel(end, force=True)
            self._program.failed(
                node, TaskTimedOut(f"{node.function.name} ran longer than its time_out of {limit:g} s.")
            )

    def poll(self) -> None:
        """Results come by themselves."""

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return waiter.block(timeout_s)

    def pack(self, value: Any) -> Any:
        import cloudpickle

        data = cloudpickle.dumps(value, 5)
        if len(data) <= _SMALL:
            return ("bytes", data)
        return ("ref", self._ray.put(value))

    def put(self, value: Any) -> Any:
        return Plain(value) if type(value) in PLAIN else self._ray.put(value)

    def get(self, stored: Any) -> Any:
        if stored is None:
            return None
        if type(stored) is Plain:
            return stored.value
        return _own(self._ray.get(stored))

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        kind, what = packed
        return fill(pickle.loads(what) if kind == "bytes" else self._ray.get(what), inputs)

    def digest(self, stored: Any) -> bytes:
        import hashlib

        if isinstance(stored, tuple):
            kind, what = stored
            return hashlib.sha256(what if kind == "bytes" else pickle.dumps(self._ray.get(what), 5)).digest()
        return hashlib.sha256(pickle.dumps(self.get(stored), 5)).digest()

    def cancel(self, node: Node, *, kill: bool) -> bool:
        end = self._sent.get(node)
        if end is not None and kill:
            self._ray.cancel(end, force=True)
        return True

    def close(self, *, kill: bool) -> None:
        if self._owns:
            self._ray.shutdown()
