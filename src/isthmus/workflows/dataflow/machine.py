"""The machine: one run of a graph. Events in, instructions out; no clock, no files, no waiting.

    begin(inputs)          ─►  Prepare, Start …
    prepared(task, …)      ─►  Start …
    done(task, outputs)    ─►  Prepare, Start …, at last Finish
    failed(task, why)      ─►

Each instruction names its task by an address that is the same in every run of the same graph with the same inputs:
``train[3]/fit``: the step `fit` of the graph that is the body of `train` at scatter position 3; ``#2`` is the third
round of a loop. What a run has done so far can therefore be told again to a new machine, in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.workflows.dataflow.gather import GatherError, gather
from isthmus.workflows.dataflow.graph import Feed, Graph, Source, Step
from isthmus.workflows.dataflow.scatter import Spread


@dataclass(frozen=True, slots=True)
class Prepare:
    """Ask the front end what the inputs of this task are, and whether it runs: answered by ``prepared``."""

    task: str
    step: Step
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """Run the body of a step that is not a graph: answered by ``done`` or ``failed``."""

    task: str
    step: Step
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over. ``failures``: task and why, in the order in which they came; outputs may then be null."""

    outputs: dict[str, Any]
    failures: tuple[tuple[str, str], ...] = ()


Instruction = Prepare | Start | Finish


@dataclass(slots=True)
class _Frame:
    """A graph that runs: which values are there, and which ports still wait."""

    graph: Graph
    address: str
    values: dict[Source, Any]
    waiting: dict[str, int]  # by step: sources that have no value yet
    readers: dict[Source, list[str]]  # which steps wait for a value; "" are the outputs
    outputs_wait: int
    steps_left: int
    has_sources: bool  # whether any output of the graph comes from somewhere
    owner: "_Task | None"  # the task whose body this is


@dataclass(slots=True)
class _Group:
    """One step of a frame that fired: its positions, and what they left."""

    frame: _Frame
    name: str
    step: Step
    spread: Spread | None
    left: int
    results: list[dict[str, Any] | None]


@dataclass(slots=True)
class _Task:
    """One position of a step that fired."""

    group: _Group
    position: int
    address: str
    inputs: dict[str, Any]
    round: int = 0
    rounds: list[dict[str, Any]] = field(default_factory=list)


