"""Ray: for many machines, with an engine that exists. `pip install ray`; on this machine it is started, or joined by
address.

A call is one remote call of Ray, whose first result says how it ended; values are Ray's objects, and stay where they
were made. A task whose inputs are being made is handed to Ray at once, which waits for them; where one of them fails
it says so and is called again if its input is. Tasks that a task calls run where it runs, one after another.

Ends are told by Ray's own thread, which must not wait for the program's lock: who holds that may be waiting for Ray's
thread. So a thread of ours takes them, as many at once as there are.
"""

import copy
import pickle
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.tasks.calls import PLAIN, Encoding, arguments, fill, results
from isthmus.tasks.declaration import RETRY
from isthmus.tasks.engines.pilot import Pilots, have_token
from isthmus.tasks.failures import TaskError, TaskTimedOut, WorkerLost, brought, noted, portable
from isthmus.tasks.functions import body_of
from isthmus.tasks.futures import Future
from isthmus.tasks.graph import DONE, READY, SENT, WAITING, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.settings import Settings, processors

# How a call ended: bytes, as nothing costs Ray less. Then the seconds that it took, or the pickled exception.
_OK, _RAISED, _SKIPPED = b"+", b"-", b"."
_SECONDS = struct.Struct("d")
_SMALL = 32 * 1024
# Ends that are taken while the program waits for its lock.
_AT_ONCE = 256


class Failed:
    """Stands in the place of a value that a task did not leave."""


class Plain:
    """A value that the program holds itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def run(task: Any, sent: bytes, *given: Any) -> Any:
    """A call, where Ray runs it: how it ended, then the values of its outputs.

    `sent` says what is called; the first of `given` are inputs, the rest packed arguments.
    """
    from isthmus.tasks.current import install, running
    from isthmus.tasks.engines.sequential import Sequential

    begin = time.perf_counter()
    if running() is None:
        install(Sequential(Settings(engine="sequential")))
    returns, count, args, encoding = pickle.loads(sent)
    nothing = [Failed()] * count
    if any(type(value) is Failed for value in given):
        return (_SKIPPED, *nothing)
    filled: Sequence[Any] = args
    keywords: dict[str, Any] = {}
    try:
        body = body_of(task)
        described = None
        inputs = [_own(value) for value in given]
        if encoding is not None:
            described = Encoding(*encoding)
            filled, keywords = arguments(args, described, inputs, lambda packed: _unpacked(packed, inputs))
        value = body(*filled, **keywords)
        values = results(value, returns, described, filled, keywords, task.name)
    except BaseException as error:  # noqa: BLE001  (a task's SystemExit is the task's own end)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            error = TaskError(f"The task ended with {type(error).__name__}: {error}")
        said = _RAISED + portable(noted(error, task.name, filled, keywords))
        return (said, *nothing) if count else said
    ended = _OK + _SECONDS.pack(time.perf_counter() - begin)
    return (ended, *values) if count else ended


def _runs(task: Any) -> Callable[..., Any]:
    """What Ray runs for calls of this task."""

    def call(*sent: Any) -> Any:
        return run(task, *sent)

    return call


def _own(value: Any) -> Any:
    """Ray's arrays are read-only views of its store; a task may change what it is given, and what stands in it."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if _is_array(value):
        return value if value.flags.writeable else value.copy()
    if kind is list or kind is tuple:
        return kind(_own(item) for item in value)
    if kind is dict:
        return {key: _own(item) for key, item in value.items()}
    return copy.deepcopy(value) if _holds_views(value, set()) else value


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "flags")


