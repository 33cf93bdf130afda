"""Driving a run: instructions of the machine carried out, events told back, until the end.

machine ─► Prepare ─► program.prepare ─► machine
        ─► Start   ─► program.begin ─► outputs at once, or a run that waits for room ─► place ─► machine
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

    async def perform(self, task: str, start: Start, run: Run, attach: int = 0) -> "Performed":
        """Run what room was kept for, to its end. ``attach``: the job that an earlier driver made of it.

        Raises StepFailed.
        """

    def full(self) -> bool:
        """Whether nothing at all may start now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """A task that has ended well. ``started``: seconds since the epoch."""

    outputs: dict[str, Any]
    ended: Ended | None = None
    place: str = ""
    folder: str = ""  # of the step on this machine
    job: int = 0
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """Something that happened to a task, for whoever watches: started, done, failed, skipped, reused."""

    kind: str
    task: str
    at: float
    message: str = ""
    log: str = ""


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
        self._ready: deque[Start] = deque()
        self._waiting: deque[tuple[Start, Run]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._finish: Finish | None = None

    async def run(self, inputs: Mapping[str, Any]) -> Finish:
        """Drive it to its end. When cancelled, what runs is ended first."""
        self._todo.extend(self._machine.begin(inputs))
        try:
            while True:
                self._wake.clear()
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
                self._ready.append(instruction)
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

    def _prepare(self, instruction: Prepare) -> None:
        try:
            inputs = self._program.prepare(instruction.task, instruction.step, instruction.inputs)
        except StepFailed as error:
            self._failed(instruction.task, error)
            return
        if inputs is None:
            self._tell("skipped", instruction.task)
        self._todo.extend(self._machine.prepared(instruction.task, inputs))

    def _start_what_fits(self) -> None:
        """Start runs while there is room: those that waited first; others are begun only when one may fit."""
        self._carry_out()
        still: deque[tuple[Start, Run]] = deque()
        while self._waiting:
            start, run = self._waiting.popleft()
            if not self._offer(start, run):
                still.append((start, run))
        self._waiting = still
        while self._ready and not self._places.full() and len(self._waiting) < 16:
            start = self._ready.popleft()
            if self._machine.failing:
                self._todo.extend(self._machine.dropped(start.task))
                continue
            self._begin(start)
            self._carry_out()
        if self._machine.failing:
            for start, _ in self._waiting:
                self._todo.extend(self._machine.dropped(start.task))
            self._waiting.clear()
            while self._ready:
                self._todo.extend(self._machine.dropped(self._ready.popleft().task))
            self._carry_out()

    def _begin(self, start: Start) -> None:
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
            self._waiting.append((start, run))

    def _offer(self, start: Start, run: Run) -> bool:
        try:
            if not self._places.take(start.task, run):
                return False
        except StepFailed as error:
            self._failed(start.task, error)
            return True
        task = asyncio.ensure_future(self._perform(start, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
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
        self._wake.set()

    def _failed(self, task: str, error: StepFailed) -> None:
        self._tell("failed", task, error.message, error.log)
        self._todo.extend(self._machine.failed(task, error.message))

    def _tell(self, kind: str, task: str, message: str = "", log: str = "") -> None:
        if self._watcher is not None:
            self._watcher(Told(kind, task, time.time(), message, log))
