"""The engine of a program whose tasks agents run: each ready call goes to one agent, which runs it or gives it on.

A call is one request that is answered when the task has ended, so an agent that is lost is noticed when its line
breaks. Then the task is sent again, for the program's own agent alone knows where it had gone.
"""

import asyncio
import hashlib
import pickle
import threading
from collections.abc import Sequence
from typing import Any

from isthmus.domain.errors import Invalid, Unavailable
from isthmus.tasks.agents import calls
from isthmus.tasks.agents.line import Line
from isthmus.tasks.calls import fill
from isthmus.tasks.directions import DIRECTORY, FILE, FILE_COLLECTION
from isthmus.tasks.failures import TaskTimedOut, WorkerLost
from isthmus.tasks.graph import DONE, SENT, Node
from isthmus.tasks.groups import Waiter
from isthmus.tasks.settings import Settings

_AT_ONCE = 256  # requests on their way
_ANY = 1 << 16  # how many workers a task may take: the agents know how many there are, and that changes


class AgentEngine:
    """See the module. Implements `Engine`."""

    name = "agent"
    in_place = False
    depth = 0

    def __init__(self, program: Any, settings: Settings) -> None:
        if not settings.address:
            raise Invalid(
                "The engine 'agent' needs the address of one.",
                place="ISTHMUS_TASKS_ADDRESS",
                hint="Such as https://edge-1:8090; its token in ISTHMUS_AGENT_TOKEN.",
            )
        self._program = program
        self._settings = settings
        self.workers = _ANY
        self._sent: dict[Node, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="isthmus-agent", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._line = Line.of_environment(self._settings.address)
        self._free = asyncio.Semaphore(_AT_ONCE)
        asyncio.run_coroutine_threadsafe(self._line.status(), self._loop).result()

    def nodes(self) -> list[Node]:
        """The tasks that the agent has."""
        return list(self._sent)

    def pids(self) -> list[int]:
        """The agents' own affair."""
        return []

    def ready(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            task = node.function
            encoding = node.encoding
            outputs = len(node.outputs or ())
            returns = outputs - (len(encoding.outs) if encoding is not None else 0)
            sent = None
            if encoding is not None:
                sent = (encoding.refs, list(encoding.packed), encoding.outs, encoding.keywords)
            inputs = [version.value if version.value is not None else _NOTHING for version in node.inputs or ()]
            # Paths are of this machine: a task that uses files stays at its own agent.
            stays = any(how.kind in (FILE, DIRECTORY, FILE_COLLECTION) for how in task.shape.parameters.values())
            piece = calls.call(task, node.args, sent, returns, inputs)
            node.state = SENT
            token = self._sent[node] = node.sent_to = object()
            work = self._send(node, token, piece, task.name, node.units, stays)
            asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _send(self, node: Node, token: Any, piece: bytes, name: str, units: int, stays: bool) -> None:
        limit = node.function.options.time_out or None
        error: BaseException | None = None
        values: list[bytes] = []
        try:
            async with self._free, asyncio.timeout(limit):
                how, what = pickle.loads(await self._line.task(piece, name, units, stays=stays))
            if how == calls.OK:
                values = what
            else:
                error = pickle.loads(what)
        except TimeoutError:
            error = TaskTimedOut(f"{name} ran longer than its time_out of {limit:g} s.")
        except Unavailable as trouble:
            error = WorkerLost(f"The agent at {self._settings.address} is lost: {trouble.message}")
        except Exception as trouble:  # noqa: BLE001  (else the program would wait for ever)
            error = trouble
        with self._program.lock:
            if self._sent.get(node) is not token:
                return
            self._sent.pop(node)
            node.sent_to = None
            if node.state >= DONE:
                return
            if error is None:
                self._program.finished(node, values, 0.0)
            else:
                self._program.failed(node, error, retry=not isinstance(error, Invalid))

    def added(self, node: Node) -> None:
        """It waits for its inputs."""

    def poll(self) -> None:
        """Results come by themselves."""

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return waiter.block(timeout_s)

    def pack(self, value: Any) -> Any:
        return calls.packed(value)

    def put(self, value: Any) -> Any:
        return calls.packed(value)

    def get(self, stored: Any) -> Any:
        return None if stored is None else pickle.loads(stored)

    def unpack(self, packed: Any, inputs: Sequence[Any]) -> Any:
        return fill(pickle.loads(packed), inputs)

    def digest(self, stored: Any) -> bytes:
        return hashlib.sha256(stored).digest()

    def cancel(self, node: Node, *, kill: bool) -> bool:
        if node not in self._sent:
            return True
        if kill:
            self._sent.pop(node)  # what it leaves is nobody's
        return kill

    def close(self, *, kill: bool) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._line.close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


_NOTHING = pickle.dumps(None)