def _holds_views(value: Any, seen: set[int]) -> bool:
    """Whether an array that can't be written stands somewhere in it, as far as attributes and containers show."""
    kind = type(value)
    if kind in PLAIN or id(value) in seen:
        return False
    if _is_array(value):
        return not value.flags.writeable
    seen.add(id(value))
    if kind is list or kind is tuple:
        return any(_holds_views(item, seen) for item in value)
    parts = value if kind is dict else getattr(value, "__dict__", None)
    return isinstance(parts, dict) and any(_holds_views(item, seen) for item in parts.values())


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
        if settings.site:
            joined: Any = sys.modules.get("ray")
            if joined is not None and joined.is_initialized():
                raise Invalid(
                    "This process has joined a Ray cluster already, whose nodes are no jobs of a site.",
                    place="site",
                    hint="Start the program's tasks before it joins one.",
                )
            have_token()
        try:
            import ray
        except ImportError:
            raise Invalid("The engine 'ray' needs Ray.", hint="pip install ray") from None
        self._ray: Any = ray  # typed or not, as Ray is installed or not
        self._program = program
        self._settings = settings
        self.workers = settings.workers or processors()
        self._sent: dict[Node, Any] = {}
        self._remotes: dict[tuple[int, int, int, int], Any] = {}
        self._ends: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._owns = False
        self._pilots: Pilots | None = None
        self._broken: BaseException | None = None  # why nothing can run any more

    def start(self) -> None:
        import logging
        import os

        ray = self._ray
        os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")  # it would say that nodes are wanted, which are on their way
        if not ray.is_initialized():
            options: dict[str, Any] = {"logging_level": logging.ERROR, "include_dashboard": False}
            if self._settings.address:
                options = {"address": self._settings.address, "logging_level": logging.ERROR}
            else:
                options["address"] = "local"  # else Ray joins whatever cluster it finds on this machine
                options["num_cpus"] = 0 if self._settings.site else self.workers
            with suppress(KeyError):
                options["runtime_env"] = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
            ray.init(**options)
            self._owns = True
        # A future within an object is its value there. (One that is an argument, or in a list, never comes so far.)
        ray.util.register_serializer(Future, serializer=Future.result, deserializer=_itself)
        if self._settings.site:
            self._pilots = Pilots(
                ray.get_runtime_context().gcs_address,
                site=self._settings.site,
                ray=self._settings.ray,
                cpus=self._settings.workers or 1,
                lost=self._gone,
            )
            self._pilots.resize(self._settings.nodes)
            self.workers = self._settings.nodes * (self._settings.workers or 1)
        else:
            self.workers = int(ray.cluster_resources().get("CPU", self.workers))
        threading.Thread(target=self._pump, name="isthmus-ray", daemon=True).start()

    def resize(self, workers: int) -> None:
        """Have so many processors, in whole nodes (locked). Blocks nobody: nodes come when their jobs run.

        Raises Invalid where the cluster is not this program's.
        """
        if self._pilots is None:
            raise Invalid(
                "This Ray cluster is not grown and shrunk by the program.",
                hint="ISTHMUS_TASKS_SITE=NAME starts its nodes as jobs of that site.",
            )
        cpus = self._settings.workers or 1
        nodes = max(1, -(-workers // cpus))
        self.workers = nodes * cpus
        self._broken = None
        threading.Thread(target=self._have_nodes, args=(nodes,), name="isthmus-nodes", daemon=True).start()

    def _have_nodes(self, nodes: int) -> None:
        assert self._pilots is not None
        try:
            self._pilots.resize(nodes)
        except IsthmusError as error:
            if not self._pilots.jobs:
                self._gone(error)
            else:
                print(f"isthmus: the number of nodes could not be changed: {error}", file=sys.stderr, flush=True)

    def _gone(self, why: BaseException) -> None:
        with self._program.lock:
            self._broken = why
            for node in list(self._sent):
                self._sent.pop(node, None)
                node.sent_to = None
                self._program.failed(node, why, retry=False)

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
        if self._broken is not None:
            self._program.failed(node, self._broken, retry=False)
            return
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
        again = _again(node)
        remote = self._remote(task, len(outputs), node.units, again)
        made = remote.remote(pickle.dumps((returns, len(outputs), node.args, sent), 5), *given)
        end, *values = made if outputs else [made]
        for version, value in zip(outputs, values, strict=True):
            version.value = value
        node.state = SENT
        node.sent_to = end
        self._sent[node] = end
        end.future().add_done_callback(partial(self._tell, node, end, values))
        limit = task.options.time_out
        if limit:
            timer = threading.Timer(limit, self._late, (node, end, limit))
            timer.daemon = True
            timer.start()

    def _remote(self, task: Any, outputs: int, units: int, again: int) -> Any:
        remote = self._remotes.get((task.number, outputs, units, again))
        if remote is None:
            # A remote function for each task: Ray sends it to a worker once, not with each call.
            options = self._ray.remote(_runs(task)).options
            remote = options(num_returns=1 + outputs, num_cpus=units, max_retries=again, name=task.name)
            self._remotes[task.number, outputs, units, again] = remote
        return remote

    def _held(self, value: Any) -> Any:
        return value.value if type(value) is Plain else value

    def _tell(self, node: Node, end: Any, values: Sequence[Any], future: Any) -> None:
        self._ends.put((node, end, values, future))

    def _pump(self) -> None:
        while True:
            ended = [self._ends.get()]
            with suppress(queue.Empty):
                while len(ended) < _AT_ONCE:
                    ended.append(self._ends.get_nowait())
            with self._program.lock:
                for one in ended:
                    if one is None:
                        return
                    self._ended(*one)

    def _ended(self, node: Node, end: Any, values: Sequence[Any], future: Any) -> None:
        if node.sent_to is not end:
            return
        self._sent.pop(node, None)
        node.sent_to = None
        if node.state >= DONE:
            return
        error = future.exception()
        said = b"" if error is not None else future.result()
        if error is not None:
            node.attempts += _again(node)
            self._program.failed(node, WorkerLost(f"The worker that ran {node.function.name} was lost: {error}"))
        elif said[:1] == _OK:
            self._program.finished(node, values, _SECONDS.unpack(said[1:])[0])
        elif said[:1] == _RAISED:
            self._program.failed(node, brought(said[1:]))
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
        size = getattr(value, "nbytes", 0)
        if not isinstance(size, int) or size <= _SMALL:  # a class of arrays has no size, and small ones do
            data = self._ray.cloudpickle.dumps(value, 5)
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
        self._ends.put(None)
        if kill and not self._owns:
            for end in list(self._sent.values()):
                self._ray.cancel(end, force=True)
        if self._pilots is not None:
            self._pilots.close()
        if self._owns:
            self._ray.shutdown()


def _again(node: Node) -> int:
    """How often Ray itself runs the call again: where its worker dies, or what it left is lost with a machine.

    Never where it writes files, which a second run would find changed; there the policy alone decides.
    """
    options, encoding = node.function.options, node.encoding
    if options.on_failure != RETRY or any(
        where is None for where, _ in (encoding.outs if encoding is not None else ())
    ):
        return 0
    return int(options.retries)


def _itself(value: Any) -> Any:
    return value
