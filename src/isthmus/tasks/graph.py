"""The graph of tasks: accesses with directions in, ready tasks out. No I/O, no threads, no clock.

A *datum* is one thing that tasks read and write: a returned value, an object, a file. Each write makes a new *version*
of it, so that a reader of an old version is not disturbed by the writer of the next; what is changed in place (a file,
an object that threads share) has one version at a time, and its writer waits for its readers.

    Node ──inputs──> Version <──version── Datum
      └───outputs──> Version ──waiters──> Node

Who holds the program's lock may call; nothing here blocks. Values are the engine's own affair: the graph keeps them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

WAITING, READY, SENT, DONE, FAILED = range(5)


class Waiting(Protocol):
    """What can wait for versions: a task, or somebody in `wait_on`."""

    waiting: int


class Version:
    """One value of a datum. It is there when `producer` is None; then `error` or `value` says what it is."""

    __slots__ = ("error", "id", "producer", "value", "waiters")

    def __init__(self, id: int, producer: "Node | None" = None, value: Any = None) -> None:
        self.id = id
        self.producer = producer
        self.value = value
        self.error: BaseException | None = None
        self.waiters: list[Any] | None = None


class Datum:
    """One thing that tasks read and write, at its latest version."""

    __slots__ = ("commuting", "in_place", "readers", "unused", "version")

    def __init__(self, version: Version, in_place: bool = False) -> None:
        self.version = version
        self.in_place = in_place
        self.readers: list[Node] | None = None
        self.commuting: Commuting | None = None
        self.unused: Any = None  # the task whose only result it is, as long as nobody has looked at it


class Commuting:
    """Tasks that may change a datum in any order: one at a time, or (not `exclusive`) side by side.

    `latest` is the datum's value between two of them.
    """

    __slots__ = ("busy", "exclusive", "final", "latest", "members", "open", "queue")

    def __init__(self, base: Version, final: Version, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.latest = base
        self.final = final
        self.busy: Node | None = None
        self.queue: list[Node] = []
        self.members = 0
        self.open = True


class Node:
    """One call of a task."""

    __slots__ = (
        "after",
        "args",
        "attempts",
        "commutes",
        "depth",
        "encoding",
        "function",
        "group",
        "id",
        "inputs",
        "key",
        "outputs",
        "sent_to",
        "state",
        "units",
        "waiting",
    )

    def __init__(self, id: int, function: Any, args: Any) -> None:
        self.id = id
        self.function = function
        self.args = args
        self.encoding: Any = None  # how the arguments are put together; the engine's
        self.inputs: list[Version] | None = None
        self.outputs: list[Version] | None = None
        self.after: list[Node] | None = None  # those that must only follow: they change in place what this one reads
        self.commutes: list[tuple[Commuting, int, int]] | None = None  # with its places in inputs and outputs
        self.waiting = 0
        self.state = WAITING
        self.attempts = 0
        self.depth = 0
        self.units = 1  # processors that it takes
        self.group: Any = None
        self.key: str | None = None
        self.sent_to: Any = None  # the worker that has it


class Graph:
    """Finds dependencies from accesses, and says which tasks became ready."""

    def __init__(self) -> None:
        self._next_version = 0
        self._next_node = 0

    def version(self, producer: Node | None = None, value: Any = None) -> Version:
        """A new version, with an id that no other has."""
        self._next_version += 1
        return Version(self._next_version, producer, value)

    def node(self, function: Any, args: Any) -> Node:
        """A new call; `add` it once its accesses are known."""
        self._next_node += 1
        return Node(self._next_node, function, args)

    def result(self, node: Node) -> Version:
        """A version that the task makes from nothing: something that it returns."""
        made = self.version(node)
        if node.outputs is None:
            node.outputs = [made]
        else:
            node.outputs.append(made)
        return made

    def read(self, node: Node, datum: Datum) -> int:
        """The task reads the datum as it is now. Returns the place in `node.inputs`."""
        datum.unused = None
        self._close(datum)
        version = datum.version
        self._await(node, version)
        if datum.in_place:
            if datum.readers is None:
                datum.readers = []
            elif len(datum.readers) > 64:
                datum.readers = [reader for reader in datum.readers if reader.state < DONE]
            datum.readers.append(node)
        return self._input(node, version)

    def write(self, node: Node, datum: Datum, *, reads: bool) -> int:
        """The task makes the next version; with `reads` from the one before.

        Returns the place in `node.inputs`, or -1.
        """
        datum.unused = None
        self._close(datum)
        before = datum.version
        place = -1
        if reads or datum.in_place:
            self._await(node, before)
        if reads:
            place = self._input(node, before)
        if datum.in_place:
            self._follow(node, datum.readers)
            datum.readers = None
        datum.version = self.result(node)
        return place

    def commute(self, node: Node, datum: Datum, *, exclusive: bool = True) -> int:
        """The task changes the datum in any order with others that do. Returns the place in `node.inputs`."""
        datum.unused = None
        group = datum.commuting
        if group is not None and group.exclusive != exclusive:
            self._close(datum)
            group = None
        if group is None or not group.open:
            base = datum.version
            group = datum.commuting = Commuting(base, self.version(), exclusive)
            datum.version = group.final
            if datum.in_place:
                self._follow(node, datum.readers)
                datum.readers = None
        # Each member is a producer of the last version; the first stands for all until the group is done.
        if group.final.producer is None:
            group.final.producer = node
        group.members += 1
        self._await(node, group.latest)
        place = self._input(node, group.latest)
        made = self.result(node)
        assert node.outputs is not None
        if node.commutes is None:
            node.commutes = []
        node.commutes.append((group, place, len(node.outputs) - 1))
        made.waiters = None
        return place

    def add(self, node: Node) -> bool:
        """All accesses are known. Whether the task is ready to run now."""
        return node.waiting == 0 and self._take(node)

    def finish(self, node: Node, values: Sequence[Any]) -> list[Any]:
        """The task has left these values, one an output. Returns what became ready."""
        node.state = DONE
        ready: list[Any] = []
        if node.outputs is not None:
            for version, value in zip(node.outputs, values, strict=True):
                version.value = value
                self._there(version, ready)
        self._leave(node, ready)
        return ready

    def fail(self, node: Node, error: BaseException, blame: Any) -> tuple[list[Any], list[Node]]:
        """The task will leave nothing. Returns what became ready, and the tasks that can never run for it.

        `blame(node, error)` makes the error of a task that needed what failed.
        """
        ready: list[Any] = []
        lost: list[Node] = []
        stack = [(node, error)]
        while stack:
            failed, why = stack.pop()
            if failed.state >= DONE:
                continue
            failed.state = FAILED
            if failed is not node:
                lost.append(failed)
            for version in failed.outputs or ():
                version.error = why
                woken: list[Any] = []
                self._there(version, woken, pending=stack, why=lambda n: blame(n, error))
                ready += woken
            self._leave(failed, ready)
        return [one for one in ready if type(one) is not Node or one.state < DONE], lost

    def close(self, datum: Datum) -> None:
        """No more tasks commute on it: its last version comes when those that do have ended. It is waited for."""
        datum.unused = None
        self._close(datum)

    # -- inside ------------------------------------------------------------------------------------------------

    def _await(self, node: Node, version: Version) -> None:
        if version.producer is not None:
            if version.waiters is None:
                version.waiters = [node]
            else:
                version.waiters.append(node)
            node.waiting += 1

    def _input(self, node: Node, version: Version) -> int:
        if node.inputs is None:
            node.inputs = [version]
        else:
            node.inputs.append(version)
        return len(node.inputs) - 1

    def _follow(self, node: Node, readers: Iterable[Node] | None) -> None:
        for reader in readers or ():
            if reader.state < DONE and reader is not node:
                if reader.after is None:
                    reader.after = []
                reader.after.append(node)
                node.waiting += 1

    def _there(self, version: Version, ready: list[Any], *, pending: Any = None, why: Any = None) -> None:
        version.producer = None
        waiters, version.waiters = version.waiters, None
        if waiters is None:
            return
        for waiter in waiters:
            waiter.waiting -= 1
            if pending is not None and type(waiter) is Node:
                pending.append((waiter, why(waiter)))
            elif waiter.waiting == 0 and (type(waiter) is not Node or self._take(waiter)):
                ready.append(waiter)

    def _take(self, node: Node) -> bool:
        """Ready, unless what it commutes on is another's just now."""
        if node.state >= DONE:
            return False
        if node.commutes is not None:
            for group, _, _ in node.commutes:
                if group.exclusive and group.busy is not None and group.busy is not node:
                    group.queue.append(node)
                    return False
            assert node.inputs is not None
            for group, place, _ in node.commutes:
                if group.exclusive:
                    group.busy = node
                node.inputs[place] = group.latest
        node.state = READY
        return True

    def _leave(self, node: Node, ready: list[Any]) -> None:
        """What the end of a task sets free, besides what it made."""
        after, node.after = node.after, None
        for follower in after or ():
            follower.waiting -= 1
            if follower.waiting == 0 and self._take(follower):
                ready.append(follower)
        commutes, node.commutes = node.commutes, None
        for group, _, place in commutes or ():
            assert node.outputs is not None
            group.members -= 1
            if node.state == DONE:
                group.latest = node.outputs[place]
            if group.busy is node:
                group.busy = None
            if not group.open and group.members == 0:
                self._settle(group, ready)
            else:
                self._next(group, ready)
        node.inputs = None

    def _next(self, group: Commuting, ready: list[Any]) -> None:
        while group.busy is None and group.queue:
            candidate = group.queue.pop(0)
            if candidate.state == WAITING and self._take(candidate):
                ready.append(candidate)

    def _settle(self, group: Commuting, ready: list[Any]) -> None:
        final = group.final
        final.value, final.error = group.latest.value, group.latest.error
        self._there(final, ready)

    def _close(self, datum: Datum) -> None:
        group = datum.commuting
        if group is None:
            return
        datum.commuting = None
        group.open = False
        if group.members == 0:
            self._settle(group, [])
