"""Driving a run: instructions of the machine carried out, events told back, until the end.

machine ─► Prepare ─► program.prepare ─► machine
        ─► Start   ─► program.begin ─► outputs at once, or a run that waits for room ─► place ─► machine
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from isthmus.workflows.dataflow.machine import Finish, Instruction, Machine, Prepare, Start
from isthmus.workflows.program import Program, Run
from isthmus.workflows.work import Ended, StepFailed


class Places(Protocol):
    """Where runs go."""

    def take(self, task: str, run: Run) -> bool:
        """Keep room for it, if it may start now. Raises StepFailed where it never can."""

    def recall(self, task: str, start: Start, run: Run) -> dict[str, Any] | None:
        """The outputs of a task that need not be run at all."""

    async def perform(self, task: str, start: Start, run: Run) -> "Performed":
        """Run what room was kept for, to its end. Raises StepFailed."""

    def lane(self, start: Start) -> str:
        """Which of several queues it waits in: those of one lane wait for the same room."""

    def full(self, lane: str) -> bool:
        """Whether nothing at all of this lane may start now."""

    def far(self, start: Start) -> bool:
        """Whether some of its files are not on this machine."""

    def forget(self, task: str) -> None:
        """What was made of a task earlier is of no use: `perform` does it anew."""

    async def bring(self, start: Start) -> Start:
        """The same with its files on this machine. Raises StepFailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """A task that has ended well. ``started``: seconds since the epoch."""

    outputs: dict[str, Any]
    ended: Ended | None = None
    place: str = ""
    folder: str = ""  # of the step on this machine
    job: int = 0
    started: float = 0.0
    moved: int = 0  # bytes that came from elsewhere for it
    cost: float = 0.0  # by the site's price


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened to a task, for whoever watches: started, done, failed, skipped, reused."""

    kind: str
    task: str
    at: float
    message: str = ""
    log: str = ""
    rest: str = ""  # where the whole log is


@dataclass(slots=True)
class _Lane:
    """Runs that wait for the same room: not yet begun, and begun ones that did not fit."""

    name: str
    ready: deque[Start] = field(default_factory=deque)
    waiting: deque[tuple[Start, Run]] = field(default_factory=deque)


MOST_WAITING = 16

Watcher = Callable[[Told], None]


class Drive:
    """One run of a program. Use once."""

    def __init__(
        self, program: Program, places: Places, *, stop_early: bool = True, watcher: Watcher | None = None
    ) -> None:
        self._program = program
        self._places = places
        self._machine = Machine(program.graph, stop_early=stop_early)
        self._watcher = watcher
        self._todo: deque[Instruction] = deque()
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._finish: Finish | None = None
        self._broken: Exception | None = None  # a fault of ours in something that was begun

    async def run(self, inputs: Mapping[str, Any]) -> Finish:
        """Drive it to its end. When cancelled, or where something of ours fails, what runs is ended first."""
        self._todo.extend(self._machine.begin(inputs))
        try:
            while True:
                self._wake.clear()
                if self._broken is not None:
                    raise self._broken
                self._carry_out()
                self._start_what_fits()
                if self._finish is not None and not self._todo:
                    return self._finish
                if not self._todo:
                    await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _carry_out(self) -> None:
        while self._todo:
            instruction = self._todo.popleft()
            if isinstance(instruction, Prepare):
                self._prepare(instruction)
            elif isinstance(instruction, Start):
                self._queue(instruction)
            else:
                self._finish = self._checked(instruction)

    def _checked(self, finish: Finish) -> Finish:
        if finish.failures:
            return finish
        try:
            self._program.check(finish.outputs)
        except StepFailed as error:
            self._tell("failed", self._program.name, error.message)
            return Finish(finish.outputs, ((self._program.name, error.message),))
        return finish

    def _queue(self, start: Start) -> None:
        try:
            self._lane(start).ready.append(start)
        except StepFailed as error:
            self._failed(start.task, error)

    def _lane(self, start: Start) -> "_Lane":
        name = self._places.lane(start)
        found = self._lanes.get(name)
        if found is None:
            found = self._lanes[name] = _Lane(name)
        return found

    def _prepare(self, instruction: Prepare) -> None:
        start = Start(instruction.task, instruction.step, instruction.inputs)
        if self._program.reads(instruction.step) and self._places.far(start):
            self._later(self._prepare_brought(start))
            return
        self._prepare_now(start)

    async def _prepare_brought(self, start: Start) -> None:
        try:
            start = await self._places.bring(start)
        except StepFailed as error:
            self._failed(start.task, error)
            return
        self._prepare_now(start)

    def _prepare_now(self, start: Start) -> None:
        try:
            inputs = self._program.prepare(start.task, start.step, start.inputs)
        except StepFailed as error:
            self._failed(start.task, error)
            return
        if inputs is None:
            self._tell("skipped", start.task)
        self._todo.extend(self._machine.prepared(start.task, inputs))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that takes a while, and then look at what there is to do."""

        async def done() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  (no step's failure: raised by run, or nobody hears of it)
                self._broken = self._broken or error
            self._wake.set()

        task = asyncio.ensure_future(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start_what_fits(self) -> None:
        """Start runs while there is room: those that waited first; others are begun only when one may fit."""
        self._carry_out()
        for lane in list(self._lanes.values()):
            waiting, lane.waiting = lane.waiting, deque()
            for start, run in waiting:
                if not self._offer(start, run):
                    lane.waiting.append((start, run))
        self._carry_out()
        # One by one: what is begun may be over at once, and make something ready in another lane.
        while not self._machine.failing:
            found = next((each for each in self._lanes.values() if self._may_begin(each)), None)
            if found is None:
                return
            self._begin(found.ready.popleft())
            self._carry_out()
        self._drop_rest()

    def _may_begin(self, lane: "_Lane") -> bool:
        return bool(lane.ready) and len(lane.waiting) < MOST_WAITING and not self._places.full(lane.name)

    def _drop_rest(self) -> None:
        for lane in self._lanes.values():
            for start in (*lane.ready, *(start for start, _ in lane.waiting)):
                self._todo.extend(self._machine.dropped(start.task))
            lane.ready.clear()
            lane.waiting.clear()
        self._carry_out()

    def _begin(self, start: Start) -> None:
        if self._program.reads(start.step) and self._places.far(start):
            self._later(self._begin_brought(start))
            return
        self._begin_now(start)

    async def _begin_brought(self, start: Start) -> None:
        try:
            brought = await self._places.bring(start)
        except StepFailed as error:
            self._failed(start.task, error)
            return
        self._begin_now(brought)

    def _begin_now(self, start: Start) -> None:
        try:
            run = self._program.begin(start.step, start.inputs)
        except StepFailed as error:
            self._failed(start.task, error)
            return
        if isinstance(run, dict):
            self._tell("done", start.task)
            self._todo.extend(self._machine.done(start.task, run))
            return
        recalled = self._places.recall(start.task, start, run)
        if recalled is not None:
            self._tell("reused", start.task)
            self._todo.extend(self._machine.done(start.task, recalled))
        elif not self._offer(start, run):
            self._lane(start).waiting.append((start, run))

    def _offer(self, start: Start, run: Run) -> bool:
        try:
            if not self._places.take(start.task, run):
                return False
        except StepFailed as error:
            self._failed(start.task, error)
            return True
        self._later(self._perform(start, run))
        return True

    async def _perform(self, start: Start, run: Run) -> None:
        self._tell("started", start.task)
        try:
            done = await self._places.perform(start.task, start, run)
        except StepFailed as error:
            self._failed(start.task, error)
        else:
            self._tell("done", start.task)
            self._todo.extend(self._machine.done(start.task, done.outputs))

    def _failed(self, task: str, error: StepFailed) -> None:
        hidden = self._program.hidden
        message = hidden.text(error.message)
        self._tell("failed", task, message, hidden.text(error.log), error.rest)
        self._todo.extend(self._machine.failed(task, message))

    def _tell(self, kind: str, task: str, message: str = "", log: str = "", rest: str = "") -> None:
        if self._watcher is not None:
            self._watcher(Told(kind, task, time.time(), message, log, rest))