class Machine:
    """See the module. ``stop_early``: after a failure nothing new is started; else what does not need it goes on."""

    def __init__(self, graph: Graph, *, stop_early: bool = True) -> None:
        self._graph = graph
        self._stop_early = stop_early
        self._open: dict[str, _Task] = {}  # what the driver was told to do and has not answered
        self._out: list[Instruction] = []
        self._failures: list[tuple[str, str]] = []
        self._outputs: dict[str, Any] | None = None
        self._finished = False

    @property
    def failing(self) -> bool:
        """Whether something failed and nothing new is started any more."""
        return bool(self._failures) and self._stop_early

    def begin(self, inputs: Mapping[str, Any]) -> list[Instruction]:
        """Start the run with these inputs of the graph; those not named are null."""
        self._enter(self._graph, "", inputs, None)
        return self._take()

    def prepared(self, task: str, inputs: dict[str, Any] | None) -> list[Instruction]:
        """The inputs of a task as the front end wants them; None: it is skipped."""
        found = self._open.pop(task)
        if inputs is None:
            self._not_run(found)
        else:
            self._run(found, inputs)
        return self._take()

    def done(self, task: str, outputs: dict[str, Any]) -> list[Instruction]:
        """A task has ended well."""
        self._ended(self._open.pop(task), outputs)
        return self._take()

    def failed(self, task: str, why: str) -> list[Instruction]:
        """A task has failed for good, or its preparation has."""
        self._open.pop(task)
        self._failures.append((task, why))
        return self._take()

    def dropped(self, task: str) -> list[Instruction]:
        """A task will not be run, because something else has failed."""
        self._open.pop(task)
        return self._take()

    # ---- frames

    def _enter(self, graph: Graph, address: str, inputs: Mapping[str, Any], owner: _Task | None) -> None:
        readers: dict[Source, list[str]] = {}
        waiting: dict[str, int] = {}
        for name, step in graph.steps.items():
            sources = _sources(step.inputs)
            waiting[name] = len(sources)
            for source in sources:
                readers.setdefault(source, []).append(name)
        wanted = _sources(graph.outputs)
        for source in wanted:
            readers.setdefault(source, []).append("")
        frame = _Frame(graph, address, {}, waiting, readers, len(wanted), len(graph.steps), bool(wanted), owner)
        fires = [name for name, count in waiting.items() if count == 0]
        for port in graph.inputs:
            fires += self._give(frame, Source("", port), inputs.get(port))
        for name in fires:
            self._fire(frame, name)
        self._close_if_over(frame)

    def _give(self, frame: _Frame, source: Source, value: Any) -> list[str]:
        """A value has come; the steps that can fire by it."""
        readers = frame.readers.pop(source, None)
        if readers is None:
            return []
        frame.values[source] = value
        fires = []
        for name in readers:
            if name == "":
                frame.outputs_wait -= 1
                continue
            frame.waiting[name] -= 1
            if frame.waiting[name] == 0:
                fires.append(name)
        return fires

    def _fire(self, frame: _Frame, name: str) -> None:
        step = frame.graph.steps[name]
        address = f"{frame.address}/{name}" if frame.address else name
        if self.failing:
            return
        try:
            inputs = {port: _gathered(frame, feed) for port, feed in step.inputs.items()}
            spread = Spread(step.scatter, inputs) if step.scatter else None
        except GatherError as error:
            self._failures.append((address, str(error)))
            return
        count = spread.count if spread else 1
        group = _Group(frame, name, step, spread, count, [None] * count)
        if count == 0:
            self._leave(group)
            return
        for position in range(count):
            at = f"{address}[{position}]" if spread else address
            self._ask(_Task(group, position, at, spread.inputs_at(position) if spread else inputs))

    def _ask(self, task: _Task) -> None:
        """Have a task prepared, or run it at once where nothing is to prepare."""
        if task.group.step.prepared:
            name = f"{task.address}#{task.round}" if task.group.step.loop else task.address
            self._open[name] = task
            self._out.append(Prepare(name, task.group.step, task.inputs))
        else:
            self._run(task, task.inputs)

    def _run(self, task: _Task, inputs: dict[str, Any]) -> None:
        step = task.group.step
        address = f"{task.address}#{task.round}" if step.loop else task.address
        task.inputs = inputs
        if self.failing:
            return
        if isinstance(step.body, Graph):
            self._enter(step.body, address, inputs, task)
        else:
            self._open[address] = task
            self._out.append(Start(address, step, inputs))

    def _not_run(self, task: _Task) -> None:
        step = task.group.step
        if step.loop is not None:
            self._loop_over(task)
        else:
            self._result(task, dict.fromkeys(step.outputs))

    def _ended(self, task: _Task, outputs: dict[str, Any]) -> None:
        loop = task.group.step.loop
        if loop is None:
            self._result(task, outputs)
            return
        if loop.keep_all:
            task.rounds.append(outputs)
        else:
            task.rounds = [outputs]
        task.round += 1
        inputs = dict(task.inputs)
        try:
            for port, feed in loop.feeds.items():
                inputs[port] = gather(feed, [outputs.get(source.port) for source in feed.sources])
        except GatherError as error:
            self._failures.append((task.address, str(error)))
            return
        task.inputs = inputs
        self._ask(task)

    def _loop_over(self, task: _Task) -> None:
        step = task.group.step
        assert step.loop is not None
        if step.loop.keep_all:
            self._result(task, {port: [each.get(port) for each in task.rounds] for port in step.outputs})
        else:
            last = task.rounds[-1] if task.rounds else {}
            self._result(task, {port: last.get(port) for port in step.outputs})

    def _result(self, task: _Task, outputs: dict[str, Any]) -> None:
        group = task.group
        group.results[task.position] = outputs
        group.left -= 1
        if group.left == 0:
            self._leave(group)

    def _leave(self, group: _Group) -> None:
        """Every position of a step is over: its outputs have values."""
        frame, step = group.frame, group.step
        fires = []
        for port in step.outputs:
            values = [result.get(port) if result else None for result in group.results]
            value = group.spread.shape(values) if group.spread else values[0]
            fires += self._give(frame, Source(group.name, port), value)
        frame.steps_left -= 1
        group.results = []
        for name in fires:
            self._fire(frame, name)
        self._close_if_over(frame)

    def _close_if_over(self, frame: _Frame) -> None:
        """A body is over when its outputs are there; one whose outputs come from nowhere, when its steps are over."""
        if frame.outputs_wait == 0 and (frame.has_sources or frame.steps_left == 0):
            self._close(frame)

    def _close(self, frame: _Frame) -> None:
        """A graph's outputs are all there."""
        if frame.outputs_wait < 0:
            return  # it was closed already: steps that no output needs end later
        frame.outputs_wait = -1
        try:
            outputs = {port: _gathered(frame, feed) for port, feed in frame.graph.outputs.items()}
        except GatherError as error:
            self._failures.append((frame.address or "the workflow", str(error)))
            return
        if frame.owner is None:
            self._outputs = outputs
        else:
            self._ended(frame.owner, outputs)

    def _take(self) -> list[Instruction]:
        """The instructions since the last time; the end, when nothing is open any more."""
        out, self._out = self._out, []
        if not out and not self._open and not self._finished:
            self._finished = True
            outputs = self._outputs
            if outputs is None:
                outputs = dict.fromkeys(self._graph.outputs)
                if not self._failures:
                    self._failures.append(("the workflow", "It can't go on: steps wait for each other in a circle."))
            out = [Finish(outputs, tuple(self._failures))]
        return out


def _sources(feeds: Mapping[str, Feed]) -> set[Source]:
    return {source for feed in feeds.values() for source in feed.sources}


def _gathered(frame: _Frame, feed: Feed) -> Any:
    return gather(feed, [frame.values.get(source) for source in feed.sources])
