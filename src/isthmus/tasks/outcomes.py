"""How tasks end, and what that means: for what waits for them, for their group, and by their failure policy.

The engine says `finished` or `failed`; the program says `begun` and `cancel`. All of it is called while the program's
lock is held, but for `raise_unseen`.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from isthmus.tasks.calls import Encoding
from isthmus.tasks.checkpoint import copy_whole
from isthmus.tasks.declaration import CANCEL_SUCCESSORS, FAIL, IGNORE, RETRY, Task
from isthmus.tasks.failures import COMPSsException, TaskCancelled
from isthmus.tasks.graph import DONE, READY, Node
from isthmus.tasks.groups import Waiter

if TYPE_CHECKING:
    from isthmus.tasks.program import Program


class Outcomes:
    """Those of a program's tasks."""

    def __init__(self, program: "Program") -> None:
        self._program = program
        self._graph = program.graph
        self._watchers = program.watchers
        self.live = 0  # tasks that have begun and have not ended
        self._enough = program.settings.pending * 0.9
        self._idle: list[Waiter] = []
        self._room: Waiter | None = None
        self._unseen: list[BaseException] = []

    # -- tasks begin and end -----------------------------------------------------------------------------------

    def begun(self, node: Node) -> None:
        """The program has called the task."""
        self.live += 1
        program = self._program
        node.depth = program.engine.depth
        group = program.groups.open
        if group is not None:
            node.group = group
            group.add(node)
        for watcher in self._watchers:
            watcher.submitted(node)

    def finished(self, node: Node, values: Sequence[Any], seconds: float, where: int = 0) -> None:
        """The task has ended well on worker `where` and left these stored values."""
        task = node.function
        task.seconds = seconds if task.seconds < 0 else 0.8 * task.seconds + 0.2 * seconds
        if node.state >= DONE:
            return
        for version in node.inputs or ():
            if version.error is not None:
                self._lost(node, version.error)
                return
        if self._program.checkpoint is not None:
            self._program.checkpoint.keep(node, values)
        self.left(node, values, seconds, where)

    def left(self, node: Node, values: Sequence[Any], seconds: float = 0.0, where: int = -1) -> None:
        """These are the task's values, whether it ran or not."""
        self._ended(node, self._graph.finish(node, values), seconds, where)

    def failed(self, node: Node, error: BaseException, *, retry: bool = True) -> None:
        """The task has raised, or its worker died: its policy decides."""
        if node.state >= DONE:
            return
        options = node.function.options
        node.attempts += 1
        policy = options.on_failure
        if isinstance(error, COMPSsException) or not retry:
            policy = IGNORE if policy == IGNORE and not isinstance(error, COMPSsException) else FAIL
        if policy == RETRY and node.attempts <= options.retries:
            node.state = READY
            node.sent_to = None
            for watcher in self._watchers:
                watcher.retried(node)
            self._program.run((node,))
        elif policy == IGNORE:
            self.left(node, self._substitutes(node))
        elif policy == CANCEL_SUCCESSORS:
            _say(f"{node.function.name} failed, and what needs its results is cancelled: {_line(error)}")
            self._lost(node, TaskCancelled(f"{node.function.name} failed: {_line(error)}"))
        elif isinstance(error, COMPSsException) and node.group is not None:
            node.group.error = error
            self._lost(node, error)
            self.cancel(list(node.group.nodes))
        else:
            self._unseen.append(error)
            self._lost(node, error)
            if policy == FAIL:
                self.cancel([other for other in self._program.engine.nodes() if other.state < DONE])

    def cancel(self, nodes: Iterable[Node], *, kill: bool = False, why: str = "It was cancelled.") -> None:
        """End these without values; with `kill`, also those that run."""
        jobs = self._program.jobs
        for node in nodes:
            if jobs is not None and kill:
                jobs.cancel(node)
            if node.state < DONE and self._program.engine.cancel(node, kill=kill):
                self._lost(node, TaskCancelled(f"{node.function.name}: {why}"))

    # -- who waits ---------------------------------------------------------------------------------------------

    def all_ended(self, depth: int) -> Waiter | None:
        """Somebody who waits, at this depth of tasks, until all have ended; None where all have."""
        if not self.live:
            return None
        waiter = Waiter(depth)
        self._idle.append(waiter)
        return waiter

    def room(self, depth: int) -> Waiter | None:
        """Somebody who waits until fewer tasks are live than the settings allow; None where they are."""
        if self.live <= self._enough:
            return None
        self._room = Waiter(depth)
        return self._room

    # -- failures that nobody has seen -------------------------------------------------------------------------

    def seen(self, error: BaseException) -> None:
        """Somebody gets this failure now."""
        self._unseen = [other for other in self._unseen if other is not error]

    def raise_unseen(self) -> None:
        """Raise the first failure that nobody has seen yet. Takes the lock."""
        with self._program.lock:
            unseen, self._unseen = self._unseen, []
        if unseen:
            raise unseen[0]

    # -- inside ------------------------------------------------------------------------------------------------

    def _substitutes(self, node: Node) -> list[Any]:
        """By IGNORE: the declared defaults, what was there before, or None."""
        task: Task = node.function
        given = task.options.defaults
        put = self._program.engine.put
        values: list[Any] = []
        outputs, inputs = node.outputs or [], node.inputs or []
        encoding: Encoding | None = node.encoding
        outs = encoding.outs if encoding is not None else ()
        returned = len(outputs) - len(outs)
        usual = given.get("returns")
        for place in range(returned):
            value = (
                usual[place] if returned > 1 and isinstance(usual, list | tuple) and len(usual) == returned else usual
            )
            values.append(put(value))
        before = {where: inputs[index] for where, index in (encoding.refs if encoding is not None else ())}
        for where, path in outs:
            if where is None and path:
                if path[0] in given:
                    copy_whole(os.fspath(given[path[0]]), path[1])
                values.append(None)
                continue
            name = task.shape.names[where] if isinstance(where, int) and where < len(task.shape.names) else str(where)
            if name in given:
                values.append(put(given[name]))
            elif where in before and not path:
                values.append(before[where].value)
            else:
                values.append(put(None))
        return values

    def _lost(self, node: Node, error: BaseException) -> None:
        ready, lost = self._graph.fail(node, error, lambda _, cause: cause)
        for other in lost:
            self._program.engine.cancel(other, kill=False)
            self._end(other)
        self._ended(node, ready)

    def _ended(self, node: Node, ready: Iterable[Any], seconds: float = 0.0, where: int = -1) -> None:
        self._end(node, seconds, where)
        nodes: list[Node] | None = None
        for one in ready:
            if type(one) is Node:
                if nodes is None:
                    nodes = [one]
                else:
                    nodes.append(one)
            else:
                one.release()
        if nodes is not None:
            self._program.run(nodes)

    def _end(self, node: Node, seconds: float = 0.0, where: int = -1) -> None:
        self.live -= 1
        if node.group is not None:
            node.group.discard(node)
        for watcher in self._watchers:
            watcher.ended(node, seconds, where)
        node.args = node.encoding = None
        node.outputs = None
        if self._room is not None and self.live <= self._enough:
            room, self._room = self._room, None
            room.release()
        if self.live == 0 and self._idle:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.release()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _say(words: str) -> None:
    print(f"isthmus: {words}", file=sys.stderr, flush=True)
